"""Are verdicts on claims right where the truth is known? Worlds without an effect whose columns cost something, and worlds with one.

    python bench/verdicts.py                 250 families of three claims a setting (ten minutes); then fitted models in 80 worlds each (half an hour on one core)
    python bench/verdicts.py --fitted 0      without the fitted models

The rule is that of `mmrec.eval.statistics`: *helps* and *hurts* need the gain and the gain over the control. Beside it stands the verdict by the gain alone.
Sizes are those of the made-up shops with 4,000 and 25,000 reviews, three splits pooled. Claims go to bench/results/evidence.json.
"""
import argparse
from dataclasses import replace
import numpy as np
import pandas as pd
from mmrec.evidence.trials import Trial, ablate, gain_of
from mmrec.evidence.worlds import exact_gain, graded, made_up_study
from mmrec.eval.statistics import compare_paired, judge
from record import record

DRAWS, MARGIN, CLAIMS = 500, .01, 3
SIZES = {"4,000-review shop": (159, 15), "25,000-review shop": (858, 17)}  # test products, reviews of each on average
# what the information is worth, what the columns cost, share of reviews that they decide otherwise
WORLDS = {"nothing told, no cost": (0, 0, .05), "nothing told, costs 0.7 points": (0, .007, .05), "nothing told, costs 3 points": (0, .03, .2),
          "tells 3 points, costs 0.7": (.03, .007, .2), "tells 3 points, costs 5": (.03, .05, .2), "misleads by 3 points, costs 0.7": (-.03, .007, .2)}


def made_up_claim(n_products, reviews, told, cost, decided, seed, alike=.1, right=.6, spread=1.):
    "Hits of baseline, control and model, with exactly known accuracies: the added columns decide a share of the reviews anew."
    rng = np.random.default_rng(seed)
    product = np.repeat(np.arange(n_products), 1 + rng.lognormal(np.log(reviews - 1) - spread**2/2, spread, n_products).round().astype(int))
    hits = dict(baseline=rng.random(len(product)) < right)
    for name, change in dict(control=-cost, model=told - cost).items():
        mean, k = right + change/decided, 1/alike - 1
        chance = rng.beta(mean*k, (1 - mean)*k, n_products)[product]
        hits[name] = np.where(rng.random(len(product)) < decided, rng.random(len(product)) < chance, hits["baseline"])
    return [compare_paired(hits["model"], hits[other], product, n_draws=DRAWS) for other in ("baseline", "control")]


def by_gain_alone(verdicts, gains, alpha=.05):
    "What would be said without a look at the control: helps or hurts wherever the gain is shown (Holm)."
    shown = judge(gains, margin=MARGIN, alpha=alpha)["adjusted p"] <= alpha
    return [("helps" if g.gain > 0 else "hurts") if s else v for g, s, v in zip(gains.values(), shown, verdicts)]


def shares(words):
    "How often each kind of verdict was given."
    first = pd.Series([w.split(",")[0].split(" (")[0].split(" larger")[0].split(":")[0] for w in words])
    return first.value_counts(normalize=True).round(3).to_dict()


def keep(name, data, ours, theirs, worth, **more):
    "Shares of wrong verdicts: any in a family of claims, by the rule and by the gain alone."
    wrong = lambda families: float(np.mean([any(graded(v, worth, MARGIN) == "wrong" for v in words) for words in families]))
    every = [v for words in ours for v in words]
    right = float(np.mean([graded(v, worth, MARGIN) == "right" for v in every]))
    record("evidence", f"a wrong verdict, {name}, vs by the gain alone", wrong(ours), wrong(theirs), "share of worlds", data, worlds=len(ours), promised=.05,
           right=round(right, 3), verdicts=shares(every), worth_points=round(100*worth, 2), **more)


def check_rule(worlds):
    "Families of three claims about hits whose truth is known."
    for size, (products, reviews) in SIZES.items():
        for world, (told, cost, decided) in WORLDS.items():
            ours, theirs = [], []
            for s in range(worlds):
                found = {str(k): made_up_claim(products, reviews, told, cost, decided, [s, k]) for k in range(CLAIMS)}
                gains, controls = ({k: pair[i] for k, pair in found.items()} for i in (0, 1))
                ours.append(judge(gains, controls, margin=MARGIN)["verdict"].tolist())
                theirs.append(by_gain_alone(ours[-1], gains))
            keep(f"{world}, {size}", f"made-up hits, families of {CLAIMS} claims, {products} products, {reviews} reviews of each on average", ours, theirs, told)


def wide(study, columns, seed, noise=1.):
    "The same study, its looks spread over many columns with a grain of each product's own, as picture features are."
    rng = np.random.default_rng([seed, 11])
    looks, item = study.blocks["image:looks"], study.rows["item"].to_numpy()
    grain = rng.normal(size=(item.max() + 1, columns))*noise
    block = looks @ rng.normal(size=(looks.shape[1], columns)) + grain[item]
    return replace(study, blocks=study.blocks | {"image:looks": block.astype(np.float32)}, memo={})


def fitted(pictures, n, seed, columns, seeds):
    "Gain and gain over the control of logistic regression in one world."
    study, base = wide(made_up_study(pictures, n, seed), columns, seed), Trial(("text:facts",))
    both = replace(base, evidence=("text:facts", "image:looks"))
    other = replace(both, control="pictures shuffled")
    results = ablate(study, [replace(t, seed=s) for t in (base, both, other) for s in range(seeds)])
    return [gain_of(study, results, both, t, n_draws=DRAWS) for t in (base, other)]


def check_fitted(worlds, n, columns=300, seeds=3):
    "Claims about models that were fitted: pictures whose columns cost something, and tell nothing or much."
    for pictures in ("useless", "informative"):
        found = [fitted(pictures, n, seed, columns, seeds) for seed in range(worlds)]
        ours = [judge({"pictures": g}, {"pictures": c}, margin=MARGIN)["verdict"].tolist() for g, c in found]
        theirs = [by_gain_alone(words, {"pictures": g}) for words, (g, _) in zip(ours, found)]
        mean = lambda i: round(100*float(np.mean([pair[i].gain for pair in found])), 2)
        keep(f"fitted models, {pictures} pictures, {n:,} reviews", f"made-up reviews, text told in facts, looks spread over {columns} columns; logistic regression, {seeds} splits by product",
             ours, theirs, exact_gain(pictures), gain_points=mean(0), over_control_points=mean(1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=250, help="families of claims a setting (default 250)")
    parser.add_argument("--fitted", type=int, default=80, help="worlds with fitted models of 4,000 reviews; an eighth as many of 25,000 (default 80; 0: none)")
    args = parser.parse_args()
    if args.worlds: check_rule(args.worlds)
    if args.fitted:
        check_fitted(args.fitted, 4_000)
        check_fitted(max(2, args.fitted//8), 25_000)
