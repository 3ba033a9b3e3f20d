"The made-up shop: its files, its truth, its pictures, its server, and what it refuses."
import collections, json, re, threading
import numpy as np, pandas as pd, pytest, requests
from PIL import Image
from mmrec.core import MmrecError, read_json
from mmrec.sim import shop as sh
from mmrec.sim.world import CAUSES, PICTURE, TEXT, Network, best_scores, fashion_world
from mmrec.sim.pictures import GARMENTS, draw_item
from mmrec.sim.reviews import reachable, read_review


@pytest.fixture(scope="module")
def shop(tmp_path_factory): return sh.make_shop(tmp_path_factory.mktemp("shop")/"s", n_items=120, n_reviews=3000, seed=1)


def lines_of(path):
    good, bad = [], 0
    for line in path.read_text(encoding="utf8").splitlines():
        try: good.append(json.loads(line))
        except ValueError: bad += 1
    return good, bad


# the network

def test_enumeration_agrees_with_brute_force():
    net = Network().add("a", "xy", [.3, .7]).add("b", "xyz", [[.2, .3, .5], [.6, .2, .2]], ["a"]).add("c", "xy", [[.9, .1], [.5, .5], [.2, .8]], ["b"])
    joint = np.einsum("a,ab,bc->abc", *net.tables.values())
    assert np.allclose(net.chances("c", "a"), joint.sum(1).T)
    assert np.allclose(net.posterior("a", {"b": np.array([2]), "c": np.array([1])})[0], joint[:, 2, 1]/joint[:, 2, 1].sum())
    assert np.isclose(best_scores(net, ["b", "c"], "a")["accuracy"], joint.max(0).sum())


def test_more_evidence_never_hurts():
    best = reachable()
    for score, sign in (("accuracy", 1), ("balanced", 1), ("mae", -1)):
        for less, more in (("nothing", "image"), ("nothing", "text"), ("text", "text + image"), ("image", "text + image"), ("image", "image + hidden quality")):
            assert sign*(best[score][more] - best[score][less]) > 0
    gain = best.loc["text + image"] - best.loc["text"]
    assert gain["accuracy"] >= .025 and gain["balanced"] >= .025


def test_star_shares_in_both_worlds():
    for pictures in ("informative", "useless"):
        stars = fashion_world(pictures).chances("stars")
        assert abs(stars[4] - .59) < .01 and abs(stars[:2].sum() - .17) < .02


def test_useless_pictures_carry_exactly_nothing(tmp_path):
    truth = sh.make_shop(tmp_path/"u", 10, 300, pictures="useless").truth
    for k in range(5):
        assert (truth[f"p_image_{k}"] == truth[f"p_none_{k}"]).all()
        assert (truth[f"p_both_{k}"] == truth[f"p_text_{k}"]).all()
    best = reachable("useless")
    assert best.accuracy["text + image"] == best.accuracy["text"]


def test_bad_tables_and_worlds_are_refused():
    net = Network().add("a", "xy", [.5, .5])
    with pytest.raises(MmrecError, match="shape"): net.add("b", "xy", [.5, .5], ["a"])
    with pytest.raises(MmrecError, match="sum to 1"): net.add("b", "xy", [.5, .6])
    with pytest.raises(MmrecError, match="informative"): sh.make_shop("unused", pictures="nice")


# the files

def test_files_have_the_2023_keys(shop):
    reviews, bad = lines_of(shop.reviews_path)
    items, bad_items = lines_of(shop.meta_path)
    assert all(list(r) == "rating title text images asin parent_asin user_id timestamp helpful_vote verified_purchase".split() for r in reviews)
    assert all(list(r) == "main_category title average_rating rating_number features description price images videos store categories details parent_asin bought_together".split() for r in items)
    assert len(reviews) + bad == shop.counts["review_lines"] == 3000 and bad == shop.counts["malformed_reviews"]
    assert len(items) + bad_items == shop.counts["item_lines"] == 120 and bad_items == shop.counts["malformed_items"]


def test_quirks_are_there_and_counted(shop):
    reviews, _ = lines_of(shop.reviews_path)
    items, _ = lines_of(shop.meta_path)
    copies = collections.Counter(json.dumps(r) for r in reviews)
    assert sum(copies.values()) - len(copies) == shop.counts["duplicates"]
    distinct = [json.loads(c) for c in copies]
    assert sum(r["rating"] == 0 for r in distinct) == shop.counts["stray_ratings"] > 0
    assert sum(r["text"] == "" for r in distinct) == shop.counts["empty_texts"]
    assert .05 < np.mean([r["asin"] != r["parent_asin"] for r in reviews]) < .2
    assert .05 < np.mean([not r["text"].isascii() for r in reviews]) < .2
    assert any("<br />" in r["text"] for r in reviews) and any("&#39;" in r["text"] for r in reviews)
    assert any(i["hi_res"] is None for r in items for i in r["images"]) and any(not r["images"] for r in items)
    assert {type(r["price"]) for r in items} >= {type(None), str} and len({r["title"] for r in items}) < len(items)


def test_customers_and_stars_look_real(shop):
    truth = shop.truth
    assert abs((truth.stars == 5).mean() - .59) < .06 and abs((truth.stars <= 2).mean() - .17) < .05
    visits = truth.user_id.value_counts()
    assert .8 < (visits == 1).mean() < .92 and visits.max() > 4
    years = pd.to_datetime(truth.timestamp, unit="ms").dt.year
    assert years.min() >= 2012 and years.max() == 2023
    assert truth.groupby("user_id").hidden_taste.nunique().max() == 1
    assert truth.groupby("parent_asin").hidden_quality.nunique().max() == 1


def test_truth_joins_and_adds_up(shop):
    reviews, _ = lines_of(shop.reviews_path)
    keys = ["user_id", "parent_asin", "timestamp"]
    assert not shop.truth.duplicated(keys).any()
    assert set(map(tuple, shop.truth[keys].to_numpy())) == {tuple(r[k] for k in keys) for r in reviews}
    for kind in ("none", "text", "image", "both"):
        assert np.allclose(shop.truth[[f"p_{kind}_{k}" for k in range(5)]].sum(axis=1), 1)


def test_perfect_reader_recovers_the_evidence(shop):
    reviews, _ = lines_of(shop.reviews_path)
    text_of = {(r["user_id"], r["parent_asin"], r["timestamp"]): r["text"] for r in reviews}
    for row in shop.truth.to_dict("records"):
        told = {name: [row[name]] for name in TEXT if row[name]}
        assert read_review(text_of[row["user_id"], row["parent_asin"], row["timestamp"]]) == told


def test_titles_tell_no_more_than_texts(shop):
    reviews, _ = lines_of(shop.reviews_path)
    for r in reviews:
        said = read_review(r["text"])
        for name, values in read_review(r["title"]).items(): assert set(values) <= set(said.get(name, []))


def test_reviews_do_not_sound_alike(shop):
    texts = [r["text"] for r in lines_of(shop.reviews_path)[0] if r["text"]]
    assert len(set(texts)) > .95*len(texts)*(1 - .0106)
    words = [len(t.split()) for t in texts]
    assert 15 < np.median(words) < 35 and 25 < np.mean(words) < 45 and np.percentile(words, 99) > 100
    for start in range(0, 2800, 200):
        sentences = collections.Counter(s.strip().lower() for t in texts[start:start + 200] for s in re.split(r"<br />|[.!\n]+", t) if len(s.split()) > 3)
        assert max(sentences.values()) <= 8


# same bytes, whole or absent

def bytes_of(folder): return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_same_seed_same_bytes_other_seed_other(tmp_path):
    one, two, three = (bytes_of(sh.make_shop(tmp_path/name, 8, 60, seed=seed).folder) for name, seed in (("a", 3), ("b", 3), ("c", 4)))
    assert one == two and one["Amazon_Fashion.jsonl"] != three["Amazon_Fashion.jsonl"]


def test_interrupted_shop_is_not_believed_and_is_finished(tmp_path, monkeypatch):
    whole = bytes_of(sh.make_shop(tmp_path/"whole", 8, 60).folder)
    draw, count = sh.draw_item, iter(range(100))
    def interrupted(*args, **kwargs):
        if next(count) == 4: raise KeyboardInterrupt
        return draw(*args, **kwargs)
    monkeypatch.setattr(sh, "draw_item", interrupted)
    with pytest.raises(KeyboardInterrupt): sh.make_shop(tmp_path/"half", 8, 60)
    with pytest.raises(MmrecError, match="no complete shop"): sh.open_shop(tmp_path/"half")
    assert bytes_of(sh.make_shop(tmp_path/"half", 8, 60).folder) == whole


def test_foreign_files_and_other_shops_are_left_alone(tmp_path):
    (tmp_path/"Amazon_Fashion.jsonl").write_text("real data")
    with pytest.raises(MmrecError, match="not made here"): sh.make_shop(tmp_path, 8, 60)
    assert [p.name for p in tmp_path.iterdir()] == ["Amazon_Fashion.jsonl"]
    folder = sh.make_shop(tmp_path/"s", 8, 60).folder
    with pytest.raises(MmrecError, match="another shop"): sh.make_shop(folder, 8, 61)
    (tmp_path/"file").write_text("")
    with pytest.raises(MmrecError): sh.make_shop(tmp_path/"file", 8, 60)


def test_a_shop_of_an_older_recipe_is_left_alone_and_has_another_name(tmp_path, monkeypatch):
    before, name = bytes_of(sh.make_shop(tmp_path/"s", 8, 60).folder), sh.shop_name(8, 60, 0, "informative")
    monkeypatch.setattr(sh, "_RECIPE", sh._RECIPE + 1)
    with pytest.raises(MmrecError, match="another version"): sh.make_shop(tmp_path/"s", 8, 60)
    assert bytes_of(tmp_path/"s") == before and sh.shop_name(8, 60, 0, "informative") != name


def test_the_smallest_shop(tmp_path): assert len(sh.make_shop(tmp_path/"s", 1, 1).truth) == 1


# pictures and the server

def test_all_garments_can_be_drawn_in_every_finish():
    for i, garment in enumerate(GARMENTS):
        for finish in ("neat", "creased", "frayed"):
            picture = draw_item(garment, "soft", ("striped", "floral")[i % 2], finish, np.random.default_rng(i), size=96)
            assert np.asarray(picture).std() > 5


def test_pictures_are_whole(shop):
    assert read_json(shop.folder/"shop.json")["made_up"] is True
    for path in shop.images_dir.iterdir():
        assert path.suffix == ".jpg" and re.fullmatch(r"[0-9A-Za-z+-]{11}", path.stem)
        with Image.open(path) as picture: picture.load(); assert picture.size == (256, 256)


def test_every_fault_shows(shop):
    first = {fault: image for image, fault in shop.faults.items()}
    assert set(first) == set(sh.FAULTS) - {"placeholder", "no image"}
    with sh.ShopServer(shop.folder) as server:
        def get(fault, **kwargs): return requests.get(f"{server.url}/images/I/{first[fault]}._AC_UL1500_.jpg", timeout=.5, **kwargs)
        assert [get(f).status_code for f in ("404", "500", "503 once", "503 once")] == [404, 500, 503, 200]
        assert get("html").text.startswith("<!doctype") and get("not an image").status_code == 200
        with pytest.raises(requests.exceptions.ChunkedEncodingError): get("truncated")
        with pytest.raises(requests.TooManyRedirects): get("redirect loop")
        with pytest.raises(requests.Timeout): get("stall")
        with pytest.raises(requests.ConnectionError): get("drop")


def test_server_serves_pictures_and_nothing_else(shop):
    good = next(p for p in shop.images_dir.iterdir() if p.stem not in shop.faults)
    before = threading.active_count()
    with sh.ShopServer(shop.folder) as server:
        assert requests.get(f"{server.url}/images/I/{good.stem}._AC_US40_.jpg").content == good.read_bytes()
        for path in ("/shop.json", "/images/I/../../shop.json", "/images/I/%2e%2e%2fshop.json", "/"): assert requests.get(server.url + path).status_code == 404
    with pytest.raises(requests.ConnectionError): requests.get(server.url + "/", timeout=1)
    assert threading.active_count() <= before + 1


def test_the_reversed_world_mirrors_the_looks_and_nothing_else():
    there, here = fashion_world("reversed"), fashion_world()
    stars = np.arange(1, 6)
    means = [{name: net.chances(name, "stars") @ stars/net.chances(name) for name in CAUSES} for net in (here, there)]
    for name in PICTURE: assert np.corrcoef(means[0][name], means[1][name])[0, 1] < -.95
    for name in ("fit", "fabric", "wear", "service", "taste", "quality"): assert np.corrcoef(means[0][name], means[1][name])[0, 1] > .99
    best = reachable("reversed")
    assert best.loc["text + image", "accuracy"] > best.loc["text", "accuracy"] + .01
