"""Say what is out of step: notebooks not clean, mmrec/ not as nbs/ exports it, README.md not as index.ipynb has it."""
import filecmp, shutil, subprocess, sys, tempfile
from pathlib import Path
from readme import ROOT, readme


def main():
    "Repeat cleaning and exporting on a copy, compare with what stands here."
    bin, wrong = Path(sys.executable).parent, []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("nbs", "mmrec"):
            shutil.copytree(ROOT/name, copy/name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
        for name in ("settings.ini", "setup.py"): shutil.copy(ROOT/name, copy)
        subprocess.run([bin/"nbdev_clean"], cwd=copy, check=True)
        subprocess.run([bin/"nbdev_export"], cwd=copy, check=True)
        made = {p.relative_to(copy) for name, end in (("nbs", "ipynb"), ("mmrec", "py")) for p in (copy/name).rglob(f"*.{end}")}
        here = {p.relative_to(ROOT) for p in (ROOT/"mmrec").rglob("*.py")}
        for path in sorted(made | here):
            if not ((copy/path).exists() and (ROOT/path).exists() and filecmp.cmp(copy/path, ROOT/path, shallow=False)):
                wrong.append(f"{path}: out of step; run `make export`")
        modules = {line.split()[-1].replace(".", "/") for nb in (copy/"nbs").glob("*.ipynb") for line in nb.read_text().split('"')
                   if line.startswith("#| default_exp")}
        exported = {f"mmrec/{m}.py" for m in modules} | {f"mmrec/{m.rpartition('/')[0]}/__init__.py" for m in modules if "/" in m}
        exported |= {f"mmrec/{name}.py" for name in ("__init__", "__main__", "_modidx")}
        wrong += [f"{p}: no notebook exports it; delete it" for p in sorted(here) if p.as_posix() not in exported]
    if (ROOT/"README.md").read_text(encoding="utf8") != readme(): wrong.append("README.md: out of step with nbs/index.ipynb; run `make readme`")
    print("\n".join(wrong) or "notebooks are clean; mmrec/ and README.md are in step with nbs/")
    return bool(wrong)


if __name__ == "__main__": sys.exit(main())
