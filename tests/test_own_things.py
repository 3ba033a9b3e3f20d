"The user's own things stay the user's; two of a command at once, one that is killed, and what was kept before change no number."
import functools, gzip, json, os, re, shutil, signal, subprocess, sys, threading, time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mmrec.cli import main
from mmrec.core import MAKING, MmrecError, read_json
from mmrec.parquet import convert

MMREC = [sys.executable, "-u", "-m", "mmrec"]
QUICK = "--text tfidf --image classical --epochs 2 --draws 30 --protocols honest --seed 3".split()


def start(folder, *argv, **kw):
    "Begin a command in a folder."
    return subprocess.Popen([*MMREC, *map(str, argv)], cwd=folder, text=True, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **kw})


def ended(process, timeout=900):
    "Code, output and errors of a command."
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def call(folder, *argv): return ended(start(folder, *argv))


def tree(folder):
    "All files below a folder with what is in them; hidden ones too."
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


def leftovers(folder): return [p for p in Path(folder).rglob("*") if p.name.startswith(MAKING)]


def make_desk(folder):
    "A table of 160 made-up reviews of 40 things, a picture of each."
    rng = np.random.default_rng(0)
    stars = rng.choice(5, 160) + 1
    items = np.arange(160) % 40
    text = [f"{['awful', 'bad', 'so-so', 'good', 'lovely'][s - 1]} {rng.choice(['hat', 'bag', 'coat'])} number {k}" for k, s in enumerate(stars)]
    pd.DataFrame(dict(user=[f"u{k}" for k in range(160)], item=[f"i{i}" for i in items], rating=stars, text=text)).to_csv(folder/"r.csv", index=False)
    (folder/"pics").mkdir()
    for i in range(40): Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype="uint8")).save(folder/"pics"/f"i{i}.jpg")
    return folder


@pytest.fixture
def desk(tmp_path): return make_desk(tmp_path)


def run_words(out="runs", data="data", *more): return ["run", "--reviews", "r.csv", "--images", "pics", *QUICK, "--out", out, "--data", data, *more]


def predictions(folder): return pd.read_parquet(Path(folder)/"predictions.parquet")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    "A desk with a run in a data folder of its own: (desk, run folder)."
    folder = make_desk(tmp_path_factory.mktemp("done"))
    code, out, err = call(folder, *run_words())
    assert code == 0, err
    return folder, next((folder/"runs").iterdir())


# what is the user's

def test_hidden_folders_of_the_users_stay(desk):
    for name in ("ssh", "git", "shop"):
        (desk/f".{name}").mkdir()
        (desk/f".{name}"/"key").write_text("mine")
    before = tree(desk)
    assert call(desk, "new", "ssh")[0] == 0 and call(desk, "convert", "git", "--reviews", "r.csv")[0] == 0
    assert call(desk, "shop", "shop", "--items", "5", "--reviews", "40")[0] == 0
    assert before.items() <= tree(desk).items() and not leftovers(desk)


@pytest.mark.parametrize("argv", ["new taken", "convert taken --reviews r.csv", "shop taken --items 5 --reviews 40", "describe --reviews r.csv --figure taken.png",
                                  "new file", "convert file --reviews r.csv", "shop file --items 5 --reviews 40", "describe --reviews r.csv --figure link.png"])
def test_what_is_there_is_refused_in_one_line(desk, argv):
    (desk/"taken").mkdir()
    for name in ("taken/notes.txt", "taken/shop.txt", "taken.png", "file"): (desk/name).write_text("mine")
    (desk/"link.png").symlink_to(desk/"file")
    before = tree(desk)
    code, _, err = call(desk, *argv.split())
    assert code == 1 and len(err.splitlines()) == 1 and " — " in err and tree(desk) == before and not leftovers(desk)


def test_a_figure_of_ones_own_is_drawn_again(desk):
    for suffix in ("png", "pdf", "svg"):
        for _ in range(2): assert call(desk, "describe", "--reviews", "r.csv", "--figure", f"card.{suffix}")[0] == 0


def test_other_files_in_a_store_stay(desk):
    from mmrec.features import encode
    from mmrec.vision import image_encoder
    encode(image_encoder("classical"), [str(p) for p in (desk/"pics").iterdir()], desk/"data"/"vectors")
    store, = (desk/"data"/"vectors").iterdir()
    (store/"deadbeef.safetensors").write_text("a model of mine"); (desk/"data"/"vectors"/"mine").mkdir(); (desk/"data"/"vectors"/"mine"/"encoder.json").write_text("{}")
    code, out, err = call(desk, "features", "rm", "all")
    assert code == 0 and "removed" in out and "the folder stays" in err
    assert {p.name for p in (desk/"data"/"vectors").rglob("*") if p.is_file()} == {"deadbeef.safetensors", "encoder.json"}


# twice at once

@pytest.fixture(scope="module")
def host(tmp_path_factory):
    "A host on this machine with one category, made up: its address."
    from mmrec.shop import make_shop
    folder = tmp_path_factory.mktemp("host")
    shop = make_shop(folder/"shop", 30, 200)
    for part, file in (("review_categories", shop.reviews_path), ("meta_categories", shop.meta_path)):
        (folder/"raw"/part).mkdir(parents=True)
        (folder/"raw"/part/f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args): pass
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown(); server.server_close()


TWICE = {"shop": "shop new --items 30 --reviews 200", "convert": "convert new --reviews r.csv", "new": "new new", "describe": "describe --reviews r.csv --figure new.png",
         "fetch": "fetch amazon-fashion --to new --host {host}", "report": "report {run}", "paper": "report {run} --to md", "features": "features rm all"}


@pytest.mark.parametrize("name", TWICE)
def test_twice_at_once(done, host, tmp_path, name):
    "Two times two of each writing command: both right, or one waits or is refused in one line; the outcome is that of one alone."
    folder, ran = done
    results = []
    for n in ("alone", "a", "b"):
        desk = tmp_path/n
        shutil.copytree(folder, desk)
        words = TWICE[name].format(host=host, run=f"runs/{ran.name}").split()
        both = [ended(p) for p in [start(desk, *words) for _ in range(1 if n == "alone" else 2)]]
        assert any(code == 0 for code, *_ in both), both
        assert all(code == 0 or code == 1 and len(err.splitlines()) <= 2 and "unexpected" not in err and "Traceback" not in err for code, _, err in both), both
        assert not leftovers(desk)
        made = {k: v for k, v in tree(desk).items() if not k.endswith((".lock", "manifest.json"))}
        results.append({k: v for k, v in made.items() if not k.endswith((".html", ".png"))} | {k: b"" for k in made})
    assert all(r.keys() == results[0].keys() for r in results)


def test_two_runs_of_one_second_are_two(desk):
    "Each holds its own numbers, those of a run alone."
    both = [ended(p) for p in [start(desk, *run_words("runs", "data", "--name", "same", "--seed", seed)) for seed in (1, 2)]]
    assert [code for code, *_ in both] == [0, 0], both
    runs = sorted((desk/"runs").iterdir())
    found = {read_json(r/"metrics.json")["config"]["seed"]: predictions(r) for r in runs}
    assert len(runs) == 2 and set(found) == {1, 2} and not leftovers(desk) and all((r/"report.html").exists() for r in runs)
    assert call(desk, *run_words("alone", "fresh", "--name", "same", "--seed", 1))[0] == 0
    pd.testing.assert_frame_equal(predictions(next((desk/"alone").iterdir())), found[1])


def test_two_runs_that_both_want_the_built_in_shop(tmp_path):
    "It is made once; pictures are fetched by one, and the other waits or is told so."
    words = ["run", *QUICK, "--shop-items", "40", "--shop-reviews", "250", "--n-images", "20"]
    both = [ended(p) for p in [start(tmp_path, *words) for _ in range(2)]]
    assert 0 in [code for code, *_ in both], both
    assert all(code == 0 or "another download into this folder is running" in err for code, _, err in both), both
    shop, = (tmp_path/"data").glob("shop-*")
    assert (shop/"shop.json").exists() and not leftovers(tmp_path) and len(list((tmp_path/"runs").iterdir())) == [code for code, *_ in both].count(0)


def test_two_conversions_at_once_make_one(desk):
    big = pd.concat([pd.read_csv(desk/"r.csv")]*60, ignore_index=True)
    big.assign(user=[f"u{k}" for k in range(len(big))]).to_csv(desk/"r.csv", index=False)
    (desk/"other.csv").write_bytes((desk/"r.csv").read_bytes())
    both = [ended(p) for p in [start(desk, "convert", "t", "--reviews", f) for f in ("r.csv", "r.csv", "other.csv")]]
    codes = sorted(code for code, *_ in both)
    assert codes in ([0, 0, 1], [0, 1, 1]) and all("holds other data" in err for code, _, err in both if code), both
    assert not leftovers(desk) and read_json(desk/"t"/"dataset.json")["read"]["reviews"] == len(big)


# stopped and killed

def at(process, sign, before=lambda: True):
    "Wait until a command has said a stage and a sign is on disk."
    for line in process.stdout:
        if line.startswith(sign): break
    while not before() and process.poll() is None: time.sleep(.005)
    assert process.poll() is None, process.stderr.read()


def making(folder, pattern): return lambda: bool(list(Path(folder).glob(f"{MAKING}*/*/{pattern}")))


# the stage, the line after which it begins, and what of it is on disk when it is under way
STAGES = {"load": (None, "{MAKING}*"), "pictures": ("honest: read and clean", ""), "text vectors": ("honest: pictures", ""), "picture vectors": ("honest: encode text", ""),
          "networks": ("honest: baselines", ""), "scores": ("networks", "figures/honest-accuracy.png"),
          "report": ("neighbours", "metrics.json")}


def test_killed_in_every_stage(done, tmp_path):
    "kill -9 in one stage after the other, each run going on from what the one before has left; the last is not killed."
    folder, ran = done
    desk = make_desk(tmp_path/"desk") if (tmp_path/"desk").mkdir() is None else None
    for stage, (line, sign) in STAGES.items():
        process = start(desk, *run_words())
        if line is None:
            while not list((desk/"runs").glob(f"{MAKING}*")) and process.poll() is None: time.sleep(.005)
            assert process.poll() is None
        else: at(process, line, making(desk/"runs", sign) if sign else lambda: True)
        process.kill(); process.communicate()
        assert process.returncode == -signal.SIGKILL, stage
        assert {p.name.startswith(MAKING) for p in (desk/"runs").iterdir()} == {True} and len(list((desk/"runs").iterdir())) == 1, stage # the one before was swept
    code, out, err = call(desk, *run_words())
    assert code == 0, err
    last, = (desk/"runs").iterdir()
    pd.testing.assert_frame_equal(predictions(last), predictions(ran))
    assert {k for k in tree(last)} == {k for k in tree(ran)} and not leftovers(desk)


@pytest.mark.parametrize("number, line", [(signal.SIGTERM, "honest: baselines"), (signal.SIGHUP, "honest: read and clean"), (signal.SIGTERM, "networks"), (signal.SIGINT, "honest: pictures")])
def test_signals_end_in_one_line_and_leave_nothing(desk, number, line):
    process = start(desk, *run_words())
    at(process, line)
    process.send_signal(number)
    code, _, err = ended(process)
    assert code == 128 + number and len(err.strip().splitlines()) == 1 and "run the same command to go on" in err, err
    assert list((desk/"runs").iterdir()) == [] and not leftovers(desk)


def test_a_hangup_that_is_ignored_stays_ignored(desk):
    process = start(desk, *run_words(), preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    at(process, "honest: read and clean")
    process.send_signal(signal.SIGHUP)
    assert ended(process)[0] == 0


@pytest.mark.parametrize("argv", ["shop new --items 400 --reviews 3000", "convert new --reviews big.csv"])
def test_killed_makers_leave_nothing_that_is_believed(desk, argv):
    big = pd.concat([pd.read_csv(desk/"r.csv")]*300, ignore_index=True)
    big.assign(user=[f"u{k}" for k in range(len(big))]).to_csv(desk/"big.csv", index=False)
    for number in (signal.SIGKILL, signal.SIGTERM):
        before = set(desk.glob(f"{MAKING}*"))
        process = start(desk, *argv.split())
        def begun(): return any(p.name != "maker.json" for place in set(desk.glob(f"{MAKING}*")) - before for p in place.glob("*/*"))
        while not begun() and process.poll() is None: time.sleep(.005)
        assert process.poll() is None
        process.send_signal(number); process.communicate()
        assert not (desk/"new").exists() and len(list(desk.glob(f"{MAKING}*"))) == (number == signal.SIGKILL)
    assert call(desk, *argv.split())[0] == 0 and (desk/"new").is_dir() and not leftovers(desk)


# what was kept before

def test_no_history_changes_a_number(desk):
    "Text alone, pictures alone, both, with a data folder for all, in every order of two; each as in a fresh folder."
    kinds = dict(text=["--image", "none"], image=["--text", "none"], both=[])
    def run(kind, data):
        code, _, err = call(desk, *run_words(f"out-{kind}-{data}", data, *kinds[kind]))
        assert code == 0, err
        folder, = (desk/f"out-{kind}-{data}").iterdir()
        return predictions(folder), read_json(folder/"metrics.json")["protocols"]
    fresh = {kind: run(kind, f"fresh-{kind}") for kind in kinds}
    for order in (["text", "both", "image"], ["image", "both", "text"], ["both", "text", "image"]):
        for kind in order:
            frame, protocols = run(kind, "-".join(order))
            pd.testing.assert_frame_equal(frame, fresh[kind][0], check_exact=True)
            assert protocols == fresh[kind][1]


def test_networks_in_threads_do_not_hear_of_each_other(tmp_path):
    "Fitted alone, beside others of other seeds, and while another is loaded: the same to the last bit."
    from concurrent.futures import ThreadPoolExecutor
    from mmrec.classifier import RatingClassifier, load_classifier
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 12)).astype(np.float32), rng.integers(0, 3, 300)
    def fit(seed): return RatingClassifier(hidden=(16, 8), dropout=(.3, .2), epochs=3, seed=seed).fit(X, y)
    alone = [fit(seed).predict_proba(X) for seed in range(4)]
    (kept := fit(9)).save(tmp_path/"kept.keras")
    def work(job): return fit(job).predict_proba(X) if job is not None else load_classifier(tmp_path/"kept.keras").predict_proba(X)
    for jobs in ([0, None, 1, None, 2, 3], [None, None, 3, 2, 1, 0, None]):
        with ThreadPoolExecutor(3) as pool: found = list(pool.map(work, jobs))
        for job, p in zip(jobs, found): assert np.array_equal(p, alone[job] if job is not None else kept.predict_proba(X))


@pytest.mark.parametrize("spoil", [lambda b: b[:len(b)//2], lambda b: b"", lambda b: b"not a model"])
def test_a_kept_network_that_is_spoilt_is_said_and_trained_again(done, tmp_path, spoil):
    folder, ran = done
    shutil.copytree(folder, desk := tmp_path/"desk")
    for path in (desk/"data"/"networks").glob("*.keras"): path.write_bytes(spoil(path.read_bytes()))
    code, out, err = call(desk, *run_words("again"))
    assert code == 0 and "trained again" in err
    pd.testing.assert_frame_equal(predictions(next((desk/"again").iterdir())), predictions(ran))


# names and sources

def test_names_that_are_not_utf8_are_refused_at_once(desk):
    name, before = os.fsdecode(b"caf\xe9"), tree(desk)
    for argv in (run_words("runs", "data", "--name", name), run_words(f"{name} runs"), ["convert", f"{name} t", "--reviews", "r.csv"], ["new", name],
                 ["shop", name], ["describe", "--reviews", f"{name}.csv"], ["report", name], ["features", "ls", "--data", name]):
        code, out, err = call(desk, *argv)
        assert code == 1 and len(err.splitlines()) == 1 and "caf\\xe9" in err and "rename it" in err and not out, (argv, err)
    assert tree(desk) == before
    from mmrec.pipeline import RunConfig
    with pytest.raises(MmrecError, match="not UTF-8"): RunConfig(images=name)


def test_a_source_that_changes_while_it_is_converted(desk, monkeypatch):
    from mmrec import parquet
    for change in (lambda p: p.open("a").write("u,i1,5,late\n"), lambda p: (desk/"n.csv").write_text(p.read_text().replace("lovely", "horrid")) and os.replace(desk/"n.csv", p)):
        with monkeypatch.context() as m:
            write = parquet._write_reviews
            m.setattr(parquet, "_write_reviews", lambda *args: (change(desk/"r.csv"), write(*args))[1])
            with pytest.raises(MmrecError, match="r.csv: changed while it was read"): convert(desk/"t", desk/"r.csv")
        assert not (desk/"t").exists() and not leftovers(desk)
    assert convert(desk/"t", desk/"r.csv") == desk/"t"
