"The book: what `book/build.py` makes of small notebooks, modules and lists, then what the real ones lack. Nothing here needs Sphinx but the last test."
import importlib.util, json, os, re, subprocess, sys
from pathlib import Path
import pytest

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("book_build", ROOT/"book/build.py")
book = importlib.util.module_from_spec(spec)
sys.modules["book_build"] = book
spec.loader.exec_module(book)

BIB = book.read_bib("""
@article{holm1979,
  author = {Holm, Sture},
  title = {A Simple Sequentially Rejective Multiple Test Procedure},
  journal = {Scandinavian Journal of Statistics},
  year = {1979},
}

@misc{zhou2025,
  author = {Zhou, Hongyu and Sun, Aixin},
  title = {Does {MM} Improve Recommender Systems?},
  eprint = {2508.05377},
  year = {2025},
}
""")
MODULE = '''"""What is measured."""
__all__ = ["LIMIT", "gain", "Meter", "span"]
LIMIT = 3 # never more
def gain(
    a,        # scores [n]
    b,        # other scores,
              # of the same length
    level=.9, seed=0, # as always
    *, how="mean", # mean or median
):            # one number,
              # in `Meter`'s unit
    "The gain of `a` | `b`."
@dataclass
class Meter:
    "Counts."
    unit: str = "m" # metre or second
    def read(self, t): "Read at t."
    def silent(self): pass
def span(x): # length
    "Length of x."
@patch
def wait(self:Meter,
    s, # seconds
): # self
    "Wait."
def _hidden(): pass
'''

def md(text): return dict(cell_type="markdown", id="a", metadata={}, source=text.splitlines(True))
def code(text, *outputs, tags=()): return dict(cell_type="code", id="b", metadata=dict(tags=list(tags)) if tags else {}, source=text.splitlines(True), outputs=list(outputs), execution_count=3)
def picture(kind="image/png"): return dict(output_type="display_data", data={kind: "AAAA", "text/plain": "<Figure>"}, metadata={})

@pytest.fixture
def modules(tmp_path):
    (tmp_path/"meter.py").write_text(MODULE)
    return book.read_modules(tmp_path)

def links(cells, modules=None, number="3", terms=None):
    chapter = book.Chapter(f"0{number}_meter", [md("# How long?"), *cells])
    return chapter, book.Links(book.figures([chapter]), BIB, book.Names(modules or {}), terms or {}, "https://example.org/blob/main")

def made(cells, **how):
    chapter, all_links = links(cells, **how)
    return book.chapter_notebook(chapter, all_links)["cells"][1:]

def texts(cells): return ["".join(c["source"]) for c in cells]

FIGURE = '#| label: fig-bars\n#| fig-cap: "Length of $x$, \\"made up\\"."\n#| fig-alt: "Two bars."\nplot()'


class TestCells:
    def test_captions_and_alternative_texts(self):
        cell, = made([code(FIGURE, picture())])
        shown = cell["metadata"]["mystnb"]
        assert shown["figure"]["caption"] == '**Figure 3.1.** Length of $x$, "made up".' and shown["figure"]["name"] == "fig-meter-bars"
        assert shown["image"]["alt"] == "Two bars." and "".join(cell["source"]) == "plot()"

    def test_a_figure_among_other_outputs_stands_alone(self):
        said = dict(output_type="stream", name="stdout", text="two bars")
        first, second = made([code(FIGURE, said, picture(), picture())])
        assert len(first["outputs"]) == 2 and "mystnb" not in first["metadata"]
        assert second["metadata"]["tags"] == ["remove-input"] and len(second["outputs"]) == 1 and "figure" in second["metadata"]["mystnb"]

    def test_references_to_figures(self):
        cells = made([code(FIGURE, picture()), md("See @fig-bars, not `@fig-bars`, nor me@fig-bars.")])
        assert texts(cells)[1] == "See [Figure 3.1](#fig-meter-bars), not `@fig-bars`, nor me@fig-bars."
        with pytest.raises(book.BookError, match="no figure is called fig-none"): made([md("See @fig-none.")])
        with pytest.raises(book.BookError, match="a second figure"): made([code(FIGURE), code(FIGURE)])

    @pytest.mark.parametrize("text", ["#| hide\nimport os", "#| default_exp meter", "#| include: false\nx", "#| echo: false\n#| hide\nx = 1", "#| export"])
    def test_hidden_cells_are_gone(self, text): assert made([code(text)]) == []

    def test_directives_are_not_shown(self):
        for head in ("#| export", "#| exports", "#| eval: false", "#|export"): assert texts(made([code(head + "\nx = 1")])) == ["x = 1"]

    def test_output_without_its_code(self):
        cell, = made([code("#| echo: false\nshow()", picture())])
        assert cell["metadata"]["tags"] == ["remove-input"]

    def test_solutions_stay_folded(self):
        cell, = made([code("# Solution\n2 + 2", tags=["hide-cell"])])
        assert cell["metadata"] == dict(tags=["hide-cell"], mystnb=dict(code_prompt_show="Show the solution", code_prompt_hide="Hide the solution"))

    def test_widgets_and_empty_html_are_left_out(self):
        bar, empty, table = ({"output_type": "display_data", "metadata": {}, "data": d} for d in
                             ({"application/vnd.jupyter.widget-view+json": {}, "text/plain": "0%"}, {"text/html": "<pre></pre>\n", "text/plain": ""}, {"text/html": "<table><tr><td>1</td></tr></table>"}))
        assert made([code("x", bar, empty, table)])[0]["outputs"] == [table]


class TestProse:
    def prose(self, text, **how): return texts(made([md("Before."), md(text)], **how))[1]

    def test_title_gets_its_number_and_the_line_of_neighbours_goes(self):
        chapter, all_links = links([md("Goals.\n\nprevious: [a](01_a.ipynb) · [index](index.ipynb) · next: [b](04_b.ipynb)")])
        assert texts(book.chapter_notebook(chapter, all_links)["cells"]) == ["# 3 · How long?", "Goals.\n\n"]

    def test_links(self): assert self.prose("[a](#Some-Place), [b](CHANGELOG.md), [c](06_sim.shop.ipynb)") == "[a](#some-place), [b](https://example.org/blob/main/CHANGELOG.md), [c](06_sim.shop.ipynb)"

    def test_names_lead_to_the_api_once_a_cell(self, modules):
        assert self.prose("`gain` and `gain`, `Meter.wait`, `mmrec.meter`, `other`, [`gain`](x)\n\n```\n`gain`\n```", modules=modules) == (
            "{py:obj}`gain <mmrec.meter.gain>` and `gain`, {py:obj}`Meter.wait <mmrec.meter.Meter.wait>`, [`mmrec.meter`](api/meter.md), `other`, [`gain`](x)\n\n```\n`gain`\n```")

    def test_common_words_of_other_chapters_are_left_alone(self, modules):
        names = book.Names(modules)
        assert names.link("`gain` `Meter`", own="shop") == "`gain` {py:obj}`Meter <mmrec.meter.Meter>`"

    def test_terms_lead_to_the_glossary_once_a_chapter(self):
        cells = made([md("## An interval\n\n`interval` $interval$ Intervals, interval"), md("interval")], terms=dict(meter={"interval": "interval"}))
        assert texts(cells) == ["## An interval\n\n`interval` $interval$ {term}`Intervals <interval>`, interval", "interval"]

    def test_papers_in_prose(self):
        assert book.cite("by a rule (Holm 1979), `Holm 1979`; arXiv 2508.05377; Zhou et al. 2025", BIB) == (
            "by a rule ([Holm 1979](#ref-holm1979)), `Holm 1979`; [arXiv 2508.05377](#ref-zhou2025); [Zhou et al. 2025](#ref-zhou2025)", ["zhou2025", "holm1979"][::-1])


class TestLists:
    def test_further_reading(self):
        prose = "## Further reading\n\n- S. Holm: *A simple sequentially rejective\n  multiple test procedure*, 1979: why *so* many.\n- A. Nobody: *Unheard of*, 1900.\n"
        first, second = book.reading(prose)
        assert book.find_reading(first, BIB) == (["holm1979"], [])
        assert book.find_reading(second, BIB)[1] == ["Unheard of"]

    def test_a_reference_as_a_line(self):
        assert book.reference(BIB["holm1979"]) == "Sture Holm, 1979: *A Simple Sequentially Rejective Multiple Test Procedure*. Scandinavian Journal of Statistics."
        assert book.reference(BIB["zhou2025"]).endswith("arXiv:2508.05377. <https://arxiv.org/abs/2508.05377>")

    def test_glossary(self):
        text = "# Glossary\n---\nsplit / parts\n: Parting\nthe rows. [meter]\n\nbase\n: First. [meter]"
        assert book.read_glossary(text)[0] == (["split", "parts"], "Parting the rows.", "meter")
        page = book.glossary_page(text, dict(meter=book.Chapter("03_meter", [md("# How long?")])))
        assert page.index("base") < page.index("split\nparts\n  Parting the rows. [3 · How long?](03_meter.ipynb)")
        with pytest.raises(book.BookError, match="no chapter exports"): book.glossary_page(text, {})


class TestApi:
    def test_docments(self, modules):
        d = modules["meter"].defined["gain"]
        assert [(p.name, p.default, p.meaning) for p in d.parameters] == [("a", "", "scores [n]"), ("b", "", "other scores, of the same length"), ("level, seed", "0.9, 0", "as always"), ("how", "'mean'", "mean or median")]
        assert d.signature == "(a, b, level=0.9, seed=0, *, how='mean')" and d.returns == "one number, in `Meter`'s unit"
        assert modules["meter"].defined["span"].returns == "length"

    def test_classes_with_patched_methods(self, modules):
        d = modules["meter"].defined["Meter"]
        assert d.parameters == [book.Parameter("unit", "str", "'m'", "metre or second")]
        assert [m.name for m in d.methods] == ["read", "wait"] and d.methods[1].parameters[0].meaning == "seconds"

    def test_page(self, modules):
        page = book.api_page(modules["meter"], book.Names(modules), book.Chapter("03_meter", [md("# How long?")]))
        assert "{py:function} gain(a, b, level=0.9, seed=0, *, how='mean')" in page and "{py:method} Meter.wait(s)" in page and "{py:data} LIMIT" in page
        assert r"The gain of `a` \| `b`." in page and "[3 · How long?](../03_meter.ipynb)" in page and "_hidden" not in page


class TestLinks:
    def site(self, folder, **pages):
        for name, text in pages.items(): (folder/f"{name}.html").write_text(text)
        return book.check_site(folder)

    def test_what_is_wrong_is_named(self, tmp_path):
        wrong = self.site(tmp_path, a='<a href="b.html#here">x</a><a href="b.html#gone">x</a><a href="c.html">x</a><a href="../up.html">x</a><a href="https://example.org">x</a><a href="https://nowhere">x</a>',
                          b='<p id="here"></p><img src="https://example.org/p.png" alt=""><script src="//cdn.example.org/x.js"></script>')
        assert sorted(wrong) == ["a.html: ../up.html: no such file", "a.html: b.html#gone: no such place", "a.html: c.html: no such file", "a.html: https://nowhere: not an address",
                                 "b.html: asks another host: //cdn.example.org/x.js", "b.html: asks another host: https://example.org/p.png"]

    def test_a_good_site(self, tmp_path): assert self.site(tmp_path, a='<a id="x" href="#x">x</a><a href="mailto:a@b">x</a><img src="data:image/png;base64,AA" alt="">') == []


# The real book

@pytest.fixture(scope="module")
def chapters(): return book.chapters(ROOT/"nbs")

@pytest.fixture(scope="module")
def bib(): return book.read_bib((ROOT/"book/references.bib").read_text(encoding="utf8"))

def test_every_paper_has_an_entry(chapters, bib):
    missing = {c.stem: what for c in chapters for e in book.reading(c.prose) for what in book.find_reading(e, bib)[1:] if what}
    assert not missing, f"add to book/references.bib: {missing}"

def test_every_entry_is_named_in_a_chapter(chapters, bib):
    used = {k for c in chapters for k in [*book.cite(c.prose, bib)[1], *(k for e in book.reading(c.prose) for k in book.find_reading(e, bib)[0])]}
    assert not set(bib) - used

def test_terms_are_used_in_the_chapters_they_name(chapters):
    texts = {c.module: "\n".join(map(book.source, c.cells)) for c in chapters}
    entries = book.read_glossary((ROOT/"book/glossary.md").read_text(encoding="utf8"))
    assert len(entries) >= 40
    terms = [t.lower() for names, _, _ in entries for t in names]
    assert len(terms) == len(set(terms))
    assert not [names for names, _, module in entries if not any(re.search(book.term_pattern(t), texts.get(module, ""), re.I) for t in names)]

def test_every_export_is_in_the_api(chapters):
    modules = book.read_modules(ROOT/"mmrec", [c.module for c in chapters])
    assert set(modules) >= {p.stem for p in (ROOT/"mmrec").glob("[!_]*.py") if "__all__" in p.read_text(encoding="utf8")}
    names = book.Names(modules)
    for m in modules.values():
        page = book.api_page(m, names, None)
        assert not [n for n in m.exports if not re.search(rf"\{{py:(function|class|data)\}} {n}\b", page)], m.name

def test_nothing_hidden_is_shown():
    for name, text in book.pages(ROOT).items():
        if not name.endswith(".ipynb"): continue
        for cell in json.loads(text)["cells"]:
            shown = "".join(cell["source"])
            assert not re.match(r"#\|", shown) and "nbdev_export" not in shown and "](index.ipynb) · next" not in shown, (name, shown[:80])
            figure = cell["metadata"].get("mystnb", {}).get("figure")
            if figure: assert re.match(r"\*\*Figure \d+\.\d+\.\*\* \S", figure["caption"]) and cell["metadata"]["mystnb"]["image"]["alt"], (name, figure)

def test_only_pages_that_changed_are_written_again(tmp_path):
    assert not book.prepare(tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    (tmp_path/"99_old.ipynb").write_text("{}")
    next(iter(tmp_path.glob("00_*.ipynb"))).write_text("{}")
    assert book.prepare(tmp_path)
    assert [p.name for p, at in before.items() if p.stat().st_mtime_ns != at] == ["00_core.ipynb"]

def test_names_that_differ_in_capitals_have_targets_of_their_own():
    assert len({book.place("fields", n).lower() for n in ("survey", "Survey", "surveys")}) == 3

def test_the_whole_book(tmp_path):
    python = Path(os.environ.get("MMREC_BOOK_PYTHON", ROOT/".venv-book/bin/python"))
    if not python.exists(): pytest.skip("`make test` and `make book` make the environment")
    call = f"import sys; sys.path.insert(0, {str(ROOT/'book')!r}); import build; build.build({str(tmp_path)!r})"
    done = subprocess.run([python, "-c", call], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    html = (tmp_path/"html/30_eval.measures.html").read_text(encoding="utf8")
    assert "<figcaption>" in html and "prev-next" in html and (tmp_path/"html/searchindex.js").exists()
