"The write-up: one paper in three files, numbers that are the run's, strangers' words that stay words, a study that runs."
import dataclasses, html, json, re, shutil, subprocess, sys, zlib
from pathlib import Path
import numpy as np, pandas as pd, pytest
from hypothesis import given, settings, strategies as st
from markdown_it import MarkdownIt
from mmrec.eval import measures as ev
from mmrec.cli import main
from mmrec.core import MmrecError, file_sha256, read_json, write_json
from mmrec.pipeline import RunConfig, run
from mmrec.report.page import with_interval
from mmrec.report.paper import (QUESTIONS, WORKS, Html, Mark, Md, bullets, cards, clean, config_file, gain_sentence, gallery_items, gains, heading, limits, listing,
                           new_study, note, paper, para, read_config, read_run, resolve, run_or_open, table, typeset, write_paper)

HOSTILE = ["#set text(red)", "$x^2$ and $", "<script>alert(1)</script>", "a | b || c", "*bold* _it_ **x**", "`code` ```", "\\ \\n \\u{1}", "[a](javascript:b) ![c](d)", "漢字かな", "שלום עולם", "😀👩‍👩‍👧", "\u202egnp.exe",
           "1. one", "- dash", "+ plus", "# head", "> quote", "=====", "---", "~~gone~~", "&lt;b&gt; &amp;", "@cite2020 #1", "http://x.org www.x.org", "a\x00b\x07c\x1b[31m", "line\nbreak\r\n\r\nnew", "\ud800 half", "{{ x }} {% y %}", "\"quotes\" 'and'", "^sup^ ~sub~", "<!-- c -->", "$$", "]]>", ":smile:", "|"]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    home = tmp_path_factory.mktemp("writeup")
    return RunConfig(shop_items=120, shop_reviews=900, n_images=60, text="tfidf", epochs=2, draws=100, out=str(home/"runs"), data=str(home/"data"))


@pytest.fixture(scope="module")
def made(config): return run(config, say=lambda line: None)


@pytest.fixture
def folder(made, tmp_path): return Path(shutil.copytree(made, tmp_path/"a-run"))


def words(doc):
    "All the words of a resolved paper, as one string."
    out = [doc["title"]]
    for b in doc["blocks"]:
        line = lambda parts: "".join(p if isinstance(p, str) else p["text"] for p in parts)
        out += [b.get("text", ""), b.get("caption", ""), line(b.get("parts", ()))]
        if b["kind"] == "bullets": out += [line(i) for i in b["items"]]
        if b["kind"] == "works": out += b["items"]
        if b["kind"] == "table": out += [" ".join(r) for r in [b["head"], *b["rows"]]]
        if b["kind"] == "cards": out += [" ".join((i["head"], i["title"], i["text"])) for i in b["items"]]
    return "\n".join(out)


def block(doc, label): return next(b for b in doc["blocks"] if b.get("label") == label)


# one paper, three files

@pytest.mark.parametrize("to", ["html", "md", "pdf"])
def test_same_folder_same_bytes_whatever_its_name(folder, tmp_path, to):
    first = write_paper(folder, to).read_bytes()
    other = shutil.copytree(folder, tmp_path/"another-name")
    assert write_paper(folder, to).read_bytes() == first == write_paper(other, to).read_bytes()


def test_the_three_hold_the_same_words(folder):
    doc = paper(folder)
    web = html.unescape(re.sub(r"<[^>]+>", "", re.sub(r"<style>.*?</style>", "", Html(folder).page(doc), flags=re.S)))
    read = html.unescape(re.sub(r"<[^>]+>", "", MarkdownIt("commonmark").enable("table").render(Md(folder).page(doc))))
    for b in doc["blocks"]:
        for cell in [c for r in b["rows"] for c in r] if b["kind"] == "table" else [b["text"]] if b["kind"] == "heading" else [p for p in b.get("parts", []) if isinstance(p, str)]:
            assert cell.strip() in web and cell.strip() in read, cell


def test_tables_figures_and_works_are_numbered_in_order_and_all_references_lead_somewhere(folder):
    doc = paper(folder)
    for word in ("Table", "Figure"):
        found = [b["number"] for b in doc["blocks"] if b.get("number", "").startswith(word)]
        assert found == [f"{word} {k}" for k in range(1, len(found) + 1)] and len(found) > 4
    page = Html(folder).page(doc)
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(re.findall(r'id="([^"]+)"', page))
    assert all(b["alt"] and b["caption"] for b in doc["blocks"] if b["kind"] == "figure")
    assert set(doc["works"]) <= set(WORKS)


def test_a_page_asks_for_nothing_and_markdown_points_to_files_that_are_there(folder):
    page = write_paper(folder, "html").read_text(encoding="utf8")
    assert not re.search(r"<script|(src|href)=\"(?!data:|#)|@import|url\(", page)
    text = write_paper(folder, "md").read_text(encoding="utf8")
    links = re.findall(r"!\[(?:[^\]\\]|\\.)*\]\(([^)]+)\)", text)
    assert len(links) > 8 and all((folder/x).is_file() for x in links)
    bib = (folder/"paper.bib").read_text(encoding="utf8")
    assert bib.count("@") == len(paper(folder)["works"]) and bib.count("{") == bib.count("}")


def test_a_pdf_has_text_title_page_numbers_and_alt_text(folder):
    data = write_paper(folder, "pdf", author="Ann Example").read_bytes()
    assert data.startswith(b"%PDF") and b"/StructTreeRoot" in inflated(data) and b"pdfuaid" in inflated(data)
    assert b"/MediaBox[0 0 595" in inflated(data) and b"/Alt" in inflated(data) and b"Ann Example" in inflated(data)
    if shutil.which("pdftotext"):
        (folder/"p.pdf").write_bytes(data)
        text = subprocess.run(["pdftotext", "-layout", folder/"p.pdf", "-"], capture_output=True, text=True).stdout
        assert "Predicting ratings from" in text and re.search(r"1\s*/\s*\d", text) and "Table 3." in text and "made-up data" in text


def inflated(data):
    "A PDF with its streams unpacked."
    out = data
    for part in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", data, re.S):
        try: out += zlib.decompress(part)
        except zlib.error: pass
    return out


def test_without_the_typesetter_one_line_says_what_to_do(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "typst", None)
    assert main(["report", str(folder), "--to", "pdf"]) == 1
    said = capsys.readouterr().err
    assert "pip install typst" in said and len(said.splitlines()) == 1 and not (folder/"paper.pdf").exists()


def test_markdown_that_somebody_has_written_in_is_kept(folder):
    path = write_paper(folder, "md")
    write_paper(folder, "md")
    text = path.read_text(encoding="utf8") + "\nmy words\n"
    path.write_text(text, encoding="utf8")
    with pytest.raises(MmrecError, match="somebody has written in it"): write_paper(folder, "md")
    assert path.read_text(encoding="utf8") == text
    path.unlink(); write_paper(folder, "md")


# numbers

def test_numbers_are_those_of_the_run(folder):
    m, doc = read_json(folder/"metrics.json"), paper(folder)
    rows = {r[0]: r[1:] for r in block(doc, "tab-results")["rows"]}
    for name, p in m["protocols"].items():
        for k, measure in enumerate(("accuracy", "balanced accuracy")):
            at = 2*list(m["protocols"]).index(name) + k
            for r in p["table"]: assert rows[r["model"]][at] == with_interval(r, measure)
    full = {r[0]: r[1:] for r in block(doc, "tab-measures")["rows"]}
    for r in m["protocols"]["honest"]["table"]: assert full[r["model"]][:7] == ["–" if r[c] is None else f"{r[c]:.3f}" for c in ("accuracy", "balanced accuracy", "macro-F1", "MAE", "RMSE", "QWK", "within one")]
    for k, v in m["protocols"]["course"]["leakage"].items(): assert [f"{100*v:.1f} %"] == next(r for r in block(doc, "tab-leakage")["rows"] if r[0] == k)[2:]
    assert m["command"] in words(doc) and all(f"{f['sha256']}  {f['name']}" in words(doc) for f in m["source"]["files"])
    for name in ("metrics.json", "model.keras", "predictions.parquet"): assert f"{file_sha256(folder/name)}  {name}" in words(doc)


def test_gains_are_differences_of_the_scores_and_agree_with_the_run(folder):
    f = read_run(folder)
    g, own = gains(f), {(d["comparison"], d["measure"]): d["difference"] for d in f.p["differences"]}
    assert len(g) == 6
    for _, r in g.iterrows():
        assert r["gain"] == pytest.approx(f.scores[r["model"]][r["measure"]] - f.scores[r["rival"]][r["measure"]], abs=1e-6)
        if (key := (f"{r['model']} − {r['rival']}", r["measure"])) in own: assert r["gain"] == pytest.approx(own[key], abs=1e-6)
        assert r["low"] <= r["gain"] <= r["high"]


@settings(max_examples=60, deadline=None)
@given(gain=st.floats(-.3, .3), half=st.floats(0, .3), see=st.floats(.001, .5) | st.just(np.inf), word=st.sampled_from(["better", "better, by less than 1.0 points", "worse", "worse, by less than 1.0 points", "no effect larger than 1.0 points", "cannot tell: too few reviews (a gain of 3.0 points could be seen)", "cannot tell: the two models answer alike", "cannot tell: too few products"]))
def test_a_sentence_claims_what_its_verdict_allows(gain, half, see, word):
    says = gain_sentence({"model": "text + image", "rival": "text", "measure": "accuracy", "gain": gain, "low": gain - half, "high": gain + half, "verdict": word, "could see": see})
    assert ("higher" in says) == word.startswith("better") and ("lower" in says) == word.startswith("worse")
    assert ("cannot be told" in says) == word.startswith("cannot") and ("differ by less" in says) == word.startswith("no effect")
    assert "95 % interval" in says and says.endswith(".") and says[0] == "T" and "nan" not in says and "inf" not in says


def test_limits_follow_from_the_run(folder):
    f = read_run(folder)
    g, m = gains(f), f.m
    says = lambda **change: " ".join(limits(dataclasses.replace(f, m=m | change), g))
    assert "made up" in says() and "made up" not in says(made_up=False)
    assert "test set is small" in says() and "How well a recommender" not in says()
    assert "not how well a recommender" in says() and "not how well a recommender" not in says(text_from="item")
    assert "No control was run" not in says(main="text")
    large = m["protocols"]["honest"] | dict(split=dict(train=10, valid=10, test=10_000), pictures=[], leakage={})
    assert not any(w in says(protocols=dict(honest=large)) for w in ("small", "no picture", "same user", "forecast"))


# what strangers wrote

@pytest.mark.parametrize("text", HOSTILE)
def test_strangers_words_stay_words(text, tmp_path):
    doc = resolve(dict(title=text, author=text, date="", blocks=[heading(text), para(text), para("see ", Mark(text), " ", Mark(text, "strong"), " ", Mark(text, "em")), note(text), bullets([text, text]), bullets([text], ordered=True),
        table("tab-x", text, ["a", text], [[text, text]]), cards("fig-x", text, [dict(head="rated", title=text, text=text, picture="")]), listing(text)]))
    want = " ".join(clean(text).split())
    read = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(Md(tmp_path).page(doc))
    plain = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", read)).split())
    assert plain.count(want) >= 10 and read.count("<table>") == 2 and read.count("<ul>") == 1 and read.count("<ol>") == 1 and read.count("<h1>") == 1 and read.count("<h2>") == 1
    assert not re.search(r"<(script|del|a|img|b|i|hr)\b", read) and read.count("<strong>") == 3 and read.count("<em>") == 1 - (not want)
    page = Html(tmp_path).page(doc)
    assert not re.search(r"<script|javascript:[^<]*\"", page) and "\u202e" not in page
    assert " ".join(html.unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", page, flags=re.S))).split()).count(want) >= 10
    page.encode("utf8")
    assert typeset(doc, tmp_path) == typeset(doc, tmp_path)


@settings(max_examples=25, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_can_be_set(text):
    doc = resolve(dict(title="t", author="", date="", blocks=[heading("h"), para(text), table("tab-x", text, ["a", "b"], [[text, "1"]])]))
    assert typeset(doc, ".").startswith(b"%PDF")
    read = MarkdownIt("commonmark").enable("table").render(Md(Path()).page(doc))
    assert read.count("<table>") == 1 and read.count("<h1>") == 1 and not re.search(r"<(a|img|em|ul|ol|blockquote|hr|pre)\b", read)


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=200), title=st.text(max_size=40))
def test_a_gallery_is_read_back_as_it_was(tmp_path_factory, text, title):
    text, title = (t.encode("utf8", "ignore").decode("utf8") for t in (text, title))
    path = tmp_path_factory.mktemp("g")/"g.html"
    path.write_text(ev.gallery(pd.DataFrame([dict(item_title=title, text=text, actual="<5>", predicted="b & c", sure=.123, image_path="")])), encoding="utf8", newline="")
    item, = gallery_items(path)
    squeeze = lambda t: " ".join(t.replace("\r\n", "\n").replace("\r", "\n").split())
    assert item["head"] == "rated <5>, predicted b & c (12 % sure)" and squeeze(item["title"]) == squeeze(title)
    assert squeeze(item["text"]) == (squeeze(text) or "no text") and item["picture"] == ""


def test_a_hostile_shop_makes_a_paper(folder):
    m = read_json(folder/"metrics.json")
    m |= dict(name=HOSTILE[2], notes=HOSTILE, summary=[[a, a] for a in HOSTILE], log=[dict(table="reviews", rule=a, rows=1, action=a, examples=a) for a in HOSTILE])
    (folder/"metrics.json").write_text(json.dumps(m), encoding="utf8")
    for to in ("html", "md", "pdf"): assert write_paper(folder, to, author=HOSTILE[0], title="").stat().st_size > 1000
    assert "<script" not in (folder/"paper.html").read_text(encoding="utf8")


# old and odd run folders

def test_an_old_run_folder_makes_a_paper_that_says_what_is_missing(folder):
    m = read_json(folder/"metrics.json")
    for key in ("text_from", "finished", "machine", "source", "config", "versions", "stages"): m.pop(key)
    write_json(folder/"metrics.json", m)
    for name in ("model.keras", "fusion.npz", "items.parquet", "reviews.parquet"): (folder/name).unlink(missing_ok=True)
    p = pd.read_parquet(folder/"predictions.parquet").drop(columns="group")
    p.to_parquet(folder/"predictions.parquet", index=False)
    (folder/"figures"/"honest-confusion.png").write_bytes(b"torn")
    (folder/"figures"/"honest-best.html").unlink()
    said = words(paper(folder))
    for lack in ("near-duplicates", "which text was read", "the day of the run", "the machine", "model.keras is not there", "fusion.npz is not there", "honest-confusion.png is not there or damaged", "does not name the files that went in"): assert lack in said
    for to in ("html", "md", "pdf"): write_paper(folder, to)


def test_without_predictions_nothing_is_judged(folder):
    (folder/"predictions.parquet").write_bytes(b"torn")
    said = words(paper(folder))
    assert "is not judged" in said and "predictions.parquet is not there or cannot be read" in said and "cannot be told apart" not in said and "scores higher" not in said
    assert block(paper(folder), "tab-gains")["head"][0] == "comparison"


@pytest.mark.parametrize("change", [dict(text="none"), dict(image="none"), dict(protocols=("course",)), dict(text_from="title+review", protocols=("honest",))])
def test_other_runs_make_papers(config, change, tmp_path):
    made = run(dataclasses.replace(config, **change), say=lambda line: None)
    said = words(paper(made))
    for to in ("html", "md", "pdf"): write_paper(made, to)
    if change.get("protocols") == ("course",): assert "its scores may flatter" in said
    if "image" in change: assert "one modality, text" in said and "picture of the product" not in said


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    assert main(["report", str(tmp_path), "--to", "md"]) == 1 and "name a folder that `mmrec run` has made" in capsys.readouterr().err
    (tmp_path/"metrics.json").write_text("[]")
    with pytest.raises(MmrecError, match="no protocol"): paper(tmp_path)


# a study

def test_a_configuration_survives_the_file(config, tmp_path):
    for c in (RunConfig(), config, RunConfig(reviews="a \"b\" \\ ü.csv", items=["x.csv", "y.csv"], columns={"user": "user id", "text": "title+body"}, download=False, protocols=("course",), picture_side=500)):
        (tmp_path/"study.toml").write_text(config_file(c), encoding="utf8")
        assert RunConfig(**read_config(tmp_path/"study.toml")) == c
    (tmp_path/"s.json").write_text(json.dumps(dict(epochs=7, items=["a"])))
    assert read_config(tmp_path/"s.json") == dict(epochs=7, items=["a"])


@pytest.mark.parametrize("text, says", [("epoch = 3", "study.toml, epoch: unknown setting — did you mean epochs?"), ("epochs = \"3\"", "study.toml, epochs: '3' does not fit — write a whole number"), ("download = 1", "write true or false"),
    ("items = \"a\"", "write a list of texts"), ("columns = \"user=u\"", "write a table such as"), ("split = \"item\"", "split: unknown value 'item' — use one of product"), ("protocols = [\"fair\"]", "protocols: unknown value 'fair'"), ("epochs = ", "cannot be read"), ("\xff", "cannot be read")])
def test_a_wrong_configuration_names_file_and_key(tmp_path, capsys, text, says):
    (tmp_path/"study.toml").write_text(text, encoding="latin1" if text == "\xff" else "utf8")
    assert main(["run", "--config", str(tmp_path/"study.toml")]) == 1
    said = capsys.readouterr().err
    assert says in said and len(said.splitlines()) == 1


def test_the_command_line_wins_over_the_file(tmp_path, monkeypatch):
    seen = []
    def stop(config, *more): seen.append(config); raise MmrecError("far enough")
    monkeypatch.setattr("mmrec.pipeline.run", stop)
    (tmp_path/"study.toml").write_text("epochs = 3\nseed = 7\ndownload = false\nprotocols = [\"course\"]\n")
    assert main(["run", "--epochs", "50", "--config", str(tmp_path/"study.toml"), "--download"]) == 1
    assert (seen[0].epochs, seen[0].seed, seen[0].download, seen[0].protocols) == (50, 7, True, ("course",))
    main(["run"])
    assert seen[1] == RunConfig()


def test_a_new_study_overwrites_nothing(tmp_path, capsys):
    assert main(["new", str(tmp_path/"my-study")]) == 0 and "jupyter lab" in capsys.readouterr().out
    before = {p: p.read_bytes() for p in (tmp_path/"my-study").iterdir()}
    assert main(["new", str(tmp_path/"my-study")]) == 1 and "nothing is overwritten" in capsys.readouterr().err
    assert before == {p: p.read_bytes() for p in (tmp_path/"my-study").iterdir()} and len(before) == 3
    (tmp_path/"file").write_text("x")
    assert main(["new", str(tmp_path/"file")]) == 1
    (tmp_path/"empty").mkdir()
    assert main(["new", str(tmp_path/"empty")]) == 0
    assert all(q in (tmp_path/"my-study"/"README.md").read_text() for q in QUESTIONS)


def test_a_new_studys_notebook_runs(config, made, tmp_path):
    import nbformat
    from nbclient import NotebookClient
    study = new_study(tmp_path/"my-study", config)
    nb = nbformat.read(study/"study.ipynb", 4)
    nbformat.validate(nb)
    NotebookClient(nb, timeout=300, resources=dict(metadata=dict(path=str(study)))).execute()
    shown = json.dumps(nb, ensure_ascii=False)
    assert "image/png" in shown and "majority class" in shown and "95 % interval" in shown and "paper.md" in shown and '"error"' not in shown
    assert sum(c.cell_type == "markdown" and not c.source for c in nb.cells) == len(QUESTIONS)
    (made/"paper.md").unlink(missing_ok=True)


def test_a_run_that_is_there_is_opened(config, made):
    assert run_or_open(config, say=None) == made
