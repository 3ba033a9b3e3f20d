"""A mutation fuzzer for all that reads what somebody else may have made: `make fuzz`, or `python tests/fuzz.py --help`.

The rule: no exception but `MmrecError` (and what a function names), no hang, no growth of memory, no row that is neither kept nor logged.
A case is a reader and a number; with the seed they give the same bytes again."""
import argparse, contextlib, faulthandler, functools, io, itertools, json, math, os, pickle, random, re, resource, shutil, signal
import subprocess, sys, tempfile, threading, time, traceback, warnings, zipfile
from pathlib import Path
from types import SimpleNamespace
import numpy as np
import pandas as pd
from requests.structures import CaseInsensitiveDict
import fuzz_inputs as make
from mmrec import core, net
from mmrec.data import tables as data, fetch, fields, images, parquet, ratings, reading, sampling
from mmrec.features import fusion
from mmrec.core import MmrecError

CPU, WALL, GROWTH = 20, 200, 400 # seconds of the processor and of the clock, and megabytes, that one case may take


UNREADABLE = re.compile("[\0\ufffd\ud800-\udfff]")

class Flaw(AssertionError): "A promise that does not hold, though nothing was raised."
class TooLong(BaseException): "A case that does not end."

def must(holds, what):
    if not holds: raise Flaw(what)

def refused(call, *args, but=(), **kwargs):
    "The result of a call, or the `MmrecError` that it raised, looked at; `but`: other errors that are named in its docs."
    try: return call(*args, **kwargs)
    except MmrecError as e:
        said = str(e)
        must(len(said.splitlines()) == 1 and said == core.printable(said), "an error of several lines or with control characters")
        must(len(said) < 5000, "an error of more than 5000 characters")
        return e
    except but as e: return e

def packed(value):
    "Pickled, however deep it is nested."
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try: return pickle.dumps(value)
    finally: sys.setrecursionlimit(before)

def failed(x): return isinstance(x, Exception)


# The readers: each has `make_…(rng)`, which gives files and choices, and `check_…(folder, choices)`, which gives the number of records

def make_files(rng):
    "Reviews, sometimes in two files, sometimes with items, and how they are loaded."
    write, n_items = make.notations(rng), rng.choice((3, 30, 300))
    names, items = rng.choice(make.NAMES), rng.choice(make.ITEMS)
    n = rng.choice((1, 5, 50, 300, 1000, 2500, 5000))
    state, parts = rng.getstate(), rng.choice((1, 1, 1, 1, 2))
    files = {}
    for k in range(parts):
        if k and rng.random() < .8: rng.setstate(state) # the same kind of file
        files[f"reviews/part-{k}"] = make.a_file(rng, make.records(rng, names, write, n, n_items))
    choices = dict(load={}, draw=dict(sample=None))
    if rng.random() < .3:
        rows = [{name: write[what](k, 0) for what, name in items.items()} for k in range(n_items)]
        files["items"] = make.a_file(rng, make.spoilt(rng, rows))
    if rng.random() < .3: choices["load"]["keep_empty_text"] = True
    if rng.random() < .1: choices["load"]["dates"] = rng.choice(["day-first", "month-first"])
    if rng.random() < .1: choices["load"]["scale"] = rng.choice(["1-5", "0-10", "thumbs", "bad<ok<good", "0.5-5:0.5"])
    if rng.random() < .1: choices["load"]["columns"] = {rng.choice(["text", "user", "item", "rating"]): "|".join(rng.sample(list(names.values()), 2))}
    if rng.random() < .3: choices["draw"] = dict(sample=rng.choice((1, 10, 200)), how=rng.choice(["uniform", "head", "all", "stars", "balanced", "users", "2-core", "24-months"]), seed=rng.randrange(9))
    return files, choices

def check_files(folder, choices):
    reviews = sorted((folder/"reviews").iterdir())
    reviews, items = reviews if len(reviews) > 1 else reviews[0], folder/"items" if (folder/"items").exists() else None
    n = sum(_rows(path) for path in ([reviews] if isinstance(reviews, Path) else reviews) + ([items] if items else []))
    if choices["load"].get("columns"): choices = {**choices, "load": {**choices["load"], "columns": dict(choices["load"]["columns"])}}
    found = refused(data.load_dataset, reviews, items, **choices["load"], **choices["draw"])
    if not failed(found): _accounted(found, choices["draw"]); _card(found)
    _converted(folder, reviews, items, choices, found)
    return n

def _rows(path):
    "Read a file row by row; the number of rows."
    source = refused(reading.sniff, path)
    if failed(source): return 0
    n = 0
    def through():
        nonlocal n
        for line, row in reading.rows_of(source):
            n += 1
            must(type(line) is int and line > 0, "a line without a number")
            try: record = reading.parse_row(source, row)
            except ValueError as e: must("\n" not in str(e), "a reason of several lines")
            else: must(type(record) is dict and all(type(k) is str for k in record), "a record that is no dictionary of names")
    refused(through)
    for side in ("reviews", "items"): refused(fields.choose_columns, source, side)
    return n

def _accounted(found, draw):
    "Every row that was drawn is kept, or was removed by a rule of the log."
    read, kept = found.source["read"]["reviews"], len(found.reviews)
    removed = data.rows_removed(found.log)
    must(kept == found.source["kept"]["reviews"], "rows kept are counted wrongly")
    if draw.get("how", "uniform") in ("uniform", "head", "all"):
        drawn = read if draw["sample"] is None or draw.get("how") == "all" else min(read, draw["sample"])
        must(drawn == kept + removed, f"{drawn} rows in, {kept} kept, {removed} removed")
    r, i = found.reviews, found.items
    must(not (r.item == "").any() and r.label.between(0, found.scale.n - 1).all(), "a review without item or class")
    must(set(r.item) == set(i.item) and i.item.is_unique, "items that are not those of the reviews")
    for column in (r.user, r.item, r.title, r.text, i.title, i.text, i.store): must(not UNREADABLE.search("".join(column.dropna())), "unreadable characters in a text")

def _card(found):
    card = data_card(found)
    said = repr(card)
    must(said == core.printable(said, lines=True), "control characters in a card")
    must(card._repr_html_() and repr(found) and found._repr_markdown_(), "an empty card")
    found.rows()

def _converted(folder, reviews, items, choices, found):
    "Converted tables give the same data set."
    made = refused(parquet.convert, folder/"tables", reviews, items, **choices["load"])
    if choices["draw"]["sample"] is None: must(failed(made) == failed(found) or "do not fit the scale" in str(found), f"load and convert disagree: {str(found):.200}; {str(made):.200}")
    if failed(made) or failed(found): return
    again = refused(parquet.load_converted, made, **choices["draw"])
    must(not failed(again), f"converted, but not loaded: {again!r:.300}")
    differ = parquet.same_dataset(found, again)
    must(not differ, f"converted tables differ in {differ}")

def data_card(found):
    from mmrec.data.card import data_card
    return data_card(found)


def make_cells(rng):
    "Columns of cells: mostly alike, a few odd."
    write, n = make.notations(rng), rng.choice((1, 30, 300))
    what = rng.choice(["user", "item", "rating", "time", "text", "price", "image", "helpful", "verified", "odd"])
    if what == "odd": cells = [make.odd(rng) for _ in range(n)]
    else: cells = [make.odd(rng) if rng.random() < .1 else write[what](rng.randrange(99), k) for k in range(n)]
    as_text = rng.random() < .3
    return {"cells.pickle": packed([make._text(c) if as_text else c for c in cells])}, dict(scale=_odd_scale(rng), seed=rng.randrange(1 << 30))

def _odd_scale(rng):
    text = rng.choice(["1-5", "0.5-5:0.5", "thumbs", "bad<ok<good", "low=0..3<high=4..10", "a=1|2<b=3..5", '{"a": 1, "b": [2, "x"]}', "0..10", "1 to 5"])
    return make.mutated(rng, text.encode(), 4).decode("utf8", "surrogateescape") if rng.random() < .7 else text

def check_cells(folder, choices):
    cells = pickle.loads((folder/"cells.pickle").read_bytes())
    is_text = lambda x: isinstance(x, str) and not UNREADABLE.search(x)
    for cell in cells:
        key = ratings.rating_key(cell)
        must(key is None or isinstance(key, str) or isinstance(key, float) and math.isfinite(key), "a rating that is no number and no word")
        must(all(is_text(fields.as_id(cell, decimals, width)) for decimals in (False, True) for width in (0, 10)), "an identifier that is no text")
        must(type(fields.as_number(cell)) is float and type(fields.as_number(cell, True)) is float, "a number that is none")
        must(fields.as_flag(cell) in (True, False) if fields.as_flag(cell) is not pd.NA else True, "a flag that is none")
        must(is_text(fields.mended_text(cell)[0]) and is_text(fields.plain_text([cell, cell])), "a text that is none")
        must(type(fields.best_image_url(cell)) is str, "an address that is no text")
        fields.written_out(cell); fields.is_missing(cell); data.plain_text(cell)
    times, said = fields.parse_times(cells)
    must(len(times) == len(cells) and str(times.dtype) == "datetime64[ms, UTC]", "times of another kind")
    scale = refused(ratings.RatingScale.infer, cells)
    for s in (scale, refused(ratings.RatingScale.parse, choices["scale"])):
        if failed(s): continue
        code = s.encode(cells)
        must(len(code) == len(cells) and code.dropna().between(0, s.n - 1).all(), "a class that the scale has not")
        must(refused(ratings.RatingScale.parse, s.spec) == s, f"the scale {s.spec!r} is not read as itself")
    _surveyed(cells)
    core.printable(cells)
    refused(core.write_json, folder/"x.json", {"cells": cells}, but=(ValueError, RecursionError)) # digits and depths without end
    return len(cells)

def _surveyed(cells):
    "The evidence of a column, whatever it is taken for."
    every = dict.fromkeys(("user", "item", "rating", "title", "text", "time", "helpful", "price"), "x")
    found = fields.Survey(every, ("title", "text"))
    found.add(lambda what: cells, list(range(1, len(cells) + 1)))
    for day_first in (None, True):
        notation = found.notation(day_first, 10)
        must(len(notation.ids("item", cells)) == len(notation.numbers("price", cells)) == len(notation.times(cells)[0]) == len(cells), "cells that are gone")
    must(all(isinstance(s, str) for s in found.said(every)), "a sentence that is none")
    for spec in ("x", "x|y", "x+y", "x.a"): fields.cells_of([{"x": c, "y": c} for c in cells], spec, ("x", "y"))


def make_configs(rng):
    text = rng.choice(['shop_items = 500\nreviews = ["a.csv"]\n', 'columns = { user = "userId" }\nscale = "1-5"\nseed = 1\n', '[columns]\nuser = "u"\n', "epochs = 5 # some\nsample = 1000\n", '{"epochs": 3, "protocols": ["honest"]}'])
    data = make.mutated(rng, (text*rng.choice((1, 1, 2))).encode(), 4)
    if rng.random() < .3: data = make._json({rng.choice(["epochs", "columns", "reviews", "x", "seed", "protocols"]): make.odd(rng)}).encode("utf8", "replace")
    return {f"study.{rng.choice(['toml', 'toml', 'json'])}": data}, {}

def check_configs(folder, choices):
    from mmrec.pipeline import RunConfig
    from mmrec.report.paper import read_config
    path, = folder.iterdir()
    found = refused(read_config, path)
    if not failed(found): refused(lambda: RunConfig(**found))
    for kind in (None, dict): refused(core.read_json, path, kind)
    return 1


@functools.cache
def a_dataset():
    "Files of a converted data set, as name to bytes."
    with tempfile.TemporaryDirectory() as home:
        table = pd.DataFrame(dict(user=[f"u{k % 30}" for k in range(200)], item=[f"i{k % 20}" for k in range(200)], rating=[1 + k % 5 for k in range(200)], text=[f"word {k}" for k in range(200)], timestamp=[1_600_000_000 + k for k in range(200)]))
        table.to_csv(Path(home)/"r.csv", index=False)
        parquet.convert(Path(home)/"t", Path(home)/"r.csv")
        return {p.name: p.read_bytes() for p in (Path(home)/"t").iterdir()}

def _one_spoilt(rng, files):
    "A folder's files, one of them changed, cut, exchanged or gone."
    files, name = dict(files), rng.choice(list(files))
    if name.endswith(".json") and rng.random() < .7: files[name] = make._json(make.mutated_json(rng, json.loads(files[name]))).encode("utf8", "replace")
    elif rng.random() < .1: files[name] = files[rng.choice(list(files))]
    elif rng.random() < .05: del files[name]
    else: files[name] = make.mutated(rng, files[name], 3)
    return files

def make_converted(rng):
    files = dict(a_dataset())
    if rng.random() < .6: files["dataset.json"] = make._json(make.mutated_json(rng, json.loads(files["dataset.json"]))).encode("utf8", "replace")
    else: files = _one_spoilt(rng, files)
    return files, dict(sample=rng.choice((None, 20)), how=rng.choice(["uniform", "head", "2-core", "stars"]))

def check_converted(folder, choices):
    if not parquet.is_converted(folder): return 0
    found = refused(parquet.load_converted, folder, **choices)
    if not failed(found): _card(found)
    refused(parquet.converted_keys, folder)
    return 1


@functools.cache
def stored():
    "What the package keeps on disk: name to bytes."
    from mmrec.features.encode import FeatureStore
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as home:
        home = Path(home)
        fusion.Fusion(["text", "image"]).fit(dict(text=rng.normal(size=(9, 3)).astype("float32"), image=rng.normal(size=(9, 2)).astype("float32"))).save(home/"fusion.npz")
        store = FeatureStore(home/"features", "encoder", about=dict(label="x"))
        store.add(np.arange(1, 6, dtype=np.uint64), rng.normal(size=(5, 3)))
        with images.StatusIndex(home/"images") as index: index.add("http://a.example/b.jpg", status="http 404")
        core.write_json(home/"manifest.json", dict(files={"a": dict(bytes=1, sha256="0"*64)}, terms={}))
        core.write_json(home/"shop.json", dict(made_up=True))
        core.write_json(home/".a.part.json", dict(url="http://a", size=5, mark="x", sha256=None, etag=None)); (home/".a.part").write_bytes(b"ab")
        return {str(p.relative_to(home)): p.read_bytes() for p in home.rglob("*") if p.is_file()}

def make_stored(rng):
    files = _one_spoilt(rng, stored())
    place = core.MAKING + "0"*16
    files[f"{place}/{core.NOTE}"] = make.mutated(rng, b'{"made_by": "mmrec", "making": null, "pid": 1}', 3)
    return files, {}

def check_stored(folder, choices):
    from mmrec.features import encode as features
    refused(fusion.load_fusion, folder/"fusion.npz")
    for store in (folder/"features").glob("*/"):
        for piece in features.piece_paths(store): refused(features.map_tensors, piece, but=(ValueError, OSError))
    kept = refused(features.FeatureStore, folder/"features", "encoder", dim=3)
    if not failed(kept): must(kept.take(np.arange(9, dtype=np.uint64), 3).shape == (9, 3), "vectors of another shape")
    refused(features.list_stores, folder/"features")
    def index():
        with images.StatusIndex(folder/"images") as known: return known.get("http://a.example/b.jpg")
    refused(index)
    refused(fetch.read_manifest, folder)
    must(refused(lambda: fetch.Partial(folder/"a", "http://a").have) >= 0, "a part without a length")
    refused(data.is_made_up, folder)
    core.sweep(folder)
    refused(lambda: [features.remove_store(folder/"features", s["name"]) for s in features.list_stores(folder/"features")])
    return 1


ADDRESSES = ["http://a.example/b.jpg", "https://m.media-amazon.com/images/I/71abc._AC_SL1500_.jpg", "http://[::1]:80/x", "//a/b", "http://user:pw@h:99999/%zz?a&amp;b#c", "http://10.0.0.1/", "64:ff9b::7f00:1", "127.0.0.1", "fe80::1%eth0", "2002:7f00:1::", "/x/../y", "Größe.example/图"]
HEADERS = ["5", "120", "Fri, 31 Dec 2100 23:59:59 GMT", "1000", "5, 5", "W/\"abc\"", "bytes 0-4/10", "0"*64]

def make_headers(rng):
    spoilt = lambda text: make.mutated(rng, text.encode(), 4).decode(rng.choice(["latin1", "utf8"]), "replace") if rng.random() < .9 else str(rng.choice(make.ODD))
    return {}, dict(addresses=[spoilt(rng.choice(ADDRESSES)) for _ in range(20)], headers=[spoilt(rng.choice(HEADERS)) for _ in range(20)])

def check_headers(folder, choices):
    client = fetch.FetchClient()
    for url, said in zip(choices["addresses"], choices["headers"]):
        answer = SimpleNamespace(headers=CaseInsensitiveDict({"Retry-After": said, "Content-Length": said, "Location": url, "X-Linked-ETag": said}), status_code=503, reason=said)
        must(0 <= net.retry_after(answer) < math.inf, "a wait that is no time")
        length = refused(net.said_length, answer)
        must(failed(length) or length is None or 0 <= length <= 10**18, "a length that is none")
        must(isinstance(refused(client._refusal, answer), fetch.FetchError), "a refusal that is none")
        refused(net.redirect_target, "http://a.example/x", answer, but=ValueError)
        refused(net.is_public, url, but=ValueError); refused(net.is_public, said, but=ValueError)
        if not failed(refused(images.check_url, url)): images.image_id(url)
        for side in (None, 200): must(type(images.rendition(url, side)) is str, "an address that is no text")
        net.web_address(url); net.one_line(url); data.data_name(url.replace("\0", ""))
        refused(sampling.check_way, url)
    return len(choices["addresses"])


def make_pictures(rng):
    return {"picture": make.mutated(rng, rng.choice(make.pictures()), 6)}, {}

def check_pictures(folder, choices):
    path, data = folder/"picture", (folder/"picture").read_bytes()
    refused(images.open_picture, path); refused(images.open_picture, path, draft=4, max_pixels=100)
    refused(images.check_bytes, data)
    found = refused(images.open_image, path)
    must(failed(found) or found.mode == "RGB", "a picture that is not RGB")
    return 1


@functools.cache
def a_run():
    "Files of a run folder, as name to bytes: those of a small run, made once for all processes."
    if "MMREC_FUZZ_RUN" in os.environ: return pickle.loads(Path(os.environ["MMREC_FUZZ_RUN"]).read_bytes())
    from mmrec.pipeline import RunConfig, run
    with tempfile.TemporaryDirectory() as home:
        config = RunConfig(shop_items=60, shop_reviews=400, n_images=10, text="tfidf", epochs=1, draws=20, out=f"{home}/runs", data=f"{home}/data")
        folder = Path(run(config, say=lambda line: None))
        keep = [p for p in folder.rglob("*") if p.is_file() and p.suffix in (".json", ".parquet", ".npz", ".keras", ".png")]
        return {str(p.relative_to(folder)): p.read_bytes() for p in keep}

def make_runs(rng):
    files = dict(a_run())
    for _ in range(rng.choice((1, 1, 2))): files = _one_spoilt(rng, files)
    if rng.random() < .5: files["metrics.json"] = make._json(make.mutated_json(rng, json.loads(a_run()["metrics.json"]))).encode("utf8", "replace")
    return files, dict(to=rng.choice(["read", "read", "report", "paper", "explorer", "compare"]))

def check_runs(folder, choices):
    from mmrec.report import explorer, page as report, paper as writeup
    facts = refused(writeup.read_run, folder)
    if choices["to"] == "report": refused(report.write_report, folder)
    elif choices["to"] == "paper": refused(writeup.write_paper, folder, "md")
    elif choices["to"] == "explorer": refused(explorer.write_explorer, folder)
    elif not failed(facts): refused(explorer.Explorer, folder)
    return 1


def make_networks(rng):
    files = a_run()
    data = files["model.keras"]
    if rng.random() < .5: return {"model.keras": make.mutated(rng, data, 3)}, {}
    with zipfile.ZipFile(io.BytesIO(data)) as z: inner = {m: z.read(m) for m in z.namelist()}
    out = io.BytesIO()
    name = rng.choice(list(inner))
    if name.endswith(".json"): inner[name] = make._json(make.mutated_json(rng, json.loads(inner[name]))).encode("utf8", "replace")
    else: inner[name] = make.mutated(rng, inner[name], 3)
    with zipfile.ZipFile(out, "w") as z:
        for name, data in inner.items(): z.writestr(name, data)
    return {"model.keras": out.getvalue()}, {}

def check_networks(folder, choices):
    from mmrec.rating.network import load_classifier
    model = refused(load_classifier, folder/"model.keras")
    if not failed(model) and model.n_features_in_ < 10_000: model.predict(np.zeros((2, model.n_features_in_), dtype=np.float32))
    import keras
    keras.backend.clear_session()
    return 1


READERS = dict(files=60, cells=20, configs=6, converted=4, stored=4, headers=8, pictures=8, runs=1, networks=.5) # how often each is tried


# One case

def drawn(reader, number, seed):
    "Files and choices of a case."
    return globals()[f"make_{reader}"](random.Random(f"{seed}/{reader}/{number}"))

def write(files, folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in files.items(): (folder/name).parent.mkdir(parents=True, exist_ok=True); (folder/name).write_bytes(content)

@contextlib.contextmanager
def bounded():
    "No case takes more than so much time and memory; nothing it says is shown."
    def stop(number, frame): raise TooLong(f"over {CPU} s of the processor" if number == signal.SIGPROF else f"over {WALL} s")
    before = {s: signal.signal(s, stop) for s in (signal.SIGPROF, signal.SIGALRM)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            signal.setitimer(signal.ITIMER_PROF, CPU); signal.setitimer(signal.ITIMER_REAL, WALL)
            yield
    finally:
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL): signal.setitimer(timer, 0)
        for s, handler in before.items(): signal.signal(s, handler)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak)/1000
    must(grown < GROWTH, f"{grown:.0f} MB more at the peak than any case before")

def tried(reader, files, choices, folder):
    "(records, None) or (0, what was raised)."
    write(files, folder)
    try:
        with bounded(): return globals()[f"check_{reader}"](folder, choices), None
    except (Exception, TooLong) as e: return 0, e

def signature(error):
    "What two findings share when they are one."
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/mmrec/" in f.filename] or traceback.extract_tb(error.__traceback__)
    what = str(error).partition(":")[0][:60] if isinstance(error, (Flaw, TooLong)) else ""
    return " ".join([type(error).__name__, "in", f"{Path(frames[-1].filename).stem}.{frames[-1].name}" if not isinstance(error, Flaw) else frames[-1].name, "".join(c for c in what if not c.isdigit())]).strip()

def smaller(reader, files, choices, folder, error, seconds=20):
    "The files with all left out that the finding does not need: lines first, then bytes."
    wanted, end = signature(error), time.process_time() + seconds
    def still(trial):
        found = tried(reader, trial, choices, folder)[1]
        return found is not None and signature(found) == wanted
    for name in sorted(files):
        for by_line in (True, False):
            whole = packed if name.endswith(".pickle") else b"".join # a list of cells, or lines, or bytes
            parts = pickle.loads(files[name]) if whole == packed else files[name].splitlines(True) if by_line else [bytes([b]) for b in files[name]]
            size = (len(parts) + 1)//2
            while size and time.process_time() < end:
                at = 0
                while at < len(parts) and time.process_time() < end:
                    trial = parts[:at] + parts[at + size:]
                    if still({**files, name: whole(trial)}): parts = trial
                    else: at += size
                size //= 2
            files = {**files, name: whole(parts)}
    return files


# Many cases

def keep(place, case, seed, files, choices, error, folder):
    "Write a finding: its bytes, smaller where that goes, and its traceback."
    place = Path(place)/case
    write({f"whole/{k}": v for k, v in files.items()}, place)
    told = "".join(traceback.format_exception(error, limit=-12)) if isinstance(error, BaseException) else str(error)
    (place/"traceback.txt").write_text(told, encoding="utf8", errors="backslashreplace")
    (place/"case.pickle").write_bytes(packed(dict(case=case, seed=seed, choices=choices)))
    (place/"case.txt").write_text(f"{case}, seed {seed}: {core.printable(choices)}\n", encoding="utf8")
    if isinstance(error, Exception) and case.partition("-")[0] in ("files", "cells", "configs") and error.__class__ is not MemoryError:
        less = smaller(case.partition("-")[0], files, choices, folder, error)
        for name, content in less.items(): (place/"small"/name).parent.mkdir(parents=True, exist_ok=True); (place/"small"/name).write_bytes(content)
    return told

def worker(args, k):
    "Try every `args.workers`-th case from `k` on until the time is over; a line of JSON for each second and each finding."
    say = lambda **what: print(json.dumps(what), flush=True)
    sys.setrecursionlimit(1000)
    home = Path(tempfile.mkdtemp(prefix=f"mmrec-fuzz-{k}-"))
    os.environ.update(TMPDIR=str(home)); tempfile.tempdir = str(home)
    readers = args.readers or list(READERS)
    for reader in readers: tried(reader, *drawn(reader, "warm", args.seed), home/"case") # imports and caches, so that growth means something
    import psutil
    rss = lambda: psutil.Process().memory_info().rss/1e6
    seen, n, records, begin, last, first = set(), 0, {r: 0 for r in readers}, time.monotonic(), 0, None
    spent = {r: 0. for r in readers}
    for number in itertools.count(k, args.workers):
        if time.monotonic() - begin > args.seconds: break
        reader = random.Random(f"{args.seed}/{number}").choices(readers, [READERS[r] for r in readers])[0]
        files, choices = drawn(reader, number, args.seed)
        (home/"now.pickle").write_bytes(packed((f"{reader}-{number}", choices)))
        faulthandler.dump_traceback_later(2*WALL, exit=True)
        start = time.monotonic()
        got, error = tried(reader, files, choices, home/"case")
        faulthandler.cancel_dump_traceback_later()
        n, records[reader], spent[reader] = n + 1, records[reader] + got, spent[reader] + time.monotonic() - start
        if error is not None and (what := signature(error)) not in seen:
            seen.add(what)
            told = keep(args.findings, f"{reader}-{number}", args.seed, files, choices, error, home/"case")
            say(finding=what, case=f"{reader}-{number}", told=told)
        if time.monotonic() - begin > args.seconds/3 and first is None: first = rss()
        if time.monotonic() - last > 1: last = time.monotonic(); say(cases=n, records=records, spent=spent, rss=rss(), home=str(home))
    say(cases=n, records=records, spent=spent, rss=rss(), grown=rss() - (first or rss()), home=str(home), done=True)
    shutil.rmtree(home, ignore_errors=True)

def fuzz(args):
    "Start the workers, show how far they are, gather what they find; the number of different findings."
    print(f"seed {args.seed}, {args.seconds:g} s, {args.workers} processes; findings go to {args.findings}", flush=True)
    command = [sys.executable, __file__, "--seed", str(args.seed), "--seconds", str(args.seconds), "--workers", str(args.workers), "--findings", str(args.findings), *(["--readers", *args.readers] if args.readers else [])]
    with tempfile.NamedTemporaryFile(suffix=".pickle") as kept:
        if {"runs", "networks"} & set(args.readers or READERS):
            made = subprocess.run([sys.executable, __file__, "--make-run", kept.name], capture_output=True, text=True)
            if made.returncode: sys.exit(f"the run to be spoilt could not be made:\n{made.stderr}")
        return _fuzz(args, [*command, "--worker"], {**os.environ, "MMREC_FUZZ_RUN": kept.name})

def _fuzz(args, command, env):
    running = [subprocess.Popen([*command, str(k)], stdout=subprocess.PIPE, text=True, env=env) for k in range(args.workers)]
    state, found, lock = [{} for _ in running], {}, threading.Lock()
    def listen(k):
        for line in running[k].stdout:
            try: said = json.loads(line)
            except ValueError: continue
            with lock:
                if "finding" not in said: state[k] = said; continue
                if said["finding"] in found: continue
                found[said["finding"]] = said["case"]
            print(f"\n{said['case']}: {said['finding']}\n{core.printable(said['told'], lines=True)}", flush=True)
    threads = [threading.Thread(target=listen, args=(k,), daemon=True) for k in range(args.workers)]
    for t in threads: t.start()
    begin = shown = time.monotonic()
    while any(t.is_alive() for t in threads):
        time.sleep(.5)
        if time.monotonic() - shown < (1 if sys.stdout.isatty() else 30): continue
        shown = time.monotonic()
        print(f"{shown - begin:5.0f} s: {_sum(state, 'cases'):,} cases, {_records(state):,} records, {len(found)} findings", end="\r" if sys.stdout.isatty() else "\n", flush=True)
    for k, process in enumerate(running): _ended(process, state[k], args, found)
    spent = {r: sum(s.get("spent", {}).get(r, 0) for s in state) for r in READERS}
    print(f"\n{_sum(state, 'cases'):,} cases, {_records(state):,} records in {time.monotonic() - begin:.0f} s (" + ", ".join(f"{r} {_records(state, r):,} in {s:.0f} s" for r, s in spent.items()) + f"): {len(found)} findings")
    for what, case in found.items(): print(f"  {case}: {what}    (make fuzz SEED={args.seed} CASE={case})")
    return len(found)

def _sum(state, what): return sum(s.get(what, 0) for s in state)
def _records(state, reader=None): return sum(n for s in state for r, n in s.get("records", {}).items() if reader in (None, r))

def _ended(process, state, args, found):
    "A worker that died, or one that has grown."
    home = Path(state.get("home", "/nonexistent"))
    if process.wait() and (home/"now.pickle").exists():
        case, choices = pickle.loads((home/"now.pickle").read_bytes())
        files = {str(p.relative_to(home/"case")): p.read_bytes() for p in (home/"case").rglob("*") if p.is_file()}
        found[f"the process ended with {process.returncode}"] = case
        keep(args.findings, case, args.seed, files, choices, f"the process ended with {process.returncode}", home/"case")
    elif process.returncode: found[f"a process ended with {process.returncode}"] = "?"
    if state.get("grown", 0) > GROWTH: found[f"{state['grown']:.0f} MB more at the end than after a third of the time"] = "?"
    shutil.rmtree(home, ignore_errors=True)

def again(args):
    "Try one case again, from its number or from the folder of a finding."
    if Path(args.case).is_dir():
        about = pickle.loads((Path(args.case)/"case.pickle").read_bytes())
        part = Path(args.case)/("small" if (Path(args.case)/"small").exists() else "whole")
        reader, choices, files = about["case"].partition("-")[0], about["choices"], {str(p.relative_to(part)): p.read_bytes() for p in part.rglob("*") if p.is_file()}
    else:
        reader, _, number = args.case.partition("-")
        files, choices = drawn(reader, number, args.seed)
    with tempfile.TemporaryDirectory() as home: records, error = tried(reader, files, choices, Path(home)/"case")
    print(core.printable(choices))
    if error: traceback.print_exception(error)
    else: print(f"{records} records, nothing found")
    return bool(error)

def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", default=None, help="default: drawn anew")
    parser.add_argument("--workers", type=int, default=max(1, min(2, os.cpu_count() or 1)))
    parser.add_argument("--findings", default="fuzz-findings", help="folder for what is found")
    parser.add_argument("--readers", nargs="+", choices=list(READERS), help="some of them only")
    parser.add_argument("--case", help="try one case again, such as files-17, or the folder of a finding")
    for hidden in ("--worker", "--make-run"): parser.add_argument(hidden, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.make_run: return Path(args.make_run).write_bytes(packed(a_run())) and 0
    args.seed = args.seed or str(random.SystemRandom().randrange(10**6))
    if args.worker is not None: return worker(args, int(args.worker))
    return 1 if (again(args) if args.case else fuzz(args)) else 0

if __name__ == "__main__": sys.exit(main())
