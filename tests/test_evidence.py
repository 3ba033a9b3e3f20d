"Evidence: controls take out what they say, an ablation resumes and never peeks, verdicts agree with worlds whose answer is known."
from dataclasses import replace
import numpy as np, pandas as pd, pytest
from hypothesis import given, settings, strategies as st
from mmrec.core import MmrecError
from mmrec.evidence.trials import (CONTROLS, Study, Trial, _others, ablate, ablation_table, gain_of, plot_ablation, pooled,
                                   row_scores, said, shuffled_words, slice_table, slices_of, split_of, spoil, trials)
from mmrec.evidence.worlds import exact_gain, graded, judge_world, made_up_study
from mmrec.evidence.leaks import leak_ladder, leak_worth
from mmrec.evidence.before import before_study, known_before, past_mean
from mmrec.evidence.claims import CLAIMS, _families, claim_trials, judge_claims, readable
from mmrec.sim.reviews import reachable
from mmrec.sim.world import PICTURE, TEXT, fashion_world
from mmrec.features.text import TfidfSVD


def study(seed=0, products=80, each=6, picture=1., quality=0.):
    "Text tells the star with noise, the picture tells a part of it, the product's own quality the rest."
    rng = np.random.default_rng(seed)
    item = np.repeat(np.arange(products), each)
    look, good = rng.normal(size=products), rng.normal(size=products)
    score = picture*look[item] + quality*good[item] + rng.normal(size=len(item))
    label = np.digitize(score, np.quantile(score, [1/3, 2/3]))
    rows = pd.DataFrame(dict(label=label, item=item, group=item, user=[f"u{k}" for k in rng.integers(0, 60, len(item))],
                             time=rng.permutation(len(item)), document=np.array(["bad poor", "fine okay", "great love"])[label]))
    image = np.c_[look, rng.normal(size=(products, 3))].astype(np.float32)[item]
    image[rng.random(products)[item] < .1] = np.nan
    text = (label[:, None] + rng.normal(size=(len(item), 2))).astype(np.float32)
    return Study("made up", rows, (1, 2, 3), {"text:toy": text, "image:toy": image, "image:id": np.eye(products, dtype=np.float32)[item]*5, "text:words": TfidfSVD(dim=4, min_df=1)})


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), noise=st.booleans())
def test_other_pictures_stay_pictures_of_other_products(seed, noise):
    rng = np.random.default_rng(seed)
    items = rng.integers(0, 8, 40)
    own = rng.normal(size=(8, 3)).astype(np.float32); own[rng.random(8) < .3] = np.nan
    block = own[items]
    new = _others(items, block, rng, noise)
    assert np.array_equal(np.isnan(new), np.isnan(block)) and np.array_equal(block, own[items], equal_nan=True)
    there = ~np.isnan(block).any(1)
    per_item = {i: np.unique(new[there & (items == i)], axis=0) for i in np.unique(items[there])}
    assert all(len(v) == 1 for v in per_item.values())
    if not noise and len(per_item) > 1:
        assert sorted(map(tuple, np.vstack(list(per_item.values())))) == sorted(map(tuple, own[list(per_item)]))
        assert not any(np.array_equal(v[0], own[i]) for i, v in per_item.items())


def test_each_control_changes_its_own_thing_alone():
    s = study()
    split = split_of(s, Trial(("text:toy",)))
    blocks = {e: s.vectors(e, split.train) for e in ("text:toy", "image:toy")}
    before = {e: b.copy() for e, b in blocks.items()}
    for control in CONTROLS:
        new, y = spoil(control, blocks, s, split)
        changed = {e for e in before if not np.array_equal(new[e], before[e], equal_nan=True)}
        assert changed == ({"image:toy"} if control.startswith("picture") else {"text:toy"} if control.startswith("text") else set())
        assert np.array_equal(y[split.test], s.y[split.test])
        assert ("noise" in new) == (control == "noise added") and (np.array_equal(y, s.y) == (control != "labels permuted"))
        assert all(np.array_equal(blocks[e], before[e], equal_nan=True) for e in before)
    new, _ = spoil("text shuffled within star", blocks, s, split)
    for part in (split.train, split.valid, split.test):
        for k in range(3):
            rows = part[s.y[part] == k]
            assert np.array_equal(np.sort(new["text:toy"][rows], axis=0), np.sort(before["text:toy"][rows], axis=0))
    with pytest.raises(MmrecError, match="unknown control"): spoil("hope", blocks, s, split)


def test_an_ablation_resumes_and_a_torn_file_is_made_again(tmp_path, monkeypatch):
    import mmrec.evidence.trials as ev
    s, wanted = study(), trials(evidence=[(), ("text:toy",), ("text:toy", "image:toy")], fusion=["early", "stacked"], seed=[0, 1])
    ran = []
    once = ev.run_trial
    monkeypatch.setattr(ev, "run_trial", lambda *a: ran.append(a[1]) or once(*a))
    first = ablate(s, wanted[:3], tmp_path)
    assert len(ran) == 3
    both = ablate(s, wanted, tmp_path)
    assert ran == wanted and len(list(tmp_path.glob("*.npz"))) == len(wanted)
    assert all(np.array_equal(first[t]["proba"], both[t]["proba"]) for t in wanted[:3])
    torn = sorted(tmp_path.glob("*.npz"))[0]; torn.write_bytes(torn.read_bytes()[:60])
    again = ablate(s, wanted, tmp_path)
    assert len(ran) == len(wanted) + 1 and all(np.array_equal(again[t]["proba"], both[t]["proba"]) for t in wanted)


def test_other_data_have_another_key():
    s = study()
    keys = {s.key, study(seed=1).key, replace(s, rows=s.rows.assign(label=s.rows["label"].to_numpy()[::-1]), memo={}).key,
            replace(s, blocks=s.blocks | {"text:words": TfidfSVD(dim=5, min_df=1)}, memo={}).key, replace(s, blocks=s.blocks | {"text:toy": s.blocks["text:toy"] + 1}, memo={}).key}
    assert len(keys) == 5 and study().key == s.key


def test_no_test_label_and_no_test_word_reaches_a_model():
    s, trial = study(), Trial(("text:words", "image:toy"), split="time")
    test = split_of(s, trial).test
    label, document = s.rows["label"].to_numpy().copy(), s.rows["document"].to_numpy().copy()
    label[test], document[test[0]] = 2 - label[test], "nobody ever saw these words"
    other = replace(s, rows=s.rows.assign(label=label, document=document), memo={})
    a, b = ablate(s, [trial])[trial], ablate(other, [trial])[trial]
    assert np.array_equal(a["test"], b["test"]) and np.allclose(a["proba"][1:], b["proba"][1:], atol=1e-6)


def test_a_share_takes_products_from_training_alone():
    s, whole = study(), Trial(("text:toy",), seed=3)
    full, few = split_of(s, whole), split_of(s, replace(whole, share=.3))
    assert np.array_equal(full.test, few.test) and np.array_equal(full.valid, few.valid) and set(few.train) < set(full.train)
    kept = set(s.groups[few.train])
    assert len(kept) == round(.3*len(set(s.groups[full.train]))) and all((g in kept) == (r in set(few.train)) for r, g in zip(full.train, s.groups[full.train]))


def test_the_table_pools_seeds_and_gains_are_antisymmetric():
    s = study()
    r = ablate(s, trials(evidence=[(), ("text:toy",)], seed=range(3)))
    table = ablation_table(s, r, 100)
    assert table["seeds"].tolist() == [3, 3] and table["reviews"].sum() == sum(len(x["test"]) for x in r.values())
    a, b = gain_of(s, r, Trial(("text:toy",)), Trial()), gain_of(s, r, Trial(), Trial(("text:toy",)))
    assert a.gain == pytest.approx(-b.gain) and a.low == pytest.approx(-b.high) and a.low > 0
    assert a.gain == pytest.approx(table["accuracy"][1] - table["accuracy"][0])
    with pytest.raises(MmrecError, match="run it with ablate first"): pooled(s, r, Trial(("image:toy",)))
    with pytest.raises(MmrecError, match="different rows"): gain_of(s, r | ablate(s, [Trial(split="random")]), Trial(("text:toy",)), Trial(split="random"))
    with pytest.raises(MmrecError, match="use accuracy"): row_scores([0], [[1., 0]], (1, 2), "beauty")


def test_verdicts_on_made_up_claims():
    useful, _ = judge_claims(study(picture=2., products=200), words="text:toy", pictures="image:toy")
    useless, _ = judge_claims(study(picture=0., products=200), words="text:toy", pictures="image:toy")
    assert useful.loc[CLAIMS[2], "verdict"] == "helps" and useful.loc[CLAIMS[0], "verdict"] == "helps"
    assert not useless.loc[CLAIMS[2], "verdict"].startswith("helps")
    assert useful.loc[CLAIMS[1], "verdict"].startswith("not tested") and len(readable(useful)) == 3


@pytest.mark.parametrize("columns", [60, 300])
def test_columns_that_tell_nothing_and_cost_something_do_no_harm(columns):
    "The useless shop in small: many columns, one vector a product, nothing in them. The loss is its control's, too."
    said = []
    for seed in range(6):
        s, rng = study(seed, picture=0., products=120), np.random.default_rng(seed)
        many = rng.normal(size=(120, columns)).astype(np.float32)[s.rows["item"]]
        table, _ = judge_claims(replace(s, blocks=s.blocks | {"image:toy": many}, memo={}), words="text:toy", pictures="image:toy")
        said += table["verdict"].drop(CLAIMS[1]).tolist()
    assert not any(v.startswith(("helps", "hurts", "informs")) for v in said)


def test_the_control_of_an_added_modality_has_the_same_columns():
    "Pictures of other products, not noise, which costs more: noise would make useless pictures look telling."
    s = study(picture=2., products=100)
    t = claim_trials(s, words="text:toy", pictures="image:toy")
    assert t["both_shuffled"].control == "pictures shuffled" and t["picture_other_text"].control == "text shuffled"
    results = ablate(s, list(t.values()))
    gains, controls = _families(s, results, t)
    other = min(("text", "picture"), key=lambda k: -gain_of(s, results, t[k], t["nothing"]).gain)
    want = gain_of(s, results, t["both"], t["both_shuffled" if other == "text" else "picture_other_text"])
    assert controls[CLAIMS[0]].gain == want.gain


def test_the_best_of_the_evidence_is_not_drawn_for_controls():
    s = study()
    t = Trial(("text:toy", "image:toy"))
    table = ablation_table(s, ablate(s, [t, replace(t, control="pictures shuffled"), replace(t, control="text hidden")]), 50)
    ax = plot_ablation(table, best={"text:toy + image:toy": .9})
    assert sum(line.get_marker() == ">" for line in ax.lines) == 1


def test_claims_leave_out_what_the_data_lack():
    s = study()
    assert set(claim_trials(s, words="text:toy", pictures="image:none")) == {"nothing", "words", "words_noise", "text"}


def test_pictures_must_beat_the_better_text():
    "A poor encoder beside which pictures shine is no baseline."
    s = study(products=150, picture=0.)
    rng = np.random.default_rng(0)
    s = replace(s, blocks=s.blocks | {"text:poor": (s.blocks["text:toy"] + rng.normal(size=s.blocks["text:toy"].shape)*4).astype(np.float32)}, memo={})
    _, results = judge_claims(s, words="text:poor", transformer="text:toy", pictures="image:toy")
    assert {t.evidence for t in results if len(t.evidence) == 2} == {("text:toy", "image:toy")}


def test_permuted_labels_teach_nothing():
    s = study(picture=2.)
    t = Trial(("text:toy", "image:toy"))
    r = ablate(s, [replace(t, control=c, seed=k) for c in ("", "labels permuted") for k in range(3)])
    assert gain_of(s, r, t, replace(t, control="labels permuted")).low > .1


@pytest.mark.parametrize("world", ["informative", "useless"])
def test_exact_gains_agree_with_the_shop(world):
    best = reachable(world)["accuracy"]
    assert exact_gain(world) == pytest.approx(best["text + image"] - best["text"], abs=1e-9)
    assert exact_gain(world, text=False) == pytest.approx(best["image"] - best["nothing"], abs=1e-9)


def test_the_exact_loss_of_a_misled_reader_is_what_reviews_show():
    s, world = made_up_study("misleading", 40_000), fashion_world()
    after = s.rows["item"].to_numpy() > np.quantile(s.rows["item"], .8, method="lower")
    def codes(block, names, extra):
        widths = [len(world.values[n]) + 1 for n in names]
        parts = np.split(s.blocks[block], np.cumsum(widths)[:-1], axis=1)
        return {n: np.where(p.argmax(1) == p.shape[1] - 1, -1, p.argmax(1))[after] for n, p in zip(names, parts)}
    text, looks = codes("text:facts", TEXT, True), codes("image:looks", PICTURE, False)
    hit = lambda seen: (world.posterior("stars", seen).argmax(1) == s.y[after]).mean()
    assert hit(text | looks) - hit(text) == pytest.approx(exact_gain("misleading"), abs=.025)
    assert hit(text | looks) > 0 and (s.blocks["image:looks"].sum(1) == 3).all()


def test_verdicts_are_right_where_the_answer_is_known():
    found = [judge_world(w, True, 10_000) for w in ("useless", "misleading")]
    assert [graded(f["verdict"], f["worth"]) for f in found] == ["right", "right"] and found[1]["verdict"] == "hurts"


def test_grades():
    assert graded("helps, by less than 1.0 points", .004) == "right" and graded("hurts", 0.) == "wrong"
    assert graded("informs, costs 2.0 points more than it tells", .02) == "right" and graded("adds nothing (less than 1.0 points), costs 0.7 points", .02) == "wrong"
    assert graded("adds nothing (less than 1.0 points), costs 0.7 points", 0.) == "right" and graded("cannot tell: too few products, costs 2.0 points", 0.) == "open"
    assert graded("no effect larger than 1.0 points", .005) == "right" and graded("no effect larger than 1.0 points", .03) == "wrong"


def test_a_picture_that_names_the_product_leaks_its_quality():
    s = study(picture=0., quality=2., products=100, each=12)
    ladder = leak_ladder(s, Trial(("image:id",)), splits=("random", "product"), seeds=range(2))
    assert ladder.loc["random", "low"] > .05 > ladder.loc["product", "gain"]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 40), keys=st.integers(1, 5), moments=st.integers(1, 8))
def test_the_past_is_strictly_before(seed, n, keys, moments):
    rng = np.random.default_rng(seed)
    x, key, time = rng.normal(size=(n, 2)), rng.integers(0, keys, n), rng.integers(0, moments, n)
    count, mean = past_mean(x, key, time)
    for i in range(n):
        earlier = (key == key[i]) & (time < time[i])
        assert count[i] == earlier.sum()
        assert np.isnan(mean[i]).all() if not earlier.any() else np.allclose(mean[i], x[earlier].mean(0))


def test_the_future_does_not_change_what_was_known():
    rows, values = study().rows, (1, 2, 3)
    now = np.median(rows["time"])
    changed = rows.assign(label=np.where(rows["time"] >= now, 2 - rows["label"], rows["label"]))
    past = (rows["time"] <= now).to_numpy()
    assert np.array_equal(known_before(rows, values)[past], known_before(changed, values)[past])
    strangers = known_before(rows.assign(user=None), values)
    assert (strangers[:, 1:3] == 0).all() and np.isfinite(strangers).all()


def test_before_the_review_there_is_no_review():
    s = study()
    b = before_study(replace(s, rows=s.rows.assign(item_text="a hat"), memo={}), earlier=["text:toy"])
    assert set(b.blocks) == {"past", "image:toy", "image:id", "text:item", "earlier text:toy"} and set(b.rows["document"]) == {"a hat"}
    first = s.rows.sort_values("time").drop_duplicates("item").index
    assert np.isnan(b.blocks["earlier text:toy"][first]).all()


def test_slices_cover_every_review_once():
    s, t = study(), Trial(("text:toy",), split="time")
    r = ablate(s, [t])
    table = slice_table(s, r, t, 50)
    assert (table.groupby(level=0)["reviews"].sum() == len(r[t]["test"])).all() and (table["low"] <= table["accuracy"]).all()
    cuts = slices_of(s, r[t]["test"], split_of(s, t).train)
    assert set(cuts["user"]) <= {"known user", "new user"} and cuts.notna().all().all()


def test_shuffled_words_are_the_same_words():
    text = "never again will I buy this"
    assert sorted(shuffled_words(text).split()) == sorted(text.split()) and shuffled_words(text) == shuffled_words(text) and shuffled_words("") == ""


def test_a_leak_is_measured_on_the_same_reviews():
    s = study(picture=0., quality=2., products=100, each=12)
    honest, leaky = (split_of(s, Trial(split=x)) for x in ("halved", "leaky"))
    assert np.array_equal(honest.test, leaky.test) and len(honest.train) == len(leaky.train) and np.array_equal(honest.valid, leaky.valid)
    assert not set(s.groups[honest.train]) & set(s.groups[honest.test]) and not set(leaky.train) & set(leaky.test) and set(s.groups[leaky.train]) & set(s.groups[leaky.test])
    worth = leak_worth(s, Trial(("image:id",)), seeds=range(2))
    assert worth["other reviews of the product are in training"].low > .03


def test_two_models_that_answer_alike_show_nothing():
    from mmrec.eval.statistics import compare_paired
    hits = np.arange(40) % 3 == 0
    assert said(compare_paired(hits, hits, np.arange(40)//4), "no effect larger than 1.0 points").startswith("cannot tell")
    assert said(compare_paired(hits, ~hits, np.arange(40)//4), "no effect larger than 1.0 points").startswith("no effect")


def test_claims_of_which_none_can_be_judged_end_in_one_line():
    "Pictures alone, and one text alone."
    s = study(picture=0., products=60)
    for kept in ("image:toy", "text:toy"):
        with pytest.raises(MmrecError, match="none of the three claims can be judged"):
            judge_claims(replace(s, blocks={kept: s.blocks[kept]}, memo={}), seeds=range(1), words="text:toy", transformer="text:none", pictures="image:toy")
