"""Sample 25,000 of 2.5 million made-up reviews and join them to their products, in several ways, on the same two files (2.5 GB).

Each way runs in a process of its own, in turn, several times; the median counts. Claims go to bench/results/data.json:
full-size sample and join vs json.loads, … vs pandas, second pass from Parquet vs first pass.
"""
import argparse, importlib.util, json, random, shutil, statistics, sys, time
from pathlib import Path
from generate import generate
from record import measured, record

N = 25_000


def ours(reviews, items):
    "Blocks of lines, rows drawn by priority, items found by their identifier."
    from mmrec.data.tables import CleaningLog, parse_rows
    from mmrec.data.reading import sniff
    from mmrec.data.sampling import draw_rows, rows_naming
    start, log = time.perf_counter(), CleaningLog()
    source = sniff(reviews)
    _, sample = parse_rows(draw_rows(source, N)[0], source, "reviews", log)
    needed, source = {r["parent_asin"] for r in sample}, sniff(items)
    _, found = parse_rows(rows_naming(source, "parent_asin", needed)[0], source, "items", log)
    by_id = {r["parent_asin"]: r for r in found if r["parent_asin"] in needed}
    return start, [(r, by_id.get(r["parent_asin"])) for r in sample]


def line_loop(loads, reviews, items):
    "One line after the other: a reservoir of reviews, then the items that it names."
    start, rng, kept, seen = time.perf_counter(), random.Random(0), [], 0
    for line in open(reviews, "rb"):
        try: r = loads(line)
        except ValueError: continue
        seen += 1
        if len(kept) < N: kept.append(r)
        elif (slot := rng.randrange(seen)) < N: kept[slot] = r
    needed, by_id = {r["parent_asin"] for r in kept}, {}
    for line in open(items, "rb"):
        r = loads(line)
        if r["parent_asin"] in needed: by_id[r["parent_asin"]] = r
    return start, [(r, by_id.get(r["parent_asin"])) for r in kept]


def plain_json(reviews, items): return line_loop(json.loads, reviews, items)


def plain_orjson(reviews, items):
    import orjson
    return line_loop(orjson.loads, reviews, items)


def plain_pandas(reviews, items):
    "pandas.read_json(lines=True, chunksize); broken lines, which stop it, are passed over beforehand."
    import io, pandas as pd
    start, kept, seen = time.perf_counter(), None, 0
    whole = lambda path: (line for line in open(path, "rb") if line.endswith(b"}\n"))
    def chunks(path, size=10_000):
        lines = []
        for line in whole(path):
            lines.append(line)
            if len(lines) == size: yield pd.read_json(io.BytesIO(b"".join(lines)), lines=True); lines = []
        if lines: yield pd.read_json(io.BytesIO(b"".join(lines)), lines=True)
    for chunk in chunks(reviews):
        chunk["rank"] = random.Random(seen).sample(range(1 << 40), len(chunk))
        seen += len(chunk)
        kept = chunk if kept is None else pd.concat([kept, chunk]).nsmallest(N, "rank")
    found = pd.concat([chunk[chunk.parent_asin.isin(kept.parent_asin)] for chunk in chunks(items)])
    return start, kept.merge(found, on="parent_asin", how="left", suffixes=("", "_item"))


def plain_polars(reviews, items):
    import polars as pl
    start = time.perf_counter()
    columns = dict(rating=pl.Float64, title=pl.String, text=pl.String, parent_asin=pl.String, user_id=pl.String, timestamp=pl.Int64)
    kept = pl.scan_ndjson(reviews, schema=columns, ignore_errors=True).collect(engine="streaming").sample(N, seed=0)
    about = pl.scan_ndjson(items, schema=dict(parent_asin=pl.String, title=pl.String, features=pl.List(pl.String), images=pl.List(pl.Struct(dict(large=pl.String, hi_res=pl.String)))))
    return start, kept.join(about.join(kept.lazy().select("parent_asin").unique(), on="parent_asin", how="semi").collect(engine="streaming"), on="parent_asin", how="left")


def plain_duckdb(reviews, items):
    import duckdb
    start = time.perf_counter()
    con = duckdb.connect()
    con.sql("set preserve_insertion_order = false")
    con.sql(f"create table kept as select * from read_ndjson('{reviews}', ignore_errors=true, columns={{rating: 'DOUBLE', title: 'VARCHAR', text: 'VARCHAR', "
            f"parent_asin: 'VARCHAR', user_id: 'VARCHAR', timestamp: 'BIGINT'}}) where parent_asin is not null using sample reservoir({N} rows) repeatable (0)")
    return start, con.sql(f"select * from kept left join read_ndjson('{items}', ignore_errors=true, columns={{parent_asin: 'VARCHAR', title: 'VARCHAR', features: 'VARCHAR[]', images: 'JSON'}}) m "
                          "using (parent_asin)").fetchall()


def first_pass(reviews, items):
    "The loader on the raw files: drawn, parsed, cleaned, typed, joined."
    from mmrec.data.tables import load_dataset
    start = time.perf_counter()
    return start, load_dataset(reviews, items, sample=N).reviews


def second_pass(reviews, items):
    "The same data set from converted tables."
    from mmrec.data.parquet import load_converted
    start = time.perf_counter()
    return start, load_converted(Path(reviews).parent/"tables", sample=N).reviews


def conversion(reviews, items):
    from mmrec.data.parquet import convert
    start, folder = time.perf_counter(), Path(reviews).parent/"tables"
    shutil.rmtree(folder, ignore_errors=True)
    convert(folder, reviews, items)
    return start, range(N)


WAYS = {f.__name__: f for f in (ours, plain_json, plain_orjson, plain_pandas, plain_polars, plain_duckdb, first_pass, second_pass, conversion)}
NEEDS = dict(plain_polars="polars", plain_duckdb="duckdb")


def timed(name, paths):
    "Seconds of work and peak MB of one way, in a process of its own."
    try: out, _, peak = measured([sys.executable, __file__, "--way", name, *map(str, paths)], MMREC_PROGRESS="0")
    except SystemExit as e:
        if name in NEEDS: return print(f"{name} gives up on these files: {e}")
        raise
    seconds, rows = map(float, out.split())
    if not .999*N <= rows <= N: sys.exit(f"{name} gave {rows:.0f} rows")
    return seconds, peak


def main(folder, runs):
    paths = generate(folder)
    data = f"made-up reviews and items in the 2023 format, {sum(p.stat().st_size for p in paths)/1e9:.2f} GB"
    names = [n for n in WAYS if n not in ("conversion",) and importlib.util.find_spec(NEEDS.get(n, "json"))]
    if missing := [NEEDS[n] for n in NEEDS if n not in names]: print("not installed, left out:", ", ".join(missing))
    seconds, peak = timed("conversion", paths)
    print(f"conversion to Parquet: {seconds:.0f} s, peak {peak:.0f} MB")
    took = {n: [] for n in names}
    for run in range(runs):
        for n in names: # in turn, so that a slow minute of the machine hits all
            if not (one := timed(n, paths)): continue
            took[n].append(one)
            print(f"run {run + 1}: {n:14} {took[n][-1][0]:7.2f} s {took[n][-1][1]:7.0f} MB", flush=True)
    took = {n: t for n, t in took.items() if t}
    median = {n: statistics.median(s for s, _ in t) for n, t in took.items()}
    peaks = {n: max(p for _, p in t) for n, t in took.items()}
    for n in took: print(f"{n:14} {median[n]:7.2f} s   peak {peaks[n]:6.0f} MB   {median[n]/median['ours']:5.1f} x ours")
    others = {n.removeprefix("plain_"): round(s, 2) for n, s in median.items() if n.startswith("plain_")}
    for rival in ("json", "pandas"):
        record("data", f"full-size sample and join vs {'json.loads' if rival == 'json' else rival}", median["ours"], median[f"plain_{rival}"], "seconds", data,
               peak_mb=round(peaks["ours"]), runs=runs, all_seconds=others)
    record("data", "second pass from Parquet vs first pass", median["second_pass"], median["first_pass"], "seconds", data, peak_mb=round(peaks["second_pass"]), runs=runs,
           conversion_seconds=round(seconds), conversion_peak_mb=round(peak))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("paths", nargs="*", default=["data/full-size"], help="folder for the generated files (default data/full-size)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each way (default 3)")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        start, rows = WAYS[args.way](*args.paths)
        print(time.perf_counter() - start, len(rows))
    else: main(args.paths[0], args.runs)
