"Two of a command at once, and one that is stopped or killed."
import functools, gzip, shutil, signal, threading, time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest

from desk import QUICK, call, ended, leftovers, make_desk, predictions, run_words, start, tree
from mmrec.core import MAKING, read_json


# twice at once

@pytest.fixture(scope="module")
def host(tmp_path_factory):
    "A host on this machine with one category, made up: its address."
    from mmrec.sim.shop import make_shop
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
    both = [ended(p) for p in [start(desk, *run_words("runs", "data", "--image", "none", "--name", "same", "--seed", seed)) for seed in (1, 2)]]
    assert [code for code, *_ in both] == [0, 0], both
    runs = sorted((desk/"runs").iterdir())
    found = {read_json(r/"metrics.json")["config"]["seed"]: predictions(r) for r in runs}
    assert len(runs) == 2 and set(found) == {1, 2} and not leftovers(desk) and all((r/"report.html").exists() for r in runs)
    assert call(desk, *run_words("alone", "fresh", "--image", "none", "--name", "same", "--seed", 1))[0] == 0
    pd.testing.assert_frame_equal(predictions(next((desk/"alone").iterdir())), found[1])


def test_two_comparisons_at_once_are_two(desk):
    words = "compare --reviews r.csv --text tfidf --image none --seeds 1 --draws 20".split()
    both = [ended(p) for p in [start(desk, *words) for _ in range(2)]]
    assert [code for code, *_ in both] == [0, 0], both
    one, two = sorted((desk/"runs").iterdir())
    assert two.name == one.name + "-2" and sorted(tree(one)) == sorted(tree(two)) == ["ablation.csv", "ablation.png", "claims.csv"]
    assert (one/"claims.csv").read_bytes() == (two/"claims.csv").read_bytes()
    tables = [pd.read_csv(folder/"ablation.csv") for folder in (one, two)]
    pd.testing.assert_frame_equal(*[t.drop(columns=[c for c in t if "second" in c]) for t in tables])
    assert not leftovers(desk)


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


@pytest.mark.parametrize("number, line", [(signal.SIGTERM, "honest: baselines"), (signal.SIGHUP, "honest: read and clean"), (signal.SIGTERM, "networks"), (signal.SIGINT, "honest: encode text")])
def test_signals_end_in_one_line_and_leave_nothing(desk, number, line):
    process = start(desk, *run_words("runs", "data", "--image", "none"))
    at(process, line)
    process.send_signal(number)
    code, _, err = ended(process)
    assert code == 128 + number and len(err.strip().splitlines()) == 1 and "run the same command to go on" in err, err
    assert list((desk/"runs").iterdir()) == [] and not leftovers(desk)


def test_a_hangup_that_is_ignored_stays_ignored(desk):
    process = start(desk, *run_words("runs", "data", "--image", "none"), preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
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
