"The user's own things stay the user's, and what was kept before changes no number."
import os, shutil

import numpy as np
import pandas as pd
import pytest

from desk import call, leftovers, predictions, run_words, tree
from mmrec import pipeline
from mmrec.cli import main
from mmrec.core import MmrecError, read_json
from mmrec.data.parquet import convert


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


def test_a_figure_of_ones_own_is_drawn_again(desk, monkeypatch):
    monkeypatch.chdir(desk)
    for suffix in ("png", "pdf", "svg"):
        for _ in range(2): assert main(["describe", "--reviews", "r.csv", "--figure", f"card.{suffix}"]) == 0


def test_other_files_in_a_store_stay(desk):
    from mmrec.features.encode import encode
    from mmrec.features.vision import image_encoder
    encode(image_encoder("classical"), [str(p) for p in (desk/"pics").iterdir()], desk/"data"/"vectors")
    store, = (desk/"data"/"vectors").iterdir()
    (store/"deadbeef.safetensors").write_text("a model of mine"); (desk/"data"/"vectors"/"mine").mkdir(); (desk/"data"/"vectors"/"mine"/"encoder.json").write_text("{}")
    code, out, err = call(desk, "features", "rm", "all")
    assert code == 0 and "removed" in out and "the folder stays" in err
    assert {p.name for p in (desk/"data"/"vectors").rglob("*") if p.is_file()} == {"deadbeef.safetensors", "encoder.json"}


# what was kept before

def test_no_history_changes_a_number(desk, monkeypatch):
    "Text alone, pictures alone, both, with one data folder, in every order of the three; each as in a fresh folder."
    monkeypatch.chdir(desk)
    monkeypatch.setattr(pipeline, "save_figures", lambda *args, **kwargs: None)
    kinds = dict(text=["--image", "none"], image=["--text", "none"], both=[])
    def run(kind, data):
        assert main(run_words(f"out-{kind}-{data}", data, *kinds[kind])) == 0
        folder, = (desk/f"out-{kind}-{data}").iterdir()
        return predictions(folder), read_json(folder/"metrics.json")["protocols"]
    fresh = {}
    def go_on(before):
        "Every kind that has not been run yet, each after the runs `before` it."
        for kind in kinds.keys() - before:
            data = "-".join([*before, kind])
            if before: shutil.copytree("-".join(before), data)
            frame, protocols = run(kind, data)
            expected = fresh.setdefault(kind, (frame, protocols)) # the first runs are those in fresh folders
            pd.testing.assert_frame_equal(frame, expected[0], check_exact=True)
            assert protocols == expected[1]
        for kind in kinds.keys() - before: go_on([*before, kind])
    go_on([])


def test_networks_in_threads_do_not_hear_of_each_other(tmp_path):
    "Fitted alone, beside others of other seeds, and while another is loaded: the same to the last bit."
    from concurrent.futures import ThreadPoolExecutor
    from mmrec.rating.network import RatingClassifier, load_classifier
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 12)).astype(np.float32), rng.integers(0, 3, 300)
    def fit(seed): return RatingClassifier(hidden=(16, 8), dropout=(.3, .2), epochs=3, seed=seed).fit(X, y)
    alone = [fit(seed).predict_proba(X) for seed in range(3)]
    (kept := fit(9)).save(tmp_path/"kept.keras")
    def work(job): return fit(job).predict_proba(X) if job is not None else load_classifier(tmp_path/"kept.keras").predict_proba(X)
    for jobs in ([0, None, 1, None, 2], [None, 2, 1, 0, None]):
        with ThreadPoolExecutor(3) as pool: found = list(pool.map(work, jobs))
        for job, p in zip(jobs, found): assert np.array_equal(p, alone[job] if job is not None else kept.predict_proba(X))


def test_kept_networks_that_are_spoilt_are_said_and_trained_again(desk, monkeypatch, capfd):
    monkeypatch.chdir(desk)
    assert main(run_words()) == 0
    networks = sorted((desk/"data"/"networks").glob("*.keras"))
    spoilt = [lambda b: b[:len(b)//2], lambda b: b"", lambda b: b"not a model"]
    for path, spoil in zip(networks, spoilt, strict=True): path.write_bytes(spoil(path.read_bytes()))
    capfd.readouterr()
    assert main(run_words("again")) == 0 and capfd.readouterr().err.count("trained again") == 3
    pd.testing.assert_frame_equal(predictions(next((desk/"again").iterdir())), predictions(next((desk/"runs").iterdir())))


# names and sources

def test_names_that_are_not_utf8_are_refused_at_once(desk, monkeypatch, capfd):
    monkeypatch.chdir(desk)
    name, before = os.fsdecode(b"caf\xe9"), tree(desk)
    for argv in (run_words("runs", "data", "--name", name), run_words(f"{name} runs"), ["convert", f"{name} t", "--reviews", "r.csv"], ["new", name],
                 ["shop", name], ["describe", "--reviews", f"{name}.csv"], ["report", name], ["features", "ls", "--data", name]):
        code, (out, err) = main(argv), capfd.readouterr()
        assert code == 1 and len(err.splitlines()) == 1 and "caf\\xe9" in err and "rename it" in err and not out, (argv, err)
    assert tree(desk) == before
    from mmrec.pipeline import RunConfig
    with pytest.raises(MmrecError, match="not UTF-8"): RunConfig(images=name)


def test_a_source_that_changes_while_it_is_converted(desk, monkeypatch):
    from mmrec.data import parquet
    for change in (lambda p: p.open("a").write("u,i1,5,late\n"), lambda p: (desk/"n.csv").write_text(p.read_text().replace("lovely", "horrid")) and os.replace(desk/"n.csv", p)):
        with monkeypatch.context() as m:
            write = parquet._write_reviews
            m.setattr(parquet, "_write_reviews", lambda *args: (change(desk/"r.csv"), write(*args))[1])
            with pytest.raises(MmrecError, match="r.csv: changed while it was read"): convert(desk/"t", desk/"r.csv")
        assert not (desk/"t").exists() and not leftovers(desk)
    assert convert(desk/"t", desk/"r.csv") == desk/"t"
