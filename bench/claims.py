"""The verdicts on the course project's three claims, on data too large or too private for a chapter.

    python bench/claims.py                                          the built-in shop with 25,000 reviews, pictures informative and useless; about 20 minutes on two cores
    python bench/claims.py --shop-pictures useless                  the world whose pictures tell nothing alone
    python bench/claims.py --reviews ratings.csv --items movies.csv --images posters/{item}.jpg --scale 0.5-5:0.5 --name MovieLens
                                                                    any data, with the options of `mmrec compare`

Also what each leak is worth (built-in shop) and, where reviews have a time, what is known before a review is written. Gains are in points of
accuracy with 95 % intervals over products; verdicts after Holm's correction. They go to bench/results/evidence.json, which the chapters of evidence read.
"""
import sys, tempfile
from dataclasses import replace
from mmrec.cli import make_parser
from mmrec.evidence.trials import Trial, ablate, gain_of, make_study
from mmrec.evidence.leaks import LADDER, leak_ladder, leak_worth
from mmrec.evidence.before import before_study
from mmrec.evidence.claims import judge_claims
from mmrec.pipeline import RunConfig
from record import record

POINTS = "points of accuracy"


def keep(claim, data, gain, low, high, **more):
    "A gain and its interval, in points."
    points = {k: round(100*float(v), 2) for k, v in dict(low=low, high=high).items()}
    record("evidence", claim, 100*float(gain), None, POINTS, data, **points, **more)


def claims(study, base, seeds, data, folder, **names):
    "The three claims."
    table, _ = judge_claims(study, base, range(seeds), folder, **names)
    for claim, row in table.dropna(subset="gain").iterrows():
        control = {k: round(100*float(row[k]), 2) for k in ("over control", "control low", "control high", "capacity", "could see")}
        keep(f"{claim}: {study.name}{'' if base.model == 'logistic' else ', ' + base.model}", data, row["gain"], row["low"], row["high"], reviews=int(row["reviews"]), products=int(row["products"]),
             **control, **{"adjusted p": round(float(row["adjusted p"]), 4)}, verdict=row["verdict"], splits=seeds)


def leaks(study, data, folder, evidence=("text:tfidf", "image:classical")):
    "What each leak is worth to text and picture."
    for split, row in leak_ladder(study, Trial(evidence), folder=folder, splits=[s for s in LADDER if s in ("course", "product")]).iterrows():
        keep(f"over the majority class, split {split!r}: {study.name}", data, row["gain"], row["low"], row["high"], accuracy=round(float(row["accuracy"]), 4))
    for leak, c in leak_worth(study, Trial(evidence), folder=folder).items(): keep(f"{leak}: {study.name}", data, c.gain, c.low, c.high)


def before(study, data, folder):
    "What is known before the review, by time: past ratings over nothing, everything over past ratings."
    known = before_study(study)
    t = {name: Trial(evidence, fusion="stacked" if len(evidence) > 1 else "early", split="time") for name, evidence in dict(nothing=(), past=("past",), everything=tuple(known.blocks)).items()}
    results = ablate(known, list(t.values()), folder)
    for claim, a, b in (("past ratings, before the review", "past", "nothing"), ("pictures and descriptions beside past ratings, before the review", "everything", "past")):
        c = gain_of(known, results, t[a], t[b])
        if c.se == 0: continue # both give every review the same star
        keep(f"{claim}: {study.name}", data, c.gain, c.low, c.high)


def measure(config, base, seeds, folder):
    "Everything that can be asked of one data set."
    transformer = "minilm" if config.text in ("auto", "tfidf") else config.text
    study = make_study(config, ("tfidf", transformer), (config.image,), print)
    data = f"{study.name}; {len(study.rows):,} reviews of {study.rows['group'].nunique():,} products; {', '.join(study.blocks)}"
    claims(study, base, seeds, data, folder, transformer=f"text:{transformer}", pictures=f"image:{config.image.partition(':')[0]}")
    if base.model != "logistic": return
    if not config.reviews and config.shop_pictures == "informative": leaks(study, data, folder, ("text:tfidf", f"image:{config.image.partition(':')[0]}"))
    if study.rows["time"].notna().any(): before(study, data, folder)


if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv): sys.exit(__doc__)
    args = vars(make_parser("compare").parse_args(["compare", *sys.argv[1:]]))
    base, seeds = Trial(fusion=args.pop("fusion"), model=args.pop("model"), split=args["split"]), args.pop("seeds")
    config = RunConfig(**{k: v for k, v in args.items() if k in RunConfig.__dataclass_fields__})
    with tempfile.TemporaryDirectory() as folder:
        if config.data == "data": config = replace(config, data=folder)
        if config.image == "auto": config = replace(config, image="classical")
        shop = f"made-up shop, {config.shop_reviews:,} reviews"
        useless = replace(config, name=f"{shop}, useless pictures", shop_pictures="useless")
        if config.reviews: worlds = [config]
        elif config.shop_pictures == "useless": worlds = [useless]
        else: worlds = [replace(config, name=shop), useless]
        for world in worlds: measure(world, base, seeds, f"{config.data}/trials")
