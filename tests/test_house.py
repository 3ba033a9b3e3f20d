"The rules of the house: a chapter is a room of one part, imports go downwards, and nothing below the run needs the simulator."
import ast, json, re, subprocess, sys
from pathlib import Path
import pytest
import yaml
import mmrec

ROOT = Path(__file__).parents[1]
STEMS = [p.stem for p in sorted((ROOT/"nbs").glob("[0-9]*.ipynb"))]
MODULES = {stem.partition("_")[2]: int(stem[:2]) for stem in STEMS} # dotted name: number
PARTS = yaml.safe_load((ROOT/"book/toc.yml").read_text(encoding="utf8"))["parts"]
RUN = MODULES["pipeline"]


def path_of(module): return ROOT/"mmrec"/(module.replace(".", "/") + ".py")


def imported(module):
    "The modules of the package that a module imports, wherever in it the line stands."
    package = ["mmrec", *module.split(".")[:-1]]
    for node in ast.walk(ast.parse(path_of(module).read_text(encoding="utf8"))):
        if isinstance(node, ast.Import): names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[:len(package) + 1 - node.level] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names = [stem, *(f"{stem}.{a.name}" for a in node.names)]
        else: continue
        yield from {n[6:] for n in names if n.startswith("mmrec.") and n[6:] in MODULES}


def test_every_chapter_stands_once_in_the_table_in_the_order_of_its_number():
    assert [stem for part in PARTS for stem in part["chapters"]] == STEMS
    assert {track for part in PARTS for track in part["chapters"].values()} <= {"course", "workshop"}


def test_a_decade_is_a_part():
    decades = [{stem[0] for stem in part["chapters"]} for part in PARTS]
    assert all(len(d) == 1 for d in decades) and len(set.union(*decades)) == len(PARTS)


@pytest.mark.parametrize("module", MODULES)
def test_a_chapter_exports_the_module_that_its_name_says(module):
    stem = next(s for s in STEMS if s.partition("_")[2] == module)
    cells = json.loads((ROOT/"nbs"/f"{stem}.ipynb").read_text(encoding="utf8"))["cells"]
    found = [re.match(r"#\| default_exp (\S+)", "".join(c["source"])) for c in cells]
    assert [m[1] for m in found if m] == [module]


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downwards(module):
    assert not [m for m in imported(module) if MODULES[m] >= MODULES[module]]


@pytest.mark.parametrize("module", [m for m, number in MODULES.items() if number < RUN and not m.startswith("sim.")])
def test_the_library_does_not_need_the_simulator(module):
    assert not [m for m in imported(module) if m.startswith("sim.")]


def test_the_package_shows_what_users_need_and_loads_it_when_it_is_named():
    code = "import sys, mmrec; print(sorted(mmrec.__all__), [m for m in ('numpy', 'pandas', 'torch', 'tensorflow') if m in sys.modules]); print([getattr(mmrec, n).__name__ for n in mmrec.__all__])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert said[0] == f"{sorted(mmrec.__all__)} []" and said[1] == str(mmrec.__all__) and {*mmrec.__all__} <= {*dir(mmrec)}
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"): mmrec.nothing


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_to_files(name):
    links = re.findall(r"\]\(([^)#\s]+)", (ROOT/name).read_text(encoding="utf8"))
    assert not [link for link in links if ":" not in link and not (ROOT/link).exists()]
