"What a person meets at the command line: results, and one clear line when something is wrong."
import errno, gzip, json, os, signal, subprocess, sys, time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmrec import pipeline
from mmrec.cli import main
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
    done = subprocess.run([*MMREC, "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and all(c in done.stdout for c in ("run", "fetch", "describe", "convert", "shop", "report", "version"))
    assert "Examples:" in subprocess.run([*MMREC, "run", "--help"], capture_output=True, text=True).stdout


def test_a_table_of_ones_own(tmp_path, table, capsys):
    assert main(["run", "--reviews", str(table), *options(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "Numbers on real data: reviews" in said and "report: file://" in said
    folder, = (tmp_path/"runs").iterdir()
    assert {p.name for p in folder.iterdir()} == {"metrics.json", "predictions.parquet", "model.keras", "fusion.npz", "figures", "report.html"}
    metrics = read_json(folder/"metrics.json")
    rows = {r["model"]: r for r in metrics["protocols"]["honest"]["table"]}
    assert rows["TF-IDF + logistic regression"]["accuracy"] > rows["majority class"]["accuracy"]
    assert metrics["command"].startswith("mmrec run --reviews")
    assert main(["report", str(folder)]) == 0


def test_both_protocols_agree_on_nothing_but_the_data(tmp_path, table):
    assert main(["run", "--reviews", str(table), *options(tmp_path), "--protocols", "honest", "course"]) == 0
    protocols = read_json(next((tmp_path/"runs").iterdir())/"metrics.json")["protocols"]
    assert protocols["course"]["leakage"]["test row steered the training"] == 1
    assert "test row steered the training" not in protocols["honest"]["leakage"]
    assert protocols["honest"]["leakage"]["same product in training"] == 0 < protocols["course"]["leakage"]["same product in training"]


def test_half_stars_run_through(tmp_path):
    half = ratings().assign(rating=lambda t: t.rating/2)
    half.to_csv(tmp_path/"half.csv", index=False)
    assert main(["run", "--reviews", str(tmp_path/"half.csv"), "--scale", "0.5-2.5:0.5", *options(tmp_path)]) == 0
    metrics = read_json(next((tmp_path/"runs").iterdir())/"metrics.json")
    assert metrics["scale"]["values"] == [.5, 1, 1.5, 2, 2.5]
    majority = metrics["protocols"]["honest"]["table"][0]
    assert majority["MAE"] < 1 # in units of the scale: half of what it is in stars


def test_named_classes_run_through(tmp_path):
    named = ratings().assign(rating=lambda t: np.where(t.rating > 3, "good", np.where(t.rating == 3, "ok", "bad")))
    named.to_csv(tmp_path/"named.csv", index=False)
    assert main(["run", "--reviews", str(tmp_path/"named.csv"), "--scale", "bad<ok<good", *options(tmp_path)]) == 0
    assert read_json(next((tmp_path/"runs").iterdir())/"metrics.json")["scale"]["names"] == ["bad", "ok", "good"]


@pytest.mark.parametrize("content, expected", [
    (None, "reviews.jsonl"), (b"", "empty"), (b'{"a": 1}\n{"a": 2}\n', "--columns item=COLUMN"),
    (gzip.compress(json.dumps(dict(user="u", item="i", rating=5, text="t")).encode()*2000)[:-20], "reviews"),
    (bytes(range(256))*50, "reviews"), (b'{"user":"u","item":"i","rating":5,"text":"' + b"x"*50_000_000 + b'"}\n', "reviews"),
    (b"user,item,rating,text\n" + b"u,i,lovely thing,t\nu,j,never again,t\nu,k,hm,t\n"*9, "scale")],
    ids=["missing", "empty", "wrong schema", "truncated gzip", "binary", "50 MB line", "words for ratings"])
def test_bad_files_end_in_one_line(tmp_path, capfd, content, expected):
    path = tmp_path/("reviews.jsonl" if content is None or not content.startswith((b"\x1f\x8b", b"user,")) else "reviews.jsonl.gz" if content.startswith(b"\x1f") else "reviews.csv")
    if content is not None: path.write_bytes(content)
    assert expected in fails(capfd, "run", "--reviews", path, *options(tmp_path))
    assert no_run(tmp_path)


@pytest.mark.parametrize("argv, expected", [
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


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission(tmp_path, table, capfd):
    (tmp_path/"runs").mkdir(mode=0o500)
    assert "permission" in fails(capfd, "run", "--reviews", table, *options(tmp_path))


def test_full_disk_half_way(tmp_path, table, capfd, monkeypatch):
    def full(*_): raise OSError(errno.ENOSPC, "No space left on device", "metrics.json")
    monkeypatch.setattr(pipeline, "write_json", full)
    assert "No space left" in fails(capfd, "run", "--reviews", table, *options(tmp_path))
    assert no_run(tmp_path)


@pytest.mark.parametrize("stage", ["read_data", "documents", "text_vectors", "tfidf_logreg", "fit_network", "save_figures", "write_report"])
def test_ctrl_c_in_each_stage(tmp_path, table, capfd, monkeypatch, stage):
    def stop(*_, **__): raise KeyboardInterrupt
    monkeypatch.setattr(pipeline, stage, stop)
    assert main(["run", "--reviews", str(table), *options(tmp_path)]) == 130
    assert "run the same command to go on" in capfd.readouterr().err
    assert not list((tmp_path/"runs").iterdir())


def test_a_real_ctrl_c_and_a_second_try(tmp_path):
    command = [*MMREC, "shop", str(tmp_path/"shop"), "--items", "150", "--reviews", "900"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (tmp_path/"shop"/"images").exists() and process.poll() is None: time.sleep(.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130 and not (tmp_path/"shop"/"shop.json").exists()
    assert subprocess.run(command, capture_output=True).returncode == 0 and (tmp_path/"shop"/"shop.json").exists()


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


def test_a_run_on_converted_tables_gives_the_same_numbers(tmp_path, table, capsys):
    assert main(["convert", str(tmp_path/"tables"), "--reviews", str(table)]) == 0
    assert "next: mmrec run --reviews" in capsys.readouterr().out
    for reviews in (table, tmp_path/"tables"): assert main(["run", "--reviews", str(reviews), "--name", "same", *options(tmp_path), "--sample", "200"]) == 0
    a, b = (read_json(folder/"metrics.json") for folder in (tmp_path/"runs").iterdir())
    assert a["protocols"] == b["protocols"] and a["summary"] == b["summary"]
    assert main(["describe", "--reviews", str(tmp_path/"tables"), "--sample", "50"]) == 0 and "all 300 rows" in capsys.readouterr().out


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


def test_fetch_from_a_host_of_ones_own(tmp_path, capfd):
    "The whole command against a local host; a second call asks nothing."
    import functools, threading
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
    from mmrec.shop import make_shop
    shop, asked = make_shop(tmp_path/"shop", 20, 200), []
    for folder, file in (("review_categories", shop.reviews_path), ("meta_categories", shop.meta_path)):
        (tmp_path/"host"/"raw"/folder).mkdir(parents=True)
        (tmp_path/"host"/"raw"/folder/f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args): asked.append(self.path)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=tmp_path/"host"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    argv = ["fetch", "amazon-fashion", "--to", str(tmp_path/"raw"), "--host", f"http://127.0.0.1:{server.server_port}"]
    assert main(argv) == 0
    said = capfd.readouterr()
    assert "next: mmrec run --reviews" in said.out and "research" in said.err and len(asked) == 2
    assert main(argv) == 0 and len(asked) == 2 and "research" not in capfd.readouterr().err
    server.shutdown()
    assert main(["describe", "--reviews", str(tmp_path/"raw"/"Amazon_Fashion.jsonl.gz"), "--items", str(tmp_path/"raw"/"meta_Amazon_Fashion.jsonl.gz")]) == 0


def test_vectors_that_are_kept_are_listed_and_removed(tmp_path, table, capsys):
    data = str(tmp_path/"data")
    assert main(["features", "ls", "--data", data]) == 0 and "no vectors are kept" in capsys.readouterr().out
    from mmrec.features import encode
    from mmrec.text import text_encoder
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
