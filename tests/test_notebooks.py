"The house style of the notebooks, a rule a function. Each rule is tried on a notebook that breaks it, then all are asked about all chapters."
import ast, json, re, statistics
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
import pytest

NBS = Path(__file__).parents[1]/"nbs"
NAMES = tuple(sorted(p.stem for p in NBS.glob("*.ipynb") if p.name[0] not in "._"))
MEDIAN, NINE_IN_TEN, LONGEST = 5, 15, 30 # lines of a cell: of half of them, of nine in ten, of any
WIDEST = 100                             # columns of a line of code
RUN = 3                                  # code cells that may follow each other without prose
OUTPUTS, FILE = 200_000, 250*1024        # bytes


@dataclass
class Notebook:
    "A notebook as the rules see it: `names` are the stems of all chapters in order, `size` is that of its file in bytes."
    name: str
    cells: list
    names: tuple
    size: int = 0

    @property
    def is_chapter(self): return self.name[0].isdigit()
    @property
    def prose(self): return "\n\n".join(text(c) for c in self.cells if c["cell_type"] == "markdown")
    @property
    def code(self): return [(i, c) for i, c in enumerate(self.cells) if c["cell_type"] == "code"]
    @property
    def seen(self): return [(i, c) for i, c in self.code if not re.search(r"#\|\s*(hide|default_exp)", text(c))]


def text(cell): return "".join(cell["source"])

def lines(cell):
    "The lines of code that count: no blank ones, no directives."
    return [line for line in text(cell).splitlines() if line.strip() and not line.lstrip().startswith("#|")]

def folded(cell):
    "Does the cell show only when a reader opens it, in JupyterLab and in the book?"
    return "hide-cell" in cell.get("metadata", {}).get("tags", []) and cell["metadata"].get("jupyter", {}).get("source_hidden", False)

def items(prose): return re.findall(r"^\d+\. (.+)", prose, re.M)

def section(nb, title):
    "What stands under `## title`, up to the next heading of its kind."
    found = re.search(rf"^## {title}\s*?\n(.*?)(?=^## |\Z)", nb.prose, re.M | re.S)
    return found[1] if found else ""

def opening(nb): return "\n\n".join(text(c) for c in nb.cells[:2] if c["cell_type"] == "markdown")

def shown(cell):
    "What a code cell shows as text: (kind, text) of each output, pictures left out."
    for o in cell.get("outputs", []):
        for kind, value in (o.get("data") or {o.get("name", "text"): o.get("text", "")}).items():
            if not kind.startswith("image/") or kind == "image/svg+xml": yield kind, "".join(value) if isinstance(value, (str, list)) else json.dumps(value)


# the rules

RULES, BREAKS = [], {}

def rule(*breaks):
    "Make a function that yields remarks on a notebook a rule; each of `breaks` turns the good example into one that it must remark upon."
    def keep(f): RULES.append(f); BREAKS[f.__name__] = breaks; return f
    return keep

def put(i, old, new):
    "A break: in cell `i` of the good example, `old` becomes `new`."
    def change(nb):
        assert old in text(nb.cells[i]), old
        nb.cells[i]["source"] = text(nb.cells[i]).replace(old, new)
    return change

def add(i, *sources, kind="code", outputs=()):
    "A break: new cells before cell `i`."
    def change(nb): nb.cells[i:i] = [cell(s, kind, *outputs) for s in sources]
    return change

def cell(source, kind="code", *outputs): return dict(cell_type=kind, source=source, **(dict(outputs=list(outputs)) if kind == "code" else {}))

def out(**data): return dict(output_type="display_data", data=data)

def stream(said, name="stdout"): return dict(output_type="stream", name=name, text=said)


@rule(put(0, "> ", ""), put(0, "# Sums", "Sums"), add(0, "x"))
def title_and_promise(nb):
    if not nb.cells or not re.match(r"# .+\n+> .+", text(nb.cells[0])): yield "the first cell is not '# Title' with a '> promise' under it"


@rule(put(1, "**You will**", ""), put(1, "1. add", "- add"), put(1, "**You need**", ""))
def goals_and_needs(nb):
    if not nb.is_chapter: return
    goals = items(opening(nb))
    if "**You will**" not in opening(nb) or not 2 <= len(goals) <= 7: yield f"two to seven numbered goals should stand under '**You will**' at the top; found {len(goals)}"
    if "**You need**" not in opening(nb): yield "what the reader needs is not said at the top ('**You need**')"


@rule(put(1, "about 5 seconds", "short"), put(1, "**Run time**", ""))
def run_time(nb):
    if nb.is_chapter and not re.search(r"\*\*Run time\*\* (about|a few) .*?(second|minute)", opening(nb)): yield "no '**Run time** about N seconds' at the top"


@rule(put(1, "(00_start.ipynb)", "(01_sums.ipynb)"), put(1, "next: [products](02_products.ipynb)", ""), put(1, "(index.ipynb)", "(README.md)"))
def neighbours(nb):
    if not nb.is_chapter: return
    chapters = [n for n in nb.names if n[0].isdigit()]
    at = chapters.index(nb.name)
    want = dict(previous=chapters[at - 1] if at else None, next=(chapters + [None])[at + 1])
    for way, name in want.items():
        found = re.search(rf"\b{way}: \[[^]]+\]\(([^)]+)\.ipynb\)", opening(nb))
        if (found and found[1]) != name: yield f"'{way}' leads to {found and found[1]}, should lead to {name}"
    if not re.search(r"(?:^|· )\[index\]\(index\.ipynb\)(?: ·|$)", opening(nb), re.M): yield "no [index](index.ipynb) beside previous and next"


@rule(add(4, "# text", kind="markdown", outputs=()), put(4, "](00_start.ipynb)", "](07_nowhere.ipynb)"))
def links(nb):
    for name in re.findall(r"\]\(([^)#/:]+)\.ipynb", nb.prose):
        if name not in nb.names: yield f"a link leads to {name}.ipynb, which is not there"
    if len(re.findall(r"^# ", re.sub(r"```.*?```", "", nb.prose, flags=re.S), re.M)) != 1: yield "more than one heading of the first level"


@rule(add(6, "As @fig-sums shows.", kind="markdown"), add(6, "See @sec-sums.", kind="markdown"))
def plain_references(nb):
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", nb.prose, flags=re.S)
    for mark in re.findall(r"@(?:fig|tbl|sec|eq)-[\w-]+", prose): yield f"{mark} is a mark of book tools that JupyterLab shows as it stands; say 'the figure above'"


@rule(put(2, "sums", "summen"))
def module_name(nb):
    want, found = nb.name.partition("_")[2], [name for _, c in nb.code for name in re.findall(r"^#\|\s*default_exp\s+(\S+)", text(c), re.M)]
    if nb.is_chapter and found != [want]: yield f"'#| default_exp {want}' is wanted, found {found}"


@rule(put(5, "def add", "import math\ndef add"), put(3, "import operator", "import operator\nx = 1"))
def imports_apart(nb):
    for i, c in nb.seen:
        if folded(c): continue
        try: body = ast.parse("\n".join("" if re.match(r"\s*[%!]", line) else line for line in text(c).splitlines())).body
        except SyntaxError: yield f"cell {i} is not Python"; continue
        kinds = {isinstance(node, (ast.Import, ast.ImportFrom)) for node in body}
        if len(kinds) == 2: yield f"cell {i} has imports beside other code"


@rule(put(5, "    return", "    a = a\n"*30 + "    return"), add(6, *["1\n2\n3\n4\n5\n6\n7"]*9), add(6, *["1\n"*17]*2))
def cell_length(nb):
    found = [len(lines(c)) for _, c in nb.seen]
    for i, c in nb.seen:
        if len(lines(c)) > LONGEST: yield f"cell {i} has {len(lines(c))} lines, {LONGEST} are the limit"
    if not found: return
    median, ninth = statistics.median(found), sorted(found)[int(.9*(len(found) - 1))]
    if median > MEDIAN: yield f"half of the cells have {median:.0f} lines or more, {MEDIAN} are the limit"
    if ninth > NINE_IN_TEN: yield f"one cell in ten has {ninth} lines or more, {NINE_IN_TEN} are the limit"


@rule(add(6, "x = " + " + ".join(["y"]*30)), add(6, "#| hide\nx = " + " + ".join(["y"]*30)))
def width(nb):
    for i, c in nb.code:
        for line in text(c).splitlines():
            if len(line) > WIDEST and not line.startswith("#|"): yield f"cell {i} has a line of {len(line)} columns, {WIDEST} are the limit"; break


@rule(add(6, "1", "2", "3"))
def prose_between(nb):
    seen, run = dict(nb.seen), 0
    for i, c in enumerate(nb.cells):
        run = 0 if c["cell_type"] == "markdown" else run + (i in seen)
        if run == RUN + 1 and i in seen: yield f"cells {i - RUN} to {i}: more than {RUN} code cells without prose"


PICTURE = out(**{"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"})

@rule(add(6, "draw()", outputs=[PICTURE]), add(6, '#| label: fig-x\n#| fig-cap: "x"\ndraw()', outputs=[PICTURE]), add(6, '#| label: x\n#| fig-cap: "x"\n#| fig-alt: "x"\ndraw()', outputs=[PICTURE]),
      add(6, "![](img/x.png)", kind="markdown"), add(6, "<img src='x.png'>", kind="markdown"), add(6, "page", outputs=[out(**{"text/html": "<img src='x.png' alt=''>"})]))
def alternative_texts(nb):
    labels = []
    for i, c in nb.code:
        names = {name for name in ("label: fig-", "fig-cap: ", "fig-alt: ") if re.search(rf"^#\| {name}\S", text(c), re.M)}
        labels += re.findall(r"^#\| label: (\S+)", text(c), re.M)
        pictures = any(kind.startswith("image/") for o in c.get("outputs", []) for kind in o.get("data", {}))
        if (pictures or names) and len(names) < 3: yield f"cell {i} shows a figure without all of '#| label: fig-…', '#| fig-cap:', '#| fig-alt:'"
        if any(not _alt(tag) for kind, said in shown(c) if kind == "text/html" for tag in re.findall(r"<img\b[^>]*>", said)): yield f"cell {i} shows an <img> without alt"
    if len(set(labels)) < len(labels): yield "two figures have the same label"
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", nb.prose, flags=re.S)
    for tag in re.findall(r"!\[\s*\]\([^)]*\)", prose) + [t for t in re.findall(r"<img\b[^>]*>", prose) if not _alt(t)]: yield f"no alternative text: {tag[:60]}"

def _alt(tag): return re.search(r"""\balt=(["'])(?!\1)""", tag)


FIGURE = '#| label: fig-x\n#| fig-cap: "x"\n#| fig-alt: "A cross."\ndraw()'

@rule(add(6, FIGURE))
def figures_drawn(nb):
    for i, c in nb.code:
        kinds = [kind for o in c.get("outputs", []) for kind in o.get("data", {})]
        if re.search(r"^#\| label: fig-", text(c), re.M) and not any(k.startswith("image/") or k == "text/html" for k in kinds): yield f"the figure of cell {i} is not among the outputs: execute the notebook"


def _size(x): return len(json.dumps(x, ensure_ascii=False).encode())

@rule(add(6, "x", outputs=[stream("x"*OUTPUTS)]), lambda nb: setattr(nb, "size", FILE + 1))
def outputs_small(nb):
    size = sum(_size(c["outputs"]) for _, c in nb.code if c.get("outputs"))
    if size > OUTPUTS: yield f"outputs of {size/1000:.0f} KB, {OUTPUTS//1000} are the limit; " + ", ".join(f"cell {i} {_size(c['outputs'])/1000:.0f}" for i, c in sorted(nb.code, key=lambda ic: -_size(ic[1].get("outputs", [])))[:3])
    if nb.size > FILE: yield f"a file of {nb.size/1024:.0f} KiB, {FILE//1024} are the limit"


@rule(add(6, "1/0", outputs=[dict(output_type="error", ename="ZeroDivisionError")]))
def no_errors(nb):
    for i, c in nb.code:
        for o in c.get("outputs", []):
            if o["output_type"] == "error": yield f"cell {i} ended in {o['ename']}"


@rule(*(add(6, "x", outputs=[out(**{"text/plain": said})]) for said in ("<matplotlib.legend.Legend at 0x7fc48e81ee50>", "<function shutil.rmtree(path)>", "[<Axes: >, <a.B object at 0x7f00>]", "<bound method X.y of 3>", "Output()")),
      add(6, "bar", outputs=[out(**{"application/vnd.jupyter.widget-view+json": "{}", "text/plain": "Output()"})]))
def nothing_by_address(nb):
    for i, c in nb.code:
        for o in c.get("outputs", []):
            kinds, said = o.get("data", {}), "".join(o.get("data", {}).get("text/plain", ""))
            plain = set(kinds) <= {"text/plain", "application/vnd.jupyter.widget-view+json"} # all that the book can show
            if plain and re.search(r" at 0x[0-9a-f]+>|^<(function|bound method|class|module) |^Output\(\)$", said): yield f"cell {i} shows what no reader can use: {said[:50]!r}; end the line with a semicolon"


@rule(add(6, "plt.subplots(dpi=60)"), add(6, "fig.set_dpi(60)"), add(6, 'plt.rcParams["figure.dpi"] = 60'))
def one_resolution(nb):
    if nb.name == "00_core": return # where it is set
    for i, c in nb.code:
        if "dpi" in text(c) and not re.search(r"#\| *export", text(c)): yield f"cell {i} sets a resolution of its own: figure_style sets the one of all"


@rule(add(6, "warn()", outputs=[stream("UserWarning: old", "stderr")]))
def no_warnings(nb):
    for i, c in nb.code:
        for kind, said in shown(c):
            if kind == "stderr": yield f"cell {i} shows what went to stderr: {said.strip()[:60]!r}"


@rule(*(add(6, "where", outputs=[stream(f"in {path}/x")]) for path in ("/tmp", "/home/ann", "/work", "/Users/ann")), add(6, "where", outputs=[out(**{"text/plain": "PosixPath('/tmp/x')"})]))
def no_machine_paths(nb):
    for i, c in nb.code:
        for kind, said in shown(c):
            if found := re.search(r"(?<![\w.:/])(file://)?/(tmp|home|work|root|Users|var|opt|private)\b[\w/.-]*", re.sub(r"data:[\w/+.-]+;base64,[\w+/=]+", "", said)): yield f"cell {i} shows a path of this machine: {found[0]}"


LITTLE = set("a an and are as at be by can do does each every for from has have how in into is it its no not of on one or says see so such that the then there they this to two up what when which who why will with you your".split())

def words(said): return {w[:5] for w in re.findall(r"[a-z0-9]+", said.lower()) if w not in LITTLE and len(w) > 1}

@rule(put(8, "2. Doubling", "Doubling"), put(8, "`add` adds two numbers", "This was fun"))
def recap_mirrors_goals(nb):
    if not nb.is_chapter: return
    goals, recap = items(opening(nb)), items(section(nb, "Recap"))
    if len(goals) != len(recap): yield f"{len(goals)} goals, but {len(recap)} numbered points in the recap"
    for k, (goal, point) in enumerate(zip(goals, recap), 1):
        if not words(goal) & words(point): yield f"point {k} of the recap has no word of goal {k}: {point[:60]!r}"


def told(nb):
    "A break: a folded solution whose first line tells it."
    nb.cells[8:8] = [dict(cell("# Solution: take away\nadd(1, -2)"), metadata=FOLDED)]

FOLDED = dict(tags=["hide-cell"], jupyter=dict(source_hidden=True))

@rule(told, add(8, "# Solution\nadd(1, -2)"), add(8, "answer = ...\ncheck_answer(answer, 'c0de')"))
def solutions_folded(nb):
    for i, c in nb.code:
        if not text(c).startswith("# Solution"): continue
        if not folded(c): yield f"the solution in cell {i} is not folded away (the tag 'hide-cell', and jupyter: source_hidden)"
        if text(c).splitlines()[0] != "# Solution": yield f"the first line of cell {i} is more than '# Solution', and JupyterLab shows the first line of a folded cell"
    asked = [i for i, c in nb.code if re.search(r"^answer = \.\.\.", text(c), re.M)]
    for i, after in zip(asked, asked[1:] + [len(nb.cells)]):
        if not any(text(c).startswith("# Solution") for c in nb.cells[i:after]): yield f"the exercise of cell {i} has no solution ('# Solution')"


@rule(put(8, "## Exercises", "## Questions"), put(8, "## Further reading", "### Further reading"), put(8, "## Recap", "## Summary"), put(8, "## Further", "## More\n\n## Further"))
def closing_sections(nb):
    want, found = ["Recap", "Exercises", "Further reading"], re.findall(r"^## (.+?)\s*$", nb.prose, re.M)
    if nb.is_chapter and found[-3:] != want: yield f"the last sections should be {', '.join(want)}; they are {', '.join(found[-3:])}"


@rule(put(9, "#| hide", ""), put(9, "nbdev_export()", "nbdev_clean()"))
def export_last(nb):
    last = text(nb.cells[-1])
    if nb.is_chapter and not ("nbdev_export()" in last and re.search(r"^#\| hide\b", last)): yield "the last cell is not the hidden one that exports"


# each rule is right about an example

def example():
    "A notebook without a fault, which each rule's breaks spoil."
    sources = ["md", "# Sums\n\n> Numbers are put together.", "md", "**You will**\n\n1. add two numbers;\n2. double one.\n\n**You need** nothing. **Run time** about 5 seconds.\n\n"
        "previous: [start](00_start.ipynb) · [index](index.ipynb) · next: [products](02_products.ipynb)", "code", "#| default_exp sums", "code", "#| export\nimport operator",
        "md", "## Adding\n\nAs in [the chapter before](00_start.ipynb):", "code", '#| export\ndef add(\n    a, # a number\n    b, # another\n):     # their sum\n    "Add."\n    return operator.add(a, b)',
        "code", "add(1, 2)", "code", "assert add(1, 2) == 3", "md", "## Recap\n\n1. `add` adds two numbers.\n2. Doubling is adding a number to itself.\n\n## Exercises\n\n1. Subtract.\n\n## Further reading\n\n- Peano",
        "code", "#| hide\nimport nbdev; nbdev.nbdev_export()"]
    return Notebook("01_sums", [cell(s, "markdown" if kind == "md" else "code") for kind, s in zip(sources[::2], sources[1::2])], ("00_start", "01_sums", "02_products", "index"))


@pytest.mark.parametrize("rule", RULES, ids=lambda f: f.__name__)
def test_a_good_notebook_passes(rule): assert not list(rule(example()))


@pytest.mark.parametrize("rule, spoil", [(f, b) for f in RULES for b in BREAKS[f.__name__]], ids=[f"{f.__name__}-{k}" for f in RULES for k in range(len(BREAKS[f.__name__]))])
def test_each_rule_sees_what_breaks_it(rule, spoil):
    nb = deepcopy(example()); spoil(nb)
    assert list(rule(nb))


def test_hidden_cells_do_not_count():
    nb = example(); add(6, "#| hide\n1", "#| hide\n" + "1\n"*40, "#| hide\n3")(nb)
    assert not list(prose_between(nb)) and not list(cell_length(nb))


def test_the_first_and_the_last_chapter_have_one_neighbour():
    nb = example(); nb.names = ("01_sums", "index")
    assert len(list(neighbours(nb))) == 2
    put(1, "previous: [start](00_start.ipynb) · ", "")(nb); put(1, " · next: [products](02_products.ipynb)", "")(nb)
    assert not list(neighbours(nb))


def test_a_picture_with_all_its_texts_passes():
    nb = example(); add(6, FIGURE, outputs=[PICTURE])(nb); add(6, "![A cross](img/x.png)", kind="markdown")(nb)
    assert not list(alternative_texts(nb)) and not list(figures_drawn(nb))


def test_an_exercise_with_its_solution_passes():
    nb = example(); add(8, "answer = ...\ncheck_answer(answer, 'c0de')", "# Solution\nimport operator\nanswer = add(1, -2)")(nb)
    nb.cells[9]["metadata"] = FOLDED
    assert not list(solutions_folded(nb)) and not list(imports_apart(nb))


# the notebooks

def read(name):
    path = NBS/f"{name}.ipynb"
    return Notebook(name, json.loads(path.read_text(encoding="utf8"))["cells"], NAMES, path.stat().st_size)


@pytest.mark.parametrize("name", NAMES)
def test_notebook(name):
    nb = read(name)
    remarks = [f"{f.__name__}: {remark}" for f in RULES for remark in f(nb)]
    assert not remarks, "\n".join([f"{name}.ipynb departs from the house style:", *remarks])
