"Paired comparisons over products: agreement with independent implementations, invariances, promised levels and power, verdicts."
import numpy as np, pandas as pd, pytest
from dataclasses import asdict
from hypothesis import given, settings, strategies as st
from itertools import product as cartesian
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from mmrec.core import MmrecError
from mmrec.eval.measures import MEASURES, paired_difference
from mmrec.eval.statistics import (Comparison, claim_p, compare_by, compare_measures, compare_paired, correct, detectable_gain, judge, made_up_models, made_up_pair,
                              mcnemar, power_sentence, products_needed, verdict, win_share)

values = lambda c: list(asdict(c).values())


def at_most(rate, worlds, once_in=10_000):
    "The most alarms in `worlds` that a test with this rate exceeds less than once in 10,000 times."
    return stats.binom.ppf(1 - 1/once_in, worlds, rate)


def test_p_and_interval_are_those_of_all_sign_flips():
    "Independent implementation, by brute force: p of a gain is the share of sign patterns with at least as large a sum."
    rng = np.random.default_rng(0)
    groups, a, b = rng.integers(0, 11, 60), rng.random(60), rng.random(60)
    sizes = np.bincount(groups)
    def p_of(gain):
        rest = np.bincount(groups, weights=a - b) - gain*sizes
        sums = [abs(np.dot(signs, rest)) for signs in cartesian([1, -1], repeat=len(rest))]
        return np.mean(np.array(sums) >= abs(rest.sum()) - 1e-12)
    c = compare_paired(a, b, groups)
    assert c.gain == pytest.approx((a - b).mean()) and c.p == pytest.approx(p_of(0))
    for end, out in ((c.low, -1e-9), (c.high, 1e-9)):
        assert p_of(end) > .05 >= p_of(end + out)


def test_independent_rows_agree_with_scipy():
    rng = np.random.default_rng(1)
    a, b = rng.random(400), rng.random(400) - .03
    c, d = compare_paired(a, b), a - b
    interval = stats.bootstrap((d,), np.mean, method="BCa", n_resamples=5000, rng=np.random.default_rng(0)).confidence_interval
    assert [c.low, c.high] == pytest.approx(list(interval), abs=.006)
    assert c.p == pytest.approx(stats.permutation_test((a, b), lambda x, y: (x - y).mean(), permutation_type="samples", n_resamples=9999, rng=np.random.default_rng(0)).pvalue, abs=.02)
    assert c.se == pytest.approx(stats.sem(d), rel=.05)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 80), products=st.integers(2, 30), binary=st.booleans())
def test_order_names_and_places(seed, n, products, binary):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 2, (2, n)) if binary else rng.random((2, n))
    groups = np.r_[0, 1, rng.integers(0, products, n - 2)]
    one, order = compare_paired(a, b, groups, n_draws=500), rng.permutation(n)
    named = np.array([f"p{k}" for k in rng.permutation(products)])[groups] if products > groups.max() else groups
    assert values(compare_paired(a[order], b[order], named[order], n_draws=500)) == pytest.approx(values(one))
    other = compare_paired(b, a, groups, n_draws=500)
    assert other.p == one.p and [other.gain, other.se] == pytest.approx([-one.gain, one.se])
    assert [other.low, other.high] == pytest.approx([-one.high, -one.low])
    assert one.low <= one.gain <= one.high and (one.p > .05) == (one.low <= 1e-12 and one.high >= -1e-12)
    assert 1 <= one.effective <= one.products + 1e-9


def test_copies_of_reviews_are_no_news_and_dominant_products_count_for_one():
    w = made_up_pair(60, .03, seed=2)
    once, often = (compare_paired(*(np.repeat(w[m], k) for m in ("a", "b")), np.repeat(w["product"], k)) for k in (1, 20))
    assert [often.gain, often.low, often.high, often.p, often.se, often.effective] == pytest.approx([once.gain, once.low, once.high, once.p, once.se, once.effective])
    one = compare_paired(np.ones(1010), np.zeros(1010), np.r_[np.zeros(1000), np.arange(1, 11)])
    assert one.effective < 1.1 and detectable_gain(one) == np.inf and "no gain could be seen" in power_sentence(one)


def test_five_products_show_nothing():
    c = compare_paired(np.ones(500), np.zeros(500), np.arange(500) % 5)
    assert c.p == 1/16 and (c.low, c.high) == (-np.inf, np.inf)
    assert detectable_gain(c) == np.inf and verdict(c) == "cannot tell: too few products"
    assert compare_paired(np.ones(6), np.zeros(6)).p == 1/32


def test_a_model_does_not_differ_from_itself():
    c = compare_paired([1, 0, 1, 1], [1, 0, 1, 1], list("aabb"))
    assert (c.gain, c.p, c.se) == (0, 1, 0)
    assert win_share([2, 2, 3], [1, 1, 3], list("abc"))["won"] == 1


def test_many_products_in_blocks():
    w = made_up_pair(6000, .01, reviews=3, seed=3)
    c = compare_paired(w["a"], w["b"], w["product"], n_draws=2000)
    t = (w["a"]*1. - w["b"]).groupby(w["product"]).agg(["sum", "count"])
    sandwich = np.sqrt(((t["sum"] - c.gain*t["count"])**2).sum())/len(w)
    assert c.se == pytest.approx(sandwich, rel=.05) and [c.low, c.high] == pytest.approx([c.gain - 1.96*sandwich, c.gain + 1.96*sandwich], abs=.15*sandwich)


@pytest.fixture(scope="module")
def rated():
    rng = np.random.default_rng(4)
    y = rng.choice(5, 500, p=[.1, .07, .09, .15, .59])
    a, b = (np.where(rng.random(500) < share, y, rng.integers(0, 5, 500)) for share in (.5, .45))
    return y, a, b, rng.integers(0, 90, 500)


def test_measures_agree_with_the_evaluation_and_with_row_scores(rated):
    y, a, b, groups = rated
    found = compare_measures(y, a, b, range(1, 6), groups)
    table = paired_difference(y, a, b, range(1, 6), groups, n_draws=4000)
    for m, sign in MEASURES.items():
        low, high = sorted(sign*table.loc[m, ["low", "high"]])
        assert found[m].gain == pytest.approx(sign*table.loc[m, "difference"])
        assert [found[m].low, found[m].high] == pytest.approx([low, high], abs=.15*(high - low)), m
    for m, scores in {"accuracy": (a == y, b == y), "MAE": (-abs(a - y), -abs(b - y)), "within one": (abs(a - y) < 2, abs(b - y) < 2)}.items():
        by_row = compare_paired(*scores, groups)
        assert [found[m].gain, found[m].low, found[m].high, found[m].p] == pytest.approx([by_row.gain, by_row.low, by_row.high, by_row.p], abs=.02), m


def test_measures_do_not_depend_on_order_names_or_places(rated):
    y, a, b, groups = rated
    order = np.random.default_rng(0).permutation(len(y))
    one = compare_measures(y, a, b, range(1, 6), groups, n_draws=500)
    mixed = compare_measures(y[order], a[order], b[order], range(1, 6), (groups*7 - 3)[order], n_draws=500)
    swapped = compare_measures(y, b, a, range(1, 6), groups, n_draws=500)
    for m in MEASURES:
        assert values(mixed[m]) == pytest.approx(values(one[m]))
        assert [swapped[m].gain, swapped[m].low, swapped[m].high, swapped[m].p] == pytest.approx([-one[m].gain, -one[m].high, -one[m].low, one[m].p])


def test_an_undefined_measure_says_nothing():
    found = compare_measures(np.zeros(40, int), np.zeros(40, int), np.zeros(40, int), [1, 2], np.arange(40) % 8)
    assert found["accuracy"].gain == 0 and found["QWK"].p == 1 and found["QWK"].low == -np.inf


def test_any_function_of_rows(rated):
    y, a, b, groups = rated
    hits = (a == y)*1. - (b == y)
    slow, fast = compare_by(lambda rows: hits[rows].mean(), groups), compare_paired(a == y, b == y, groups)
    assert slow.gain == pytest.approx(fast.gain) and [slow.low, slow.high] == pytest.approx([fast.low, fast.high], abs=.01)
    from sklearn.metrics import roc_auc_score
    good, (strong, weak) = y == 4, (y == 4) + np.random.default_rng(5).normal(0, 1, (2, 500))*np.array([[.5], [2]])
    auc = compare_by(lambda rows: roc_auc_score(good[rows], strong[rows]) - roc_auc_score(good[rows], weak[rows]), groups, n_draws=200)
    assert auc.p < .05 and auc.low > 0


@pytest.mark.parametrize("n", [12, 30, 400])
def test_mcnemar_is_that_of_statsmodels(n):
    rng = np.random.default_rng(n)
    a, b = rng.random((2, n)) < [[.7], [.5]]
    table = pd.crosstab(pd.Categorical(a, [False, True]), pd.Categorical(b, [False, True]), dropna=False).to_numpy()
    found, few = mcnemar(a, b), table[0, 1] + table[1, 0] < 50
    assert found["p"] == pytest.approx(statsmodels_mcnemar(table, exact=few).pvalue) and (found["only_a"], found["only_b"]) == (table[1, 0], table[0, 1])
    if few: assert found["p"] == pytest.approx(stats.binomtest(found["only_a"], found["only_a"] + found["only_b"]).pvalue)


def test_win_share_is_the_share_of_decided_rows():
    w = made_up_pair(300, .06, seed=6)
    found, counts = win_share(w["a"], w["b"], w["product"]), mcnemar(w["a"], w["b"])
    assert found["decided"] == counts["only_a"] + counts["only_b"] and found["won"] == pytest.approx(counts["only_a"]/found["decided"])
    assert 0 <= found["low"] < found["won"] < found["high"] <= 1
    assert win_share(w["b"], w["a"], w["product"])["won"] == pytest.approx(1 - found["won"])


@settings(max_examples=30, deadline=None) # statsmodels collects garbage at each call
@given(ps=st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_by_hand(ps):
    order, want, so_far = np.argsort(ps, kind="stable"), np.empty(len(ps)), 0
    for rank, k in enumerate(order): want[k] = so_far = max(so_far, min(1, ps[k]*(len(ps) - rank)))
    table = correct(pd.DataFrame(dict(p=ps)))
    assert table["adjusted p"].tolist() == pytest.approx(want) and table["shown"].tolist() == pytest.approx(want <= .05)
    assert (correct(table, method="fdr_bh")["adjusted p"] <= table["adjusted p"] + 1e-12).all()
    assert len(correct(table.iloc[:0])) == 0


# --- a small twin of bench/statistics.py ---

@pytest.mark.parametrize("n_products, spread", [(20, 0), (40, 1.2), (150, 1.2)])
def test_false_alarms_stay_at_five_in_a_hundred(n_products, spread):
    worlds = [made_up_pair(n_products, 0, alike=.5, spread=spread, seed=s) for s in range(250)]
    assert sum(compare_paired(w["a"], w["b"], w["product"], n_draws=1000).p <= .05 for w in worlds) <= at_most(.05, 250)
    if n_products == 150: assert np.mean([mcnemar(w["a"], w["b"])["p"] <= .05 for w in worlds]) > .15


def test_the_interval_covers_the_true_gain():
    worlds = [made_up_pair(80, .05, seed=s) for s in range(250)]
    missed = [not c.low <= .05 <= c.high for c in (compare_paired(w["a"], w["b"], w["product"], n_draws=1000) for w in worlds)]
    assert sum(missed) <= at_most(.05, 250)


def test_power_is_as_stated():
    compare = lambda w: compare_paired(w["a"], w["b"], w["product"], n_draws=1000)
    gain = np.mean([detectable_gain(compare(made_up_pair(150, seed=s))) for s in range(50)])
    seen = sum(compare(made_up_pair(150, gain, seed=1000 + s)).p <= .05 for s in range(250))
    assert stats.binom.ppf(1e-4, 250, .75) <= seen <= at_most(.85, 250)


@pytest.mark.parametrize("by, word", [(.05, "helps"), (-.05, "hurts")])
def test_a_change_that_its_control_has_too_does_not_count(by, word):
    "Neither a gain of capacity nor a cost is said of the information."
    said, naive = [], 0
    for s in range(100):
        w = made_up_models(dict(baseline=0, control=by, model=by), 300, seed=s)
        gain, over = (compare_paired(w["model"], w[m], w["product"], n_draws=1000) for m in ("baseline", "control"))
        said.append(verdict(gain, over)); naive += verdict(gain).startswith("better" if by > 0 else "worse")
    assert sum(v.startswith(word) for v in said) <= at_most(.05, 100) and naive > 70
    assert sum(v.startswith(("helps", "hurts", "informs")) for v in said) <= at_most(.05, 100)
    if by < 0: assert sum(", costs " in v for v in said) > 70


def test_information_that_costs_more_than_it_tells_is_no_harm():
    said = []
    for s in range(40):
        w = made_up_models(dict(baseline=0, control=-.12, model=-.05), 400, seed=s)
        said.append(verdict(*(compare_paired(w["model"], w[m], w["product"], n_draws=1000) for m in ("baseline", "control"))))
    assert sum(v.startswith("informs, costs") for v in said) > 20 and not any(v.startswith(("hurts", "helps")) for v in said)


# --- planning and judging ---

@given(products=st.integers(8, 10**5), gain=st.floats(1e-3, .2), power=st.floats(.5, .99), alpha=st.floats(.001, .2))
def test_products_needed_turns_detectable_gain_round(products, gain, power, alpha):
    pilot = Comparison(0, -.1, .1, 1, .05, 10*products, products, products/3)
    needed = products_needed(pilot, gain, power, alpha)
    grown = lambda n: Comparison(0, 0, 0, 1, .05*np.sqrt(products/n), 10*n, n, n/3)
    assert detectable_gain(grown(needed), power, alpha) <= gain*(1 + 1e-6) < detectable_gain(grown(needed - 1), power, alpha)*(1 + 1e-5)


def test_more_products_more_power_fewer_points():
    pilot = lambda n: compare_paired(*(w := made_up_pair(n, seed=7))[["a", "b"]].T.to_numpy(), w["product"])
    few, many = pilot(50), pilot(800)
    assert detectable_gain(many) < detectable_gain(few) and detectable_gain(many, .9) > detectable_gain(many, .8) and detectable_gain(many, alpha=.01) > detectable_gain(many)
    assert power_sentence(many) == f"With {many.reviews:,} reviews of 800 products a gain of {100*detectable_gain(many):.1f} points would be seen 4 times in 5."
    assert "stars would be seen 9 times in 10" in power_sentence(many, .9, unit="stars")


def made(gain, half, p): return Comparison(gain, gain - half, gain + half, p, half/1.96, 5000, 1000, 400.)


def test_no_effect_needs_evidence():
    "Each word needs its evidence: no word of information without the control, none of nothing with a wide interval."
    for gain, half, p in cartesian([-.03, -.004, .004, .03], [.002, .008, .05], [.001, .5]):
        for over in [None, *(made(*c) for c in cartesian([-.03, 0, .03], [.002, .05], [.001, .5]))]:
            g = made(gain, half, p)
            said = verdict(g, over)
            shown = lambda c, sign: c is not None and sign*c.gain > 0 and c.p <= .05
            if said.startswith(("helps", "better")): assert shown(g, 1) and (over is None or shown(over, 1))
            if said.startswith(("hurts", "worse")): assert shown(g, -1) and (over is None or shown(over, -1))
            if said.startswith("informs"): assert shown(g, -1) and shown(over, 1)
            if ", costs " in said: assert shown(g, -1) and over is not None and f"costs {-100*gain:.1f} points" in said
            if said.startswith("no effect"): assert all(-.01 < c.low and c.high < .01 for c in (g, over) if c)
            if said.startswith(("no more", "adds nothing")): assert over.high < .01
            if p > .05 and half == .05 and over is None: assert said.startswith("cannot tell")
            assert verdict(g, over, p=1., alone=[1., 1.]) == said or claim_p(g, over) <= .05 or ", costs " in said # a correction can only take claims away
            assert not verdict(g, over, p=1., alone=[1., 1.]).startswith(("helps", "hurts", "better", "worse", "informs", "adds"))


@given(gain=st.floats(-.1, .1), over=st.floats(-.1, .1), p=st.floats(0, 1), q=st.floats(0, 1))
def test_the_rule_is_the_same_both_ways(gain, over, p, q):
    "Turn both comparisons round, and helps becomes hurts."
    turned = {"helps": "hurts", "hurts": "helps"}
    a, b = verdict(made(gain, .001, p), made(over, .001, q)), verdict(made(-gain, .001, p), made(-over, .001, q))
    for word in turned: assert a.startswith(word) == b.startswith(turned[word])
    assert claim_p(made(gain, .1, p), made(over, .1, q)) == claim_p(made(-gain, .1, p), made(-over, .1, q))


def test_costs_are_corrected_too():
    "Twenty claims without any effect, each with p = .04: none is said to cost anything."
    gains, controls = ({f"claim {k}": made(g, .02, .04) for k in range(20)} for g in (-.02, 0))
    assert not judge(gains, controls)["verdict"].str.contains("costs").any()
    one = judge({"claim": made(-.02, .019, .04)}, {"claim": made(0, .005, .9)})
    assert one.loc["claim", "verdict"] == "adds nothing (less than 1.0 points), costs 2.0 points" and one.loc["claim", "capacity"] == -.02


def test_judge_corrects_over_the_family():
    claims = {f"claim {k}": made(.04, .03, .01) for k in range(10)} | {"sure": made(.04, .01, .0001)}
    table = judge(claims)
    assert table["adjusted p"].tolist() == pytest.approx([.1]*10 + [.0011]) and table.loc["sure", "verdict"] == "better"
    assert table["verdict"].iloc[0].startswith("cannot tell: too few reviews (a gain of")
    assert judge({"claim 0": made(.04, .03, .01)}).loc["claim 0", "verdict"] == "better"
    assert judge(claims, method="fdr_bh")["verdict"].eq("better").all()
    both = judge({"sure": made(.04, .01, .0001)}, {"sure": made(.03, .02, .004)})
    assert both.loc["sure", "p"] == .004 and both.loc["sure", "verdict"] == "helps" and both.loc["sure", "over control"] == .03


@pytest.mark.parametrize("gains", [0, .05, -.2])
def test_worlds_have_the_gain_that_they_promise(gains):
    w = made_up_pair(40_000, gains, reviews=5, seed=8)
    assert (w["a"]*1. - w["b"]).mean() == pytest.approx(gains, abs=.004) and (w["a"] != w["b"]).mean() == pytest.approx(.2, abs=.004)
    assert w.equals(made_up_pair(40_000, gains, reviews=5, seed=8))


@pytest.mark.parametrize("call, says", [
    (lambda: compare_paired([1, 0, 1], [1, 0], list("abc")), "same rows"),
    (lambda: compare_paired([[1, 0]], [[1, 0]], ["a"]), "one score a row"),
    (lambda: compare_paired([1, np.nan], [1, 0], list("ab")), "1 rows without a score"),
    (lambda: compare_paired([1, np.inf], [1, 0], list("ab")), "1 rows without a score"),
    (lambda: compare_paired([1, 0], [1, 0], list("aa")), "1 product: "),
    (lambda: compare_paired([], [], []), "0 product: "),
    (lambda: compare_paired([1, 0], [1, 0], ["a", None]), "1 rows have no product"),
    (lambda: compare_paired([1, 0], [1, 0], list("abc")), "2 rows but 3 products"),
    (lambda: compare_measures([1, 0], [1, 0], [1], [1, 2], list("ab")), "predict the same rows"),
    (lambda: compare_by(lambda rows: 0, ["a", "a"]), "1 product: "),
    (lambda: win_share([1, 0], [1, 0], list("ab")), "0 product: "),
    (lambda: correct(pd.DataFrame(dict(p=[.1, np.nan]))), "1 comparisons have no p-value"),
    (lambda: products_needed(made(0, .1, 1), -.01), "above 0"),
    (lambda: products_needed(made(0, 0, 1), .01), "never differ"),
    (lambda: made_up_pair(gain=.3), "decided"),
])
def test_promised_errors(call, says):
    with pytest.raises(MmrecError, match=says): call()
