"""Check the statistics on made-up worlds whose truth is known: false alarms, coverage, power, correction, verdicts.

Claims go to bench/results/evidence.json. Each setting has at least 500 worlds; a share p of n worlds is known to within 2*sqrt(p*(1 - p)/n).
"""
import argparse, warnings
import numpy as np
import pandas as pd
from scipy import stats
from mmrec.eval.measures import paired_difference
from mmrec.eval.statistics import compare_measures, compare_paired, correct, detectable_gain, made_up_models, made_up_pair, mcnemar, verdict
from record import record

DRAWS, ALIKE, SETTINGS = 1000, .3, {"20 products": (20, 1.2), "50 products": (50, 1.2), "200 products": (200, 1.2), "1000 products": (1000, 1.2), "100 products of very unequal size": (100, 2.)}
DATA = "made-up hits of two models, 10 reviews a product on average, sizes lognormal ({}), correlation within a product .3"
halves = lambda w: compare_paired(w["a"], w["b"], w["product"], n_draws=DRAWS)


def percentile(w):
    "Interval of the paired percentile cluster bootstrap."
    return paired_difference(np.ones(len(w), int), w["a"].astype(int), w["b"].astype(int), [0, 1], w["product"], n_draws=DRAWS).loc["accuracy", ["low", "high"]]


def sums(w):
    "Of each product: reviews, sum of the differences."
    t = (w["a"]*1. - w["b"]).groupby(w["product"]).agg(["count", "sum"])
    return t["count"].to_numpy(float), t["sum"].to_numpy()


def bca(w):
    "scipy's bias-corrected and accelerated bootstrap over products."
    n, s = sums(w)
    ratio = lambda s, n, axis=-1: s.sum(axis=axis)/n.sum(axis=axis)
    return stats.bootstrap((s, n), ratio, paired=True, vectorized=True, method="BCa", n_resamples=DRAWS, rng=np.random.default_rng(0)).confidence_interval


def sandwich(w):
    "Cluster-robust standard error, Student's t with one degree of freedom less than there are products."
    n, s = sums(w)
    gain = s.sum()/n.sum()
    half = stats.t.ppf(.975, len(n) - 1)*np.sqrt(len(n)/(len(n) - 1)*((s - gain*n)**2).sum())/n.sum()
    return gain - half, gain + half


def misses(interval, truth): return not interval[0] <= truth <= interval[1]


def check_level(worlds, settings=SETTINGS):
    "False alarms and coverage, beside other ways of testing."
    others = {f.__name__: f for f in (percentile, bca, sandwich)}
    for name, (n, spread) in settings.items():
        data = DATA.format(spread)
        null = [made_up_pair(n, 0, ALIKE, spread=spread, seed=s) for s in range(worlds)]
        rate = {other: round(float(np.mean([misses(list(f(w)), 0) for w in null[::4]])), 3) for other, f in others.items()}
        record("evidence", f"false alarms, test over {name} vs McNemar by rows", np.mean([halves(w).p <= .05 for w in null]),
               np.mean([mcnemar(w["a"], w["b"])["p"] <= .05 for w in null]), "share of worlds", data, worlds=worlds, promised=.05, other_tests=rate, other_worlds=len(null[::4]))
        real = [made_up_pair(n, .05, ALIKE, spread=spread, seed=worlds + s) for s in range(worlds//4)]
        record("evidence", f"95 % interval covers a true gain of 5 points, {name}, vs percentile bootstrap", np.mean([not misses([(c := halves(w)).low, c.high], .05) for w in real]),
               np.mean([not misses(list(percentile(w)), .05) for w in real]), "share of worlds", data, worlds=len(real), promised=.95)


def rated(n_products, seed):
    "Five-class ratings and two models' predictions, equally good; each product is easier or harder, for each model by itself and for both."
    rng = np.random.default_rng(seed)
    product = np.repeat(np.arange(n_products), 1 + rng.lognormal(np.log(9) - .72, 1.2, n_products).round().astype(int))
    y = rng.choice(5, len(product), p=[.1, .07, .09, .15, .59])
    skill = rng.uniform(.2, .6, (1, n_products)) + rng.uniform(-.2, .4, (2, n_products))
    return product, y, *(np.where(rng.random(len(y)) < s[product], y, rng.choice(5, len(y), p=[.1, .07, .09, .15, .59])) for s in skill)


def check_measures(worlds):
    "False alarms of measures that are no means over rows."
    for n in (30, 200):
        ours, theirs = [], []
        for s in range(worlds):
            product, y, a, b = rated(n, s)
            ours.append({m: c.p <= .05 for m, c in compare_measures(y, a, b, range(1, 6), product, n_draws=DRAWS).items()})
            if s % 4 == 0: theirs.append(paired_difference(y, a, b, range(1, 6), product, n_draws=DRAWS)["better"] != "")
        ours, theirs = pd.DataFrame(ours).mean(), pd.DataFrame(theirs).mean()
        for m in ("balanced accuracy", "macro-F1", "QWK", "MAE"):
            record("evidence", f"false alarms, {m} over {n} products vs percentile bootstrap", ours[m], theirs[m], "share of worlds",
                   "made-up ratings of five classes, two models equally good", worlds=worlds, their_worlds=worlds//4, promised=.05)


def check_power(worlds):
    "Is a gain seen as often as a pilot without any effect says?"
    for n in (50, 200, 1000):
        pilots = [detectable_gain(halves(made_up_pair(n, 0, ALIKE, seed=10**6 + s))) for s in range(worlds//10)]
        possible = [g for g in pilots if g < .19] # no gain can be larger than the share of decided reviews, .2
        seen = [halves(made_up_pair(n, g, ALIKE, seed=10**7 + s)).p <= .05 for s, g in enumerate(np.repeat(possible, 10))]
        record("evidence", f"power observed vs stated, {n} products", np.mean(seen), .8, "share of worlds", DATA.format(1.2), worlds=len(seen), pilots=len(possible), pilots_left_out=len(pilots) - len(possible),
               detectable_points=[round(100*float(np.quantile(possible, q)), 1) for q in (.1, .5, .9)])


def check_families(families, size=10):
    "Families of comparisons without any effect: how many raise an alarm?"
    tables = [pd.DataFrame(dict(p=[halves(made_up_pair(100, 0, ALIKE, seed=size*f + k)).p for k in range(size)])) for f in range(families)]
    uncorrected = [(t["p"] <= .05).any() for t in tables]
    holm = [any_ and correct(t)["shown"].any() for any_, t in zip(uncorrected, tables)]
    record("evidence", f"any false alarm among {size} comparisons, Holm vs uncorrected", np.mean(holm), np.mean(uncorrected), "share of families", DATA.format(1.2), families=families, promised=.05)


def check_verdicts(worlds):
    "Two sentences that must not be said: 'helps' of a gain that the control has too, 'no effect' of an effect."
    compared = []
    for s in range(worlds):
        w = made_up_models(dict(baseline=0, control=.05, model=.05), seed=s)
        compared.append([compare_paired(w["model"], w[m], w["product"], n_draws=DRAWS) for m in ("baseline", "control")])
    record("evidence", "'helps' though the control gains as much, verdict vs significant over the baseline", np.mean([verdict(g, c).startswith("helps") for g, c in compared]),
           np.mean([g.p <= .05 and g.gain > 0 for g, _ in compared]), "share of worlds", "made-up hits of three models, 600 products, model and control 5 points above the baseline", worlds=worlds, promised=.05)
    for n in (100, 1000):
        found = [halves(made_up_pair(n, .02, ALIKE, seed=s)) for s in range(worlds)]
        record("evidence", f"'no effect' of a true gain of 2 points, {n} products, verdict with margin 2 points vs not significant", np.mean([verdict(c, margin=.02).startswith("no effect") for c in found]),
               np.mean([c.p > .05 for c in found]), "share of worlds", DATA.format(1.2), worlds=worlds, promised=.05)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--worlds", type=int, default=2000, help="made-up worlds a setting without an effect; a quarter of them with one, and for the slower tests beside ours (default 2000)")
    worlds = parser.parse_args().worlds
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        for check in (check_level, check_measures, check_power): check(worlds)
        for check in (check_families, check_verdicts): check(worlds//2)
