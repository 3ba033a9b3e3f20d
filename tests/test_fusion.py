"Fusion: groups of the same product, splits that leak nothing, and masks that say what is missing."
import warnings
import numpy as np, pandas as pd, pytest
from hypothesis import given, settings, strategies as st
from PIL import Image, ImageEnhance
from mmrec.core import MmrecError
from mmrec.data.splits import CUTOFFS, Split, leakage, near_duplicate_pictures, near_pairs, normal_title, product_groups, split_rows
from mmrec.features.fusion import Fusion, gather, load_fusion


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    "Twelve different pictures with structure, and copies of the first three in several manners."
    folder, rng = tmp_path_factory.mktemp("album"), np.random.default_rng(0)
    def save(im, name, **options): im.save(folder/name, **options); return str(folder/name)
    photos = [Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype="uint8")).resize((200, 240), Image.Resampling.BICUBIC) for _ in range(12)]
    made = {"originals": [save(im, f"{k}.png") for k, im in enumerate(photos)]}
    made["jpeg"] = [save(im, f"{k}j.jpg", quality=40) for k, im in enumerate(photos[:3])]
    made["small"] = [save(im.resize((120, 144)), f"{k}s.jpg", quality=85) for k, im in enumerate(photos[:3])]
    made["bright"] = [save(ImageEnhance.Brightness(im).enhance(1.06), f"{k}b.jpg", quality=90) for k, im in enumerate(photos[:3])]
    made["cropped"] = [save(im.crop((6, 7, 194, 233)), f"{k}c.jpg", quality=90) for k, im in enumerate(photos[:3])]
    made["flat"] = [save(Image.new("RGB", (50, 50), c), f"{c}.png") for c in ("white", "black", "red")]
    return made


def test_copies_are_found_and_strangers_left_alone(album):
    paths = [p for kind in ("originals", "jpeg", "small", "bright", "cropped") for p in album[kind]]
    groups = near_duplicate_pictures(paths)
    assert groups[album["originals"]].is_unique
    for kind in ("jpeg", "small", "bright", "cropped"): assert list(groups[album[kind]]) == list(groups[album["originals"][:3]]), kind


def test_a_picture_without_structure_is_nobodys_twin(album, tmp_path):
    (tmp_path/"broken.jpg").write_bytes(b"no picture")
    assert len(near_duplicate_pictures([*album["flat"], str(tmp_path/"broken.jpg"), str(tmp_path/"gone.jpg"), "", None])) == 0


def test_another_hue_is_another_product(tmp_path):
    rng = np.random.default_rng(1)
    light = rng.integers(60, 200, (24, 24), dtype="uint8")
    for name, weight in dict(red=(1.25, .8, .8), blue=(.8, .9, 1.5)).items():
        Image.fromarray((light[..., None]*np.array(weight)).clip(0, 255).astype("uint8")).resize((200, 200)).save(tmp_path/f"{name}.png")
    paths = [str(tmp_path/"red.png"), str(tmp_path/"blue.png")]
    assert near_duplicate_pictures(paths).nunique() == 2 and near_duplicate_pictures(paths, colour=255).nunique() == 1


def far(bits, views): return np.array([[min(min(np.unpackbits(a[0] ^ b[v]).sum(), np.unpackbits(a[v] ^ b[0]).sum()) for v in range(views)) for b in bits] for a in bits])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 40), views=st.integers(1, 3), distance=st.integers(0, 40), flips=st.integers(0, 60))
def test_near_pairs_are_those_of_all_against_all(seed, n, views, distance, flips):
    rng = np.random.default_rng(seed)
    start = rng.integers(0, 256, (3, 32), dtype=np.uint8)
    bits = np.unpackbits(start[rng.integers(0, 3, (n, views))], axis=-1)
    for row in bits.reshape(-1, 256): row[rng.integers(0, 256, flips)] ^= 1
    bits = np.packbits(bits, axis=-1)
    hue = rng.integers(0, 30, (n, 32), dtype=np.uint8)
    near = (far(bits, views) <= distance) & (np.abs(hue[:, None].astype(int) - hue).max(-1) <= 25)
    assert near_pairs(bits, hue, distance, 25).tolist() == np.argwhere(np.triu(near, 1)).tolist()


def test_groups_are_stars_not_chains(tmp_path, monkeypatch):
    "Each picture of a chain is near its neighbours alone: no group may hold two that are not near the group's centre."
    from mmrec.data import splits
    steps = np.zeros((9, 256), np.uint8)
    for k in range(9): steps[k, :10*k] = 1
    monkeypatch.setattr(splits, "picture_hashes", lambda paths: (list("abcdefghi"), np.packbits(steps, axis=1)[:, None], np.zeros((9, 32), np.uint8)))
    groups = near_duplicate_pictures([], distance=14)
    assert groups.value_counts().max() == 3
    for _, members in groups.groupby(groups):
        at = ["abcdefghi".index(m) for m in members.index]
        assert any(max(abs(10*(a - b)) for b in at) <= 14 for a in at)


def shop(album):
    o, j = album["originals"], album["jpeg"]
    return pd.DataFrame(dict(item=list("abcdefg"), title=["Red Dress (M)", "dress, RED xl", "Garment", "Hat", "", "", "Bag"],
                             image_path=[o[0], "", j[0], o[1], o[2], j[2], None]))


def test_titles_and_pictures_join(album):
    items = shop(album)
    assert product_groups(items).tolist() == [0, 0, 0, 1, 2, 2, 3]
    assert product_groups(items, pictures=False).tolist() == [0, 0, 1, 2, 3, 4, 5]
    assert product_groups(items.drop(columns="image_path")).tolist() == [0, 0, 1, 2, 3, 4, 5]
    assert product_groups(items.assign(image_path="")).tolist() == [0, 0, 1, 2, 3, 4, 5]
    assert list(product_groups(items).index) == list(items["item"])


def test_groups_do_not_depend_on_the_order(album):
    items = shop(album)
    want = product_groups(items)
    mixed = product_groups(items.sample(frac=1, random_state=3))
    same = lambda g: {frozenset(m.index) for _, m in g.groupby(g)}
    assert same(want) == same(mixed)


def test_a_tile_shared_by_many_titles_joins_nobody(album):
    items = pd.DataFrame(dict(item=range(30), title=[f"thing{chr(97 + k)}" for k in range(26)] + ["hat"]*4, image_path=[album["originals"][0]]*26 + [album["originals"][1]]*4))
    with pytest.warns(UserWarning, match="1 pictures are each shared by more than 20 different titles, the most by 26"): groups = product_groups(items, at_most=20)
    assert groups.nunique() == 27 and groups[[26, 27, 28, 29]].nunique() == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert product_groups(items, at_most=26).nunique() == 2 # many items of one title are no tile


def test_titles():
    assert normal_title("Red Dress, size XL") == normal_title("RED dress (M)") == "dress red"
    assert normal_title(None) == "none" and normal_title(" - 12 XL ") == ""


def reviews(n=600, products=90, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(dict(label=rng.choice(5, n, p=[.1, .07, .09, .15, .59]), item=rng.integers(0, products, n).astype(str), user=rng.integers(0, 400, n).astype(str),
                             text=[f"words {k}" for k in rng.integers(0, 500, n)], time=pd.to_datetime(rng.integers(1_400_000_000, 1_690_000_000, n), unit="s", utc=True)))


@pytest.mark.parametrize("how", ["random", "product", "time", "benchmark", "course"])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_split_keeps_all_rows_and_overlaps_nowhere(how, seed):
    rows = reviews(seed=seed)
    split = split_rows(rows, how, seed=seed)
    parts = [split.train, split.test] if how == "course" else [split.train, split.valid, split.test]
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(rows))) and all(len(p) for p in parts)
    if how == "course": assert np.array_equal(split.valid, split.test)
    again = split_rows(rows, how, seed=seed)
    assert all(np.array_equal(getattr(split, p), getattr(again, p)) for p in ("train", "valid", "test"))


def test_groups_stay_on_one_side():
    rows = reviews()
    groups = pd.Series(np.arange(90)//3, index=[str(k) for k in range(90)])
    split = split_rows(rows, "product", groups=groups)
    sides = [set(rows["item"].iloc[p].map(groups)) for p in (split.train, split.valid, split.test)]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert abs(len(split.test)/len(rows) - .2) < .05


def test_time_goes_one_way():
    rows = reviews()
    split = split_rows(rows, "time")
    times = [rows["time"].iloc[p] for p in (split.train, split.valid, split.test)]
    assert times[0].max() < times[1].min() and times[1].max() < times[2].min()


def test_benchmark_cutoffs_are_half_open_and_official():
    assert CUTOFFS == (1628643414042, 1658002729837)
    t1, t2 = CUTOFFS
    rows = reviews(12).assign(time=pd.to_datetime([t1 - 1, t1, t1 + 1, t2 - 1, t2, t2 + 1]*2, unit="ms", utc=True))
    split = split_rows(rows, "benchmark")
    assert [list(p) for p in (split.train, split.valid, split.test)] == [[0, 6], [1, 2, 3, 7, 8, 9], [4, 5, 10, 11]]
    for unit in ("s", "ms", "us", "ns"):
        same = split_rows(rows.assign(time=rows["time"].astype(f"datetime64[{unit}, UTC]")), "benchmark") if unit != "s" else split
        assert np.array_equal(same.test, split.test)
    assert np.array_equal(split_rows(rows.assign(time=rows["time"].dt.tz_localize(None)), "benchmark").test, split.test)


def test_own_cutoffs_as_dates():
    rows = reviews()
    split = split_rows(rows, "benchmark", cutoffs=("2018-01-01", "2020-01-01"))
    year = rows["time"].dt.year
    assert year.iloc[split.train].max() == 2017 and set(year.iloc[split.valid]) == {2018, 2019} and year.iloc[split.test].min() == 2020


def test_benchmark_says_what_is_wrong():
    old = reviews().assign(time=lambda r: r["time"] - pd.Timedelta(days=3650))
    with pytest.raises(MmrecError, match=r"leave the validation part empty: the reviews are of 20\d\d-.*use split 'time'"): split_rows(old, "benchmark")
    with pytest.raises(MmrecError, match="not in order"): split_rows(reviews(), "benchmark", cutoffs=CUTOFFS[::-1])
    with pytest.raises(MmrecError, match="600 reviews have no time"): split_rows(reviews().assign(time=pd.NaT), "benchmark")
    with pytest.raises(MmrecError, match="use product, time, benchmark, random or course"): split_rows(reviews(), "user")


def test_leaks_are_counted_by_hand(album):
    rows = pd.DataFrame(dict(item=list("abcd"), user=["u", "v", "u", None], text=["x", "", "", "x"], time=pd.to_datetime([1, 4, 2, 5], unit="D"),
                             image_path=[album["originals"][0], album["originals"][1], album["jpeg"][0], ""]))
    split = Split(train=np.array([0, 1]), valid=np.array([], int), test=np.array([2, 3]), how="toy")
    found = leakage(rows, split, groups=pd.Series([0, 1, 2, 1], index=list("abcd")))
    assert found.to_dict() == {"same product in training": 0, "near-duplicate product in training": .5, "near-duplicate picture in training": .5,
                               "same user in training": .5, "same text in training": .5, "training review written later": .5}
    assert "near-duplicate picture in training" not in leakage(rows, split, pictures=False) and "near-duplicate picture in training" not in leakage(rows.assign(image_path=""), split)


def test_a_grouped_split_leaks_no_picture(album):
    "Items 0-2 are sold again by others under other titles, with copies of the photographs."
    paths = album["originals"] + album["jpeg"] + album["small"]
    items = pd.DataFrame(dict(item=[f"i{k}" for k in range(18)], title=[f"title{chr(97 + k)}" for k in range(18)], image_path=paths))
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(dict(label=rng.integers(0, 2, 360), item=[f"i{k % 18}" for k in range(360)])).merge(items, on="item")
    leak = lambda groups: leakage(rows, split_rows(rows, "product", groups=groups, seed=2), groups)["near-duplicate picture in training"]
    assert leak(product_groups(items)) == 0 and leak(product_groups(items, pictures=False)) > 0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), missing=st.sampled_from(["mask", "mean", "zero"]), scale=st.booleans())
def test_rows_are_transformed_alone_and_masks_tell_the_truth(seed, missing, scale):
    rng = np.random.default_rng(seed)
    blocks = dict(text=rng.normal(size=(20, 5)), image=rng.normal(3, 2, size=(20, 4)))
    absent = rng.random(20) < .4; absent[:2] = [False, True]
    blocks["image"][absent] = np.nan
    fusion = Fusion(missing=missing, scale=scale).fit(blocks)
    whole, order = fusion.transform(blocks), rng.permutation(20)
    assert np.isfinite(whole).all()
    assert np.allclose(fusion.transform({m: b[order] for m, b in blocks.items()}), whole[order], atol=1e-5)
    if missing == "mask": assert np.array_equal(whole[:, -1] == 1, absent) and fusion.get_feature_names_out()[-1] == "image_missing"
    else: assert whole.shape == (20, 9)
    if missing == "zero" and not scale: assert not whole[absent, 5:].any()
    if missing != "zero" and scale: assert np.allclose(whole[absent, 5:9], 0)


def test_fusion_survives_the_disk_and_gather_says_unknown(tmp_path):
    blocks = dict(text=gather([[1., 2.], [3., 4.]], ["hat", "bag"], ["bag", "sock", "hat", "bag"]), image=np.arange(8.).reshape(4, 2))
    assert np.isnan(blocks["text"][1]).all() and blocks["text"][3].tolist() == [3, 4]
    fusion = Fusion(["image", "text"]).fit(blocks)
    fusion.save(tmp_path/"f.npz")
    assert np.array_equal(load_fusion(tmp_path/"f.npz").transform(blocks), fusion.transform(blocks))
    with pytest.raises(MmrecError, match="modality image"): Fusion().fit(dict(image=np.full((3, 2), np.nan)))


# columns that only seem to vary

@pytest.mark.parametrize("unit", [1., 1e-6, 1e4, 1e9])
def test_rounding_is_no_feature_in_any_unit(unit):
    "A dead column whose spread is rounding stays small, whatever the unit; a rare one and a weak one are scaled."
    rng = np.random.default_rng(0)
    X = rng.normal(scale=.05, size=(3000, 8)).astype(np.float32)
    X[:, 1] = 0; X[:, 2] = rng.normal(scale=1.03e-8, size=3000); X[:, 3] = .1 + rng.normal(scale=1e-8, size=3000)
    X[:, 4] = np.arange(3000) < 3; X[:, 5] *= 1e-3
    out = Fusion().fit_transform(dict(text=X*np.float32(unit)))
    assert np.abs(out[:, [1, 2, 3]]).max() < 1e-2 and np.allclose(out[:, [0, 4, 5, 6, 7]].std(axis=0), 1, atol=1e-2)


def test_two_machines_that_round_differently_agree():
    rng = np.random.default_rng(1)
    X = rng.normal(scale=.05, size=(500, 5)).astype(np.float32)
    one, two = X.copy(), X.copy()
    one[:, 2], two[:, 2] = (rng.normal(scale=2e-8, size=500) for _ in range(2))
    assert np.allclose(Fusion().fit_transform(dict(text=one)), Fusion().fit_transform(dict(text=two)), atol=1e-4)


def mutated(data, rng):
    "Bytes with a bit turned, cut short, or a stretch replaced."
    data, at, how = bytearray(data), rng.randrange(len(data)), rng.randrange(3)
    if how == 0: data[at] ^= 1 << rng.randrange(8)
    elif how == 1: data = data[:at]
    else: data[at:at + 8] = bytes(rng.randrange(256) for _ in range(8))
    return bytes(data)


def test_a_fusion_of_anybody_is_read_or_refused(tmp_path):
    import pickle, random
    rng, blocks = random.Random(0), dict(text=np.eye(4), image=np.where(np.eye(4) > 0, np.nan, 1))
    blocks["image"][0] = 2
    Fusion().fit(blocks).save(tmp_path/"f.npz")
    whole = (tmp_path/"f.npz").read_bytes()
    for _ in range(300):
        (tmp_path/"m.npz").write_bytes(mutated(whole, rng))
        try: load_fusion(tmp_path/"m.npz").transform(blocks)
        except MmrecError as e: assert "m.npz" in str(e) and len(str(e).splitlines()) == 1
    class Bomb:
        def __reduce__(self): return exec, ("raise SystemExit('ran')",)
    for odd in (dict(names=np.array([Bomb()], dtype=object)), dict(names=np.array(["text"])), dict(names=np.array(3), missing="mask", scale=True)):
        np.savez(tmp_path/"odd.npz", **odd)
        with pytest.raises(MmrecError, match="odd.npz: not a fusion"): load_fusion(tmp_path/"odd.npz")
    for odd in (pickle.dumps(Bomb()), b"", b"PK\3\4" + b"\0"*100):
        (tmp_path/"odd.npz").write_bytes(odd)
        with pytest.raises(MmrecError, match="odd.npz: not a fusion"): load_fusion(tmp_path/"odd.npz")
