"A desk with a small made-up table and pictures, and commands that are started at it."
import subprocess, sys
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from mmrec.core import MAKING

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


def run_words(out="runs", data="data", *more): return ["run", "--reviews", "r.csv", "--images", "pics", *QUICK, "--out", out, "--data", data, *more]


def predictions(folder): return pd.read_parquet(Path(folder)/"predictions.parquet")
