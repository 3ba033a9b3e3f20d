"What a person meets at the command line: results, and one clear line when something is wrong."
import contextlib, errno, functools, gzip, json, os, re, resource, shlex, shutil, signal, subprocess, sys, threading, time
from dataclasses import fields
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mmrec import pipeline
from mmrec.cli import COMMANDS, EXIT_CODES, GROUPS, SECTIONS, SHELLS, completion_script, main, make_parser, parse
from mmrec.core import read_json

MMREC = [sys.executable, "-c", "import sys; from mmrec.cli import main; sys.exit(main())"]


def ratings(n=300, seed=0):
    "A made-up table in which the words tell the rating."
    rng = np.random.default_rng(seed)
    stars = rng.choice(5, n, p=[.1, .07, .09, .15, .59]) + 1
    words = [["awful", "bad", "so-so", "good", "lovely"][s - 1] for s in stars]
    return pd.DataFrame(dict(user=[f"u{u}" for u in rng.integers(0, 200, n)], item=[f"i{i}" for i in rng.integers(0, 60, n)], rating=stars,
                             text=[f"{w} {noun} number {k}" for k, (w, noun) in enumerate(zip(words, rng.choice(["hat", "bag", "coat"], n)))]))


@pytest.fixture
def table(tmp_path):
    path = tmp_path/"reviews.csv"
    ratings().to_csv(path, index=False)
    return path


@pytest.fixture
def undrawn(monkeypatch):
    "Runs without figures, which take half of a small run's time, for tests that look at numbers or at what is said."
    monkeypatch.setattr(pipeline, "save_figures", lambda *args, **kwargs: None)


def options(tmp_path, *more):
    "Quick settings, everything below `tmp_path`."
    return ["--text", "tfidf", "--image", "none", "--epochs", "2", "--draws", "50", "--protocols", "honest",
            "--out", str(tmp_path/"runs"), "--data", str(tmp_path/"data"), *more]


def fails(capfd, *argv):
    "Call the command line, which must fail with one line and leave no run; the line."
    code = main([str(a) for a in argv])
    said = capfd.readouterr().err.strip()
    assert code == 1 and len(said.splitlines()) == 1 and said.startswith("mmrec: "), said
    return said


def no_run(tmp_path):
    return not list((tmp_path/"runs").glob("*")) if (tmp_path/"runs").exists() else True


def test_help_is_quick_and_lists_all_commands():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([*MMREC, "--help"], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1 # seconds of the processor
    assert done.returncode == 0 and all(c in done.stdout for c in ("run", "fetch", "describe", "convert", "shop", "report", "version"))
    assert "Examples:" in subprocess.run([*MMREC, "run", "--help"], capture_output=True, text=True).stdout


def test_a_table_of_ones_own(tmp_path, table, capsys):
    assert main(["run", "--reviews", str(table), *options(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "Numbers on real data: reviews" in said and "report: file://" in said
    folder, = (tmp_path/"runs").iterdir()
    assert {p.name for p in folder.iterdir()} >= {"metrics.json", "predictions.parquet", "model.keras", "fusion.npz", "figures", "report.html"}
    metrics = read_json(folder/"metrics.json")
    rows = {r["model"]: r for r in metrics["protocols"]["honest"]["table"]}
    assert rows["TF-IDF + logistic regression"]["accuracy"] > rows["majority class"]["accuracy"]
    assert metrics["command"].startswith("mmrec run --reviews")
    assert main(["report", str(folder)]) == 0


@pytest.mark.usefixtures("undrawn")
def test_both_protocols_agree_on_nothing_but_the_data(tmp_path, table):
    assert main(["run", "--reviews", str(table), *options(tmp_path), "--protocols", "honest", "course"]) == 0
    protocols = read_json(next((tmp_path/"runs").iterdir())/"metrics.json")["protocols"]
    assert protocols["course"]["leakage"]["test row steered the training"] == 1
    assert "test row steered the training" not in protocols["honest"]["leakage"]
    assert protocols["honest"]["leakage"]["same product in training"] == 0 < protocols["course"]["leakage"]["same product in training"]


@pytest.mark.usefixtures("undrawn")
def test_half_stars_run_through(tmp_path):
    half = ratings().assign(rating=lambda t: t.rating/2)
    half.to_csv(tmp_path/"half.csv", index=False)
    assert main(["run", "--reviews", str(tmp_path/"half.csv"), "--scale", "0.5-2.5:0.5", *options(tmp_path)]) == 0
    metrics = read_json(next((tmp_path/"runs").iterdir())/"metrics.json")
    assert metrics["scale"]["values"] == [.5, 1, 1.5, 2, 2.5]
    majority = metrics["protocols"]["honest"]["table"][0]
    assert majority["MAE"] < 1 # in units of the scale: half of what it is in stars


@pytest.mark.usefixtures("undrawn")
def test_named_classes_run_through(tmp_path):
    named = ratings().assign(rating=lambda t: np.where(t.rating > 3, "good", np.where(t.rating == 3, "ok", "bad")))
    named.to_csv(tmp_path/"named.csv", index=False)
    assert main(["run", "--reviews", str(tmp_path/"named.csv"), "--scale", "bad<ok<good", *options(tmp_path)]) == 0
    assert read_json(next((tmp_path/"runs").iterdir())/"metrics.json")["scale"]["names"] == ["bad", "ok", "good"]


@pytest.mark.parametrize("content, expected", [
    (None, "reviews.jsonl"), (b"", "empty"), (b'{"a": 1}\n{"a": 2}\n', "--columns item=COLUMN"),
    (gzip.compress(json.dumps(dict(user="u", item="i", rating=5, text="t")).encode()*2000)[:-20], "reviews"),
    (bytes(range(256))*50, "reviews"), (b'{"user":"u","item":"i","rating":5,"text":"' + b"x"*50_000_000 + b'"}\n', "reviews"),
    (b"user,item,rating,text\n" + b"u,i,lovely thing,t\nu,j,never again,t\nu,k,hm,t\n"*9, "scale"),
    (b"user,item,rating,text\n", "there is a header, but no row"), (b"user,item,rating,text\n" + b"".join(b"u%d,i%d,5,thing %d\n" % (k, k % 40, k) for k in range(300)), "nothing to learn")],
    ids=["missing", "empty", "wrong schema", "truncated gzip", "binary", "50 MB line", "words for ratings", "header alone", "one rating alone"])
def test_bad_files_end_in_one_line(tmp_path, capfd, content, expected):
    path = tmp_path/("reviews.jsonl" if content is None or not content.startswith((b"\x1f\x8b", b"user,")) else "reviews.jsonl.gz" if content.startswith(b"\x1f") else "reviews.csv")
    if content is not None: path.write_bytes(content)
    assert expected in fails(capfd, "run", "--reviews", path, *options(tmp_path))
    assert no_run(tmp_path)


@pytest.mark.parametrize("argv, expected", [
    (["--epochs", "0"], "epochs: 0 is too small — 1 is the least"), (["--seed", "-1"], "0 is the least"), (["--seed", "99999999999"], "4294967295 is the most"),
    (["--draws", "1"], "10 is the least"), (["--sample", "-5"], "0 is the least"), (["--n-images", "-1"], "0 is the least"), (["--out", ""], "the name is empty"),
    (["--text", ""], "the name is empty"), (["--items", ""], "the name is empty"), (["--reviews", ""], "reviews: the name is empty"), # as an unset variable of a shell gives it
    (["--text", "no/such-model-anywhere"], "no/such-model-anywhere"), (["--text", "some_folder"], "some_folder"),
    (["--columns", "rating=grade"], "grade"), (["--scale", "1-x"], "1-x"), (["--split", "time"], "no time"),
    (["--draw", "magic"], "magic"), (["--columns", "rating=grade,text=prose"], "grade")])
def test_bad_choices_end_in_one_line(tmp_path, table, capfd, monkeypatch, argv, expected):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    (tmp_path/"some_folder").mkdir()
    monkeypatch.chdir(tmp_path)
    assert expected in fails(capfd, "run", "--reviews", table, *options(tmp_path), *argv)
    assert no_run(tmp_path)


def test_corrupted_weights_are_refused(tmp_path, table, capfd):
    (tmp_path/"weights.pth").write_bytes(b"not weights at all"*100)
    (tmp_path/"pictures").mkdir()
    from PIL import Image
    for i in range(60): Image.new("RGB", (32, 32), (i, 90, 90)).save(tmp_path/"pictures"/f"i{i}.jpg")
    said = fails(capfd, "run", "--reviews", table, *options(tmp_path), "--images", tmp_path/"pictures", "--image", f"squeezenet1_1:{tmp_path/'weights.pth'}")
    assert "weights.pth" in said and no_run(tmp_path)


def test_out_is_a_file(tmp_path, table, capfd):
    (tmp_path/"runs").write_text("in the way")
    assert "runs" in fails(capfd, "run", "--reviews", table, *options(tmp_path))


def test_folder_without_permission(nobodys, capfd):
    ratings().to_csv(nobodys/"reviews.csv", index=False)
    (nobodys/"runs").mkdir(mode=0o500)
    said = fails(capfd, "run", "--reviews", nobodys/"reviews.csv", *options(nobodys))
    assert "permission" in said and "runs" in said


@pytest.mark.usefixtures("undrawn")
def test_full_disk_half_way(tmp_path, table, capfd, monkeypatch):
    def full(*_): raise OSError(errno.ENOSPC, "No space left on device", "metrics.json")
    monkeypatch.setattr(pipeline, "write_json", full)
    monkeypatch.setenv("MMREC_PROGRESS", "0") # an unfinished bar would stand on the error's line
    assert "No space left" in fails(capfd, "run", "--reviews", table, *options(tmp_path))
    assert no_run(tmp_path)


@pytest.mark.parametrize("stage", ["read_data", "documents", "text_vectors", "tfidf_logreg", "fit_network", "save_figures", "write_report"])
def test_ctrl_c_in_each_stage(tmp_path, table, capfd, monkeypatch, stage):
    def stop(*_, **__): raise KeyboardInterrupt
    if stage == "write_report": monkeypatch.setattr(pipeline, "save_figures", lambda *args, **kwargs: None)
    monkeypatch.setattr(pipeline, stage, stop)
    assert main(["run", "--reviews", str(table), *options(tmp_path)]) == 130
    assert "run the same command to go on" in capfd.readouterr().err
    assert not list((tmp_path/"runs").iterdir())


def test_a_real_ctrl_c_and_a_second_try(tmp_path):
    command = [*MMREC, "shop", str(tmp_path/"shop"), "--items", "150", "--reviews", "900"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob(".mmrec-making-*/shop/images")) and process.poll() is None: time.sleep(.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130 and not list(tmp_path.iterdir())
    assert subprocess.run(command, capture_output=True).returncode == 0 and (tmp_path/"shop"/"shop.json").exists()


@pytest.mark.usefixtures("undrawn")
def test_unreachable_pictures_do_not_stop_a_run(tmp_path, capsys):
    reviews = ratings()
    reviews.to_csv(tmp_path/"reviews.csv", index=False)
    names = sorted(set(reviews.item))
    pd.DataFrame(dict(item=names, title=[f"thing {n}" for n in names], image="https://pictures.invalid/a.jpg")).to_csv(tmp_path/"items.csv", index=False)
    quick = [a for a in options(tmp_path) if a not in ("--image", "none")]
    assert main(["run", "--reviews", str(tmp_path/"reviews.csv"), "--items", str(tmp_path/"items.csv"), *quick]) == 0
    assert "goes on with text alone" in capsys.readouterr().out


def test_describe_says_what_cleaning_did(tmp_path, capsys):
    (tmp_path/"reviews.csv").write_text("user,item,rating,text\n" + "ann,hat,5,warm\n"*2 + "bob,hat,4,small\ncid,bag,eleven,?\n")
    assert main(["describe", "--reviews", str(tmp_path/"reviews.csv"), "--scale", "1-5"]) == 0
    said = capsys.readouterr().out
    assert "duplicate" in said and "line" in said


def test_describe_draws_a_card(tmp_path, table, capsys):
    assert main(["describe", "--reviews", str(table), "--sample", "50", "--figure", str(tmp_path/"card.png")]) == 0
    said = capsys.readouterr().out
    assert said.startswith("reviews: always guessing “5” is right in") and "all 300 rows" in said and (tmp_path/"card.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.usefixtures("undrawn")
def test_a_run_on_converted_tables_gives_the_same_numbers(tmp_path, table, capsys):
    assert main(["convert", str(tmp_path/"tables"), "--reviews", str(table)]) == 0
    assert "next: mmrec run --reviews" in capsys.readouterr().out
    for reviews in (table, tmp_path/"tables"): assert main(["run", "--reviews", str(reviews), "--name", "same", *options(tmp_path), "--sample", "200"]) == 0
    a, b = (read_json(folder/"metrics.json") for folder in (tmp_path/"runs").iterdir())
    assert a["protocols"] == b["protocols"] and a["summary"] == b["summary"]
    assert main(["describe", "--reviews", str(tmp_path/"tables"), "--sample", "50"]) == 0 and "all 300 rows" in capsys.readouterr().out


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("draw", ["stars", "balanced", "users", "1-core"])
def test_rows_are_drawn_as_asked(tmp_path, table, draw):
    assert main(["run", "--reviews", str(table), *options(tmp_path), "--sample", "150", "--draw", draw]) == 0
    metrics = read_json(next((tmp_path/"runs").iterdir())/"metrics.json")
    assert metrics["source"]["sample"]["how"] == draw and f"drawn by “{draw}”" in metrics["protocols"]["honest"]["says"]
    assert metrics["command"].endswith(f"--draw {draw}") or f"--draw {draw} " in metrics["command"]


@pytest.mark.parametrize("argv, says", [(["--draw", "6-months"], "no column for the time"), (["--draw", "9-core"], "no row is left by '9-core'"), (["--draw", "luck"], "no way of drawing")])
def test_ways_of_drawing_that_cannot_be(tmp_path, table, capfd, argv, says):
    assert says in fails(capfd, "run", "--reviews", table, *options(tmp_path), *argv) and no_run(tmp_path)


def test_convert_and_fetch_refuse_in_one_line(tmp_path, table, capfd):
    assert "holds no converted data" in fails(capfd, "convert", tmp_path, "--reviews", table)
    assert "no file named" in fails(capfd, "convert", tmp_path/"t")
    assert "no category named" in fails(capfd, "fetch")
    assert "Amazon_Fashion" in fails(capfd, "fetch", "amazon-fashon", "--to", tmp_path/"raw")


def test_fetch_lists_its_categories(capsys):
    assert main(["fetch", "--list"]) == 0
    names = capsys.readouterr().out.split()
    assert len(names) == 34 and {"Amazon_Fashion", "Unknown"} <= set(names) # 33 categories and those of no category


@contextlib.contextmanager
def a_host(tmp_path):
    "A host on this machine that has the files of Amazon Fashion, made up: (its address, the list of what it was asked)."
    from mmrec.sim.shop import make_shop
    shop, asked = make_shop(tmp_path/"host-shop", 60, 400), []
    for folder, file in (("review_categories", shop.reviews_path), ("meta_categories", shop.meta_path)):
        (tmp_path/"host"/"raw"/folder).mkdir(parents=True)
        (tmp_path/"host"/"raw"/folder/f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args): asked.append(self.path)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=tmp_path/"host"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try: yield f"http://127.0.0.1:{server.server_port}", asked
    finally: server.shutdown(); server.server_close()


def test_fetch_from_a_host_of_ones_own(tmp_path, capfd):
    "The whole command against a local host; a second call asks nothing."
    with a_host(tmp_path) as (url, asked):
        argv = ["fetch", "amazon-fashion", "--to", str(tmp_path/"raw"), "--host", url]
        assert main(argv) == 0
        said = capfd.readouterr()
        assert "next: mmrec run --reviews" in said.out and "research" in said.err and len(asked) == 2
        assert main(argv) == 0 and len(asked) == 2 and "research" not in capfd.readouterr().err
    assert main(["describe", "--reviews", str(tmp_path/"raw"/"Amazon_Fashion.jsonl.gz"), "--items", str(tmp_path/"raw"/"meta_Amazon_Fashion.jsonl.gz")]) == 0


def test_vectors_that_are_kept_are_listed_and_removed(tmp_path, table, capsys):
    data = str(tmp_path/"data")
    assert main(["features", "ls", "--data", data]) == 0 and "no vectors are kept" in capsys.readouterr().out
    from mmrec.features.encode import encode
    from mmrec.features.text import text_encoder
    encode(text_encoder("minilm", precision="exact"), ["warm", "soft"], tmp_path/"data"/"vectors", dtype="float16")
    assert main(["features", "ls", "--data", data]) == 0
    name = next(line.split()[0] for line in capsys.readouterr().out.splitlines() if "MiniLM" in line)
    assert main(["features", "rm", "--data", data]) == 1 and main(["features", "rm", "zz", "--data", data]) == 1
    assert main(["features", "rm", name[:6], "--data", data]) == 0 and not list((tmp_path/"data"/"vectors").iterdir())


def test_claims_are_judged_on_a_table_of_ones_own(tmp_path, table, capsys):
    words = ["compare", "--reviews", str(table), "--text", "tfidf", "--image", "none", "--seeds", "1", "--draws", "50", "--out", str(tmp_path/"runs"), "--data", str(tmp_path/"data")]
    assert main(words) == 0, capsys.readouterr().err
    folder, = (tmp_path/"runs").iterdir()
    assert {p.name for p in folder.iterdir()} == {"claims.csv", "ablation.csv", "ablation.png"}
    assert "DistilBERT" in capsys.readouterr().out or pd.read_csv(folder/"claims.csv").size


# the command line as such

def words(line): return shlex.split(line)[1:]

LINES = [(name, line) for name, c in COMMANDS.items() for line, _ in c.examples]
QUICK = {"run": "--text tfidf --image classical --epochs 1 --draws 20 --protocols honest --sample 300 --n-images 40 --shop-items 60 --shop-reviews 400",
         "compare": "--text tfidf --image none --draws 20 --sample 300 --seeds 1 --shop-items 60 --shop-reviews 400", "shop": "--items 60 --reviews 400"}


@pytest.mark.parametrize("name, line", LINES, ids=[line for _, line in LINES])
def test_examples_are_understood(name, line):
    assert parse(words(line))[0] == words(line)[0] and line.startswith("mmrec ")


def test_every_command_has_a_line_a_section_and_examples():
    for name, c in COMMANDS.items():
        assert c.section in SECTIONS and c.examples and len(c.about) <= 66 and c.about[0].islower() and not c.about.endswith("."), name
        assert any(words(line)[0] == name for line, _ in c.examples), name
        assert all(why and not why.endswith(".") for _, why in c.examples), name


def test_every_field_of_a_run_is_in_a_group_and_says_what_it_is():
    grouped = " ".join(GROUPS.values()).split()
    assert sorted(grouped) == sorted({f.name for f in fields(pipeline.RunConfig)})
    parts = subparsers(make_parser("all"))
    assert all(a.help for part in parts.values() for a in part._actions)
    assert not [a.dest for a in parts["run"]._actions if a.help.count("(default") > 1]


def subparsers(top): return next(a for a in top._actions if a.dest == "command").choices


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    "A folder with the files that the examples name, all made up."
    from mmrec.sim.shop import make_shop
    folder = tmp_path_factory.mktemp("desk")
    shop = make_shop(folder/"a-shop", 60, 400)
    for source, name in ((shop.reviews_path, "Amazon_Fashion"), (shop.meta_path, "meta_Amazon_Fashion")): (folder/f"{name}.jsonl.gz").write_bytes(gzip.compress(source.read_bytes()))
    old = [dict(overall=float(r.rating), verified=True, reviewerID=r.user, asin=r.item, reviewText=r.text, summary="so", unixReviewTime=1500000000) for r in ratings().itertuples()]
    (folder/"AMAZON_FASHION_5.json.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, old)).encode()))
    films = ratings().assign(rating=lambda t: t.rating/2, timestamp=1500000000 + np.arange(300)).rename(columns=dict(user="userId", item="movieId"))
    films.to_csv(folder/"ratings.csv", index=False)
    (folder/"study.toml").write_text("epochs = 1\n")
    names = sorted(set(films.movieId))
    pd.DataFrame(dict(movieId=names, title=[f"film {n}" for n in names], genres="drama")).to_csv(folder/"movies.csv", index=False)
    (folder/"posters").mkdir()
    for k, name in enumerate(names): Image.new("RGB", (32, 32), (k*4, 90, 90)).save(folder/"posters"/f"{name}.jpg")
    return folder


def ready(folder, name, line):
    "Make what an example takes for granted: a run, a store of vectors."
    if name in ("report", "features") and not list((folder/"runs").glob("*/metrics.json")): assert main(["run", *QUICK["run"].split()]) == 0
    for word in words(line):
        if word.startswith("runs/") and not (folder/word).exists(): shutil.copytree(next(p.parent for p in (folder/"runs").glob("*/metrics.json")), folder/word)
    if line.endswith(" 3f2a"): next((folder/"data"/"vectors").iterdir()).rename(folder/"data"/"vectors"/"3f2a00000000")


@pytest.mark.parametrize("name, line", [(n, line) for n, line in LINES if n != "fetch" or "--list" in line], ids=[line for n, line in LINES if n != "fetch" or "--list" in line])
def test_examples_run(desk, monkeypatch, capfd, name, line):
    "On a small shop and small tables; those of `fetch` need the network and are tried with a host of our own below."
    monkeypatch.chdir(desk)
    ready(desk, name, line)
    if line != "mmrec run": monkeypatch.setattr(pipeline, "save_figures", lambda *args, **kwargs: None)
    assert main([*words(line), *QUICK.get(words(line)[0], "").split()]) == 0, capfd.readouterr().err
    assert capfd.readouterr().out


def readme_commands():
    "The commands of README.md, in order, with broken lines joined."
    text = (Path(__file__).parents[1]/"README.md").read_text(encoding="utf8")
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S):
        for line in block.replace("\\\n", "").splitlines():
            if line.startswith(".venv/bin/mmrec "): yield line.removeprefix(".venv/bin/").partition(" #")[0]


def test_the_commands_of_the_readme_run_in_a_clean_folder(desk, tmp_path, monkeypatch, capfd):
    "As they stand, with less of everything, smaller encoders and a host of our own."
    for name in ("AMAZON_FASHION_5.json.gz", "movies.csv"): shutil.copy(desk/name, tmp_path)
    shutil.copy(desk/"AMAZON_FASHION_5.json.gz", tmp_path/"Gift_Cards_5.json.gz")
    shutil.copytree(desk/"posters", tmp_path/"posters")
    pd.read_csv(desk/"ratings.csv").to_csv(tmp_path/"ratings.csv.gz", index=False)
    items = pd.read_csv(desk/"movies.csv").movieId
    pd.DataFrame(dict(movieId=items, overview="once upon a time", genres="drama")).to_csv(tmp_path/"overviews.csv.gz", index=False)
    (tmp_path/"meta_Gift_Cards.json.gz").write_bytes(gzip.compress("\n".join(json.dumps(dict(asin=i, title=f"card {i}")) for i in items).encode()))
    monkeypatch.chdir(tmp_path)
    with a_host(tmp_path) as (url, _):
        for line in readme_commands():
            more = f"--host {url}" if line.startswith("mmrec fetch") else QUICK.get(words(line)[0], "")
            assert main([*words(line), *more.split()]) == 0, (line, capfd.readouterr().err)
    assert (tmp_path/"card.png").exists() and len(list((tmp_path/"runs").glob("*/report.html"))) >= 4


def test_the_overview_lists_every_command_in_its_section():
    text = make_parser().format_help()
    at = [text.index(f"\n{heading}:") for key, heading in SECTIONS.items() if any(c.section == key for c in COMMANDS.values())]
    assert at == sorted(at) and all(f"\n  {name:<12}{c.about[:20]}" in text for name, c in COMMANDS.items())
    assert all(f"\n  {code:<16}" in text for code in EXIT_CODES) and "Where to begin" in text


@pytest.mark.parametrize("columns", [50, 60, 80, 200])
def test_help_adapts_to_the_width(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    top = make_parser("all")
    for part in (top, *subparsers(top).values()):
        assert max(len(line) for line in part.format_help().split("\nExamples")[0].splitlines() if "=" not in line and "{" not in line) <= min(max(columns, 42), 100)


def test_a_command_gets_its_options_only_when_it_is_called():
    for name in COMMANDS:
        lazy, full = subparsers(make_parser(name)), subparsers(make_parser("all"))
        assert [a.dest for a in lazy[name]._actions] == [a.dest for a in full[name]._actions]
        assert all(len(lazy[other]._actions) == 2 for other in COMMANDS if other != name)


@pytest.mark.parametrize("line, says", [
    ("mmrec rnu", "mmrec: unknown command 'rnu' — did you mean run?"), ("mmrec --hepl", "mmrec: unknown option --hepl — did you mean --help?"),
    ("mmrec run --revews a.csv", "mmrec run: unknown option --revews — did you mean --reviews?"), ("mmrec run --rev a.csv", "mmrec run: unknown option --rev — did you mean --reviews?"),
    ("mmrec run --revews=a.csv", "mmrec run: unknown option --revews — did you mean --reviews?"), ("mmrec run a.csv", "mmrec run: unexpected word 'a.csv' — did you mean --reviews a.csv?"),
    ("mmrec shop a b", "mmrec shop: unexpected word 'b' — mmrec shop --help shows what there is"), ("mmrec shop", "mmrec shop: missing: FOLDER — mmrec shop --help shows what there is"),
    ("mmrec run --split tme", "mmrec run: unknown value for --split: 'tme' — did you mean time?"), ("mmrec run --missing guess", "choose from mask, mean, error"),
    ("mmrec run --text-from nowhere", "choose from auto, review, title+review, item"), ("mmrec run --protocols honest curse", "did you mean course?"),
    ("mmrec fetch --year 2019", "did you mean 2018?"), ("mmrec run --epochs few", "'few' is no whole number"), ("mmrec run --columns user", "write name=column"),
    ("mmrec run --sample", "mmrec run: --sample: expected one argument — mmrec run --help shows what there is"), ("mmrec features lst", "did you mean ls?"),
    ("mmrec compare --seeds 0", "write 1 or more"), ("mmrec describe --reviews a.csv --figure card.xyz", "end it in .png, .pdf or .svg"), ("mmrec completion dash", "did you mean bash?"), ("mmrec help rn", "did you mean run?"), ("mmrec run --debug --shop-pictures ugly", "choose from informative, useless, reversed")])
def test_slips_end_in_one_line_and_code_2(capfd, line, says):
    assert main(words(line)) == 2
    said = capfd.readouterr()
    assert says in said.err and len(said.err.splitlines()) == 1 and not said.out


def test_every_choice_is_one_that_a_run_accepts():
    "What the command line offers, the chapters know."
    from mmrec.features.engines import PRECISIONS
    from mmrec.data.fields import TABLE_FORMATS
    from mmrec.features.fusion import Fusion
    from mmrec.data.sampling import check_way
    from mmrec.sim.world import fashion_world
    offered = {f.name: f.metadata.get("choices") or f.metadata.get("some") for f in fields(pipeline.RunConfig)}
    assert set(offered["precision"]) == {"auto", *PRECISIONS} and set(offered["format"]) == {"auto", "table", *TABLE_FORMATS}
    for way in offered["draw"]: check_way(way)
    for policy in offered["missing"]: Fusion(["text"], policy).fit(dict(text=np.eye(3)))
    for world in offered["shop_pictures"]: fashion_world(world)
    for name in offered["protocols"]: pipeline.protocol_of(name, pipeline.RunConfig())
    rows = pd.DataFrame(dict(text="a", title="b", item_text="c", item_title="d"), index=[0])
    for source in offered["text_from"]: assert pipeline.documents(rows, source)[0][0]


def test_version_and_help_in_all_their_spellings(capfd):
    import mmrec
    for argv, says in ((["--version"], f"mmrec {mmrec.__version__}\n"), (["help"], "usage: mmrec COMMAND"), (["--help"], "usage: mmrec COMMAND"), ([], "usage: mmrec COMMAND"),
                       (["help", "shop"], "usage: mmrec shop FOLDER"), (["shop", "--help"], "usage: mmrec shop FOLDER"), (["shop", "-h"], "usage: mmrec shop FOLDER")):
        assert main(argv) == 0
        said = capfd.readouterr()
        assert said.out.startswith(says) and not said.err, argv


@pytest.mark.parametrize("streams, code, said", [(">&-", 0, ""), ("2>&-", 0, ""), ("<&- >&- 2>&-", 0, ""), (">/dev/full", 1, "free some space"), (">/dev/full 2>&1", 1, "")])
def test_streams_that_are_closed_or_full(tmp_path, streams, code, said):
    "A command does its work without a terminal, and never ends in a traceback."
    (tmp_path/"r.csv").write_text("user,item,rating,text\n" + "".join(f"u{k},i{k % 9},{k % 5 + 1},schön 品 {k}\n" for k in range(60)), encoding="utf8")
    done = subprocess.run(f"{shlex.join(MMREC)} describe --reviews r.csv --figure card.png {streams}", shell=True, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == code and said in done.stderr and len(done.stderr.splitlines()) == bool(said)
    assert (tmp_path/"card.png").exists() == (code == 0)


@pytest.mark.parametrize("env", [dict(PYTHONIOENCODING="latin-1"), dict(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"), dict(PYTHONIOENCODING="ascii:strict")])
def test_terminals_that_know_few_letters(tmp_path, env):
    "Letters that the terminal does not know are shown as others or as escapes; the work is done."
    (tmp_path/"r.csv").write_text("user,item,rating,text\n" + "".join(f"ü{k},名前{k % 9},{k % 5 + 1},schön 品 {k}\n" for k in range(60)) + "u,i1,品,x\n", encoding="utf8")
    done = subprocess.run([*MMREC, "describe", "--reviews", "r.csv"], capture_output=True, cwd=tmp_path, env={**os.environ, **env})
    assert done.returncode == 0 and done.stderr == b"" and b"60 reviews" in done.stdout and b"\\u54c1" in done.stdout


def test_python_m(): assert subprocess.run([sys.executable, "-m", "mmrec", "--version"], capture_output=True, text=True).stdout.startswith("mmrec ")


def test_debug_shows_the_trace(tmp_path):
    for argv in (["--debug", "report", "nowhere"], ["report", "nowhere", "--debug"]):
        done = subprocess.run([*MMREC, *argv], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 1 and "Traceback" in done.stderr and "MmrecError" in done.stderr


def test_a_bug_is_one_line_that_asks_for_the_trace(capfd, monkeypatch):
    monkeypatch.setattr(pipeline, "versions", lambda: {}["oh"])
    assert "unexpected KeyError" in fails(capfd, "version") and main(["version"]) == 1 and "--debug" in capfd.readouterr().err


def test_a_package_that_is_missing_is_named(capfd, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert "pip install shtab" in fails(capfd, "completion", "bash")


@pytest.mark.parametrize("line", ["--help", "run --help", "fetch --list", "completion bash"])
def test_a_pipe_that_closes_is_no_news(line):
    "The reader leaves before a word is said."
    process = subprocess.Popen([*MMREC, *line.split()], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.wait(timeout=60) == 141 and process.stderr.read() == ""


def on_a_terminal(tmp_path, *argv, **env):
    "What a command writes on a terminal of 80 columns."
    import pty
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*MMREC, *argv], stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path, env={**{k: v for k, v in os.environ.items() if k != "NO_COLOR"}, "TERM": "xterm", "COLUMNS": "80", **env})
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError): # a terminal whose last writer has gone
        while block := os.read(ours, 4096): said += block
    process.wait(timeout=60); os.close(ours)
    return said.decode()


def test_headings_are_bold_on_a_terminal_that_wants_them(tmp_path):
    assert "\033[1mExamples\033[0m:" in on_a_terminal(tmp_path, "shop", "--help")
    assert all("\033" not in on_a_terminal(tmp_path, "shop", "--help", **env) for env in (dict(NO_COLOR="1"), dict(TERM="dumb")))
    assert on_a_terminal(tmp_path, "rnu").startswith("\033[1mmmrec\033[0m: unknown command")


# completion

@pytest.fixture(scope="module")
def completed(tmp_path_factory):
    "Ask a shell what it would offer after a line; the scripts are printed by `mmrec completion`, as a user would have them."
    folder = tmp_path_factory.mktemp("completion")
    (folder/"reviews.csv").touch(); (folder/"results").mkdir()
    ask = dict(bash='source {0}; COMP_WORDS=({1}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _shtab_mmrec; printf "%s\\n" "${{COMPREPLY[@]}}"',
               fish="source {0}; complete -C '{2}' | string replace -r '\\t.*' ''")
    def offers(shell, line):
        if not shutil.which(shell): pytest.skip(f"{shell} is not installed")
        script = folder/f"mmrec.{shell}"
        if not script.exists(): script.write_text(subprocess.run([*MMREC, "completion", shell], capture_output=True, text=True, check=True).stdout)
        quoted = " ".join(shlex.quote(word) for word in line.split(" "))
        done = subprocess.run([shell, "-c", ask[shell].format(script, quoted, line)], capture_output=True, text=True, cwd=folder)
        assert not done.stderr, done.stderr
        return set(done.stdout.split())
    return offers


OFFERS = [
    ("mmrec de", {"describe"}), ("mmrec run --split ", {"product", "time", "benchmark", "random"}), ("mmrec run --text-f", {"--text-from"}), ("mmrec compare --fus", {"--fusion"}),
    ("mmrec run --text m", {"minilm"}), ("mmrec run --draw 5", {"5-core"}), ("mmrec fetch Toys", {"Toys_and_Games"}), ("mmrec fetch --only ", {"reviews", "items", "reviews5"}),
    ("mmrec shop x --pictures ", {"informative", "useless", "reversed"}), ("mmrec features ", {"ls", "rm"}), ("mmrec help desc", {"describe"}), ("mmrec completion ", {"bash", "zsh", "fish", "tcsh"}),
    ("mmrec run --protocols honest c", {"course"}), ("mmrec --debug run --precision i", {"int8"}), ("mmrec run --reviews revi", {"reviews.csv"}), ("mmrec run --out re", {"results"}), ("mmrec report re", {"results"})]


@pytest.mark.parametrize("shell, line, offered", [(shell, *pair) for shell in ("bash", "fish") for pair in OFFERS if (shell, pair[1]) != ("fish", {"course"})]) # fish offers the choices of the first word only
def test_a_shell_completes(completed, shell, line, offered):
    assert {word.rstrip("/") for word in completed(shell, line)} == offered


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_are_in_the_shells_language(tmp_path, shell):
    "Every option of every command stands in the script, and the shell can read it."
    text = completion_script(shell)
    for name, part in subparsers(make_parser("all")).items():
        assert name in text and all(option.lstrip("-") in text for a in part._actions for option in a.option_strings)
    if not shutil.which(shell): pytest.skip(f"{shell} is not installed")
    (tmp_path/"script").write_text(text)
    said = subprocess.run([shell, "-n", str(tmp_path/"script")], capture_output=True, text=True)
    assert said.returncode == 0 and not said.stderr
