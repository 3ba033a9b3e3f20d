"The package as others install it: a wheel, away from the sources, runs with all that it needs."
import os, shutil, subprocess, sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_a_wheel_runs_away_from_its_sources(tmp_path):
    source = tmp_path/"source"
    shutil.copytree(ROOT/"mmrec", source/"mmrec", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "settings.ini", "pyproject.toml", "README.md"): shutil.copy(ROOT/name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, source], check=True)
    wheel, = tmp_path.glob("mmrec-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", tmp_path/"there", wheel], check=True)
    shutil.rmtree(source)
    env = {**os.environ, "PYTHONPATH": str(tmp_path/"there"), "MMREC_PROGRESS": "0"}
    where = subprocess.run([sys.executable, "-c", "import mmrec; print(mmrec.__file__)"], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert where.stdout.startswith(str(tmp_path/"there"))
    words = "run --shop-items 40 --shop-reviews 250 --n-images 20 --text tfidf --image classical --epochs 1 --draws 20 --protocols honest"
    done = subprocess.run([sys.executable, "-m", "mmrec", *words.split()], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run, = (tmp_path/"runs").iterdir()
    assert {"report.html", "explorer.html", "metrics.json", "predictions.parquet"} <= {p.name for p in run.iterdir()}
