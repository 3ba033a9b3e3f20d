"Pages: nothing from data or from a stranger's run folder becomes code, nothing is asked of anybody, nothing outside the folder is read."
import base64, copy, io, json, os, random, re, shutil, subprocess, time
from html.parser import HTMLParser
import numpy as np, pandas as pd, pytest
from PIL import Image
from mmrec.eval import measures as ev
from mmrec.report import page as report, paper as writeup
from mmrec.core import MmrecError, read_json, write_json
from mmrec.report.explorer import Explorer, explore, write_explorer
from mmrec.report.page import png_bytes, run_file, write_report
from mmrec.report.paper import RunFacts, gain_sentence, gains, paper, resolve, table as paper_table, typeset, write_paper
from test_explorer import make_run

EVIL = '<script>alert(1)</script><img src=x onerror=alert(2)>"\'&<svg onload=alert(3)>]]><!--'
WORDS = [EVIL, '"><script>alert(4)</script>', "'><iframe src=http://x></iframe>", "javascript:alert(5)", "{{ 7*7 }}{% for x in y %}", "</style><script>alert(6)</script>", "</title><script>", "<meta http-equiv=refresh content=0;url=http://x>", "<base href=http://x>",
         "&lt;script&gt;alert(7)&lt;/script&gt;", "\x1b]0;x\x07\x00", "<a href='javascript:alert(8)'>x</a>", "<link rel=stylesheet href=http://x>", "<style>*{background:url(http://x)}</style>", "${7*7}", "#set page(width: 1pt)", "#image(\"/etc/passwd\")"]


def word(k=0): return WORDS[k % len(WORDS)]


def row(model, k=0): return {"model": model, **{m: .5 for m in ev.MEASURES}, **{f"{m} {e}": .4 for m in ev.MEASURES for e in ("low", "high")}, "log loss": 1.1, "calibration error": .1}


def full(folder, evil=True, **shape):
    "A run folder with all that a run writes, strangers' words in every place that takes words."
    make_run(folder, **shape)
    w = word if evil else lambda k=0: f"word {k}"
    m, p = read_json(folder/"metrics.json"), pd.read_parquet(folder/"predictions.parquet")
    models = p["model"].unique().tolist()
    m |= dict(name=w(1), made_up=False, main="text + image", notes=[w(k) for k in range(len(WORDS))], encoders=dict(text=w(2), image=w(3)), summary=[[w(k), w(k + 1)] for k in range(9)], command=f"mmrec run --name {w(4)}", finished=w(5), machine=w(6), text_from="review",
              log=[dict(table=w(0), rule=w(k), rows=k, action=w(2), examples=w(3)) for k in range(9)], stages=[dict(stage=w(0), seconds=1.5, peak_mb=2., note=w(1))], versions={w(0): w(1), "numpy": "2"}, config={w(0): w(1), "seed": 0, "draws": 10, "missing": "mask"},
              source=dict(format="table", files=[dict(name=w(1), bytes=5, sha256=w(2)), dict(name=w(3), bytes=9, sha256=None)], sample=dict(how=w(0), n=5, seed=0), read=dict(reviews=9, items=5), kept=dict(reviews=8, items=4)))
    for name in m["protocols"]:
        m["protocols"][name] = dict(says=w(0), split=dict(train=10, valid=5, test=36), table=[row(model) for model in models], best={w(0): {}}, leakage={w(k): .1 for k in range(3)}, pictures=[dict(status=w(k), items=3, share=.5, example=w(k + 1)) for k in range(3)],
            differences=[dict(comparison=w(0), measure=w(1), difference=.1, low=0., high=.2, verdict=w(2))], classes=[{"class": w(k), "precision": .1, "recall": .2, "f1-score": .3, "support": 5} for k in range(3)])
    (folder/"figures").mkdir()
    for name in m["protocols"]:
        for kind in ("accuracy", "confusion", "history", "actual", "calibration", "balanced"): Image.new("RGB", (40, 20), "navy").save(folder/"figures"/f"{name}-{kind}.png")
        for kind in ("best", "worst"):
            cards = ev.gallery(pd.DataFrame([dict(text=w(k), item_title=w(k + 1), actual=w(2), predicted=w(3), sure=.5, image_path=str(folder/"1.jpg")) for k in range(4)]))
            (folder/"figures"/f"{name}-{kind}.html").write_text(cards, encoding="utf8")
    write_json(folder/"metrics.json", m)
    return folder


@pytest.fixture
def folder(tmp_path): return full(tmp_path/"run")


class Seen(HTMLParser):
    "What a browser makes of a page: tags with attributes."
    def __init__(self, page): super().__init__(); self.tags = []; self.feed(page); self.close()
    def handle_starttag(self, tag, attributes): self.tags.append((tag, dict(attributes)))
    handle_startendtag = handle_starttag


PAGES = {"report.html": write_report, "explorer.html": write_explorer, "paper.html": write_paper}

def harmless(page, scripts=0):
    "Assert that a page has no code but `scripts` of ours, no handler, no address, and a policy before all."
    tags = Seen(page).tags
    names = [t for t, _ in tags]
    assert names.count("script") == scripts and not {"iframe", "object", "embed", "base", "link", "applet", "frame", "video", "audio"} & set(names)
    assert not [a for _, at in tags for a in at if a.lower().startswith("on")]
    where = [(a, str(at[a])) for _, at in tags for a in ("src", "href", "action", "srcdoc", "data", "formaction", "xlink:href", "poster", "background") if a in at]
    assert all(v.startswith(("data:image/png;base64,", "data:image/jpeg;base64,", "#")) or v in ("report.html", "explorer.html") for _, v in where)
    metas = [at for t, at in tags if t == "meta"]
    assert [at.get("http-equiv") for at in metas].count("Content-Security-Policy") == 1 and {at.get("http-equiv") for at in metas} <= {None, "Content-Security-Policy"}
    assert names[:4] == ["html", "head", "meta", "meta"] and metas[1]["content"].startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'") and metas[1]["content"].endswith("base-uri 'none'; form-action 'none'")
    assert ("script-src" in metas[1]["content"]) == bool(scripts) and not re.search("url\\(|@import|expression\\(", "".join(re.findall("<style>(.*?)</style>", page, re.S)))


@pytest.mark.parametrize("name", PAGES)
def test_strangers_words_stay_words(folder, name):
    page = PAGES[name](folder).read_text(encoding="utf8")
    harmless(page, 2 if name == "explorer.html" else 0)
    assert "&lt;script&gt;alert(1)" in page and (name == "explorer.html" or "{{ 7*7 }}" in page)


def test_figures_that_are_pages_do_not_run(folder):
    "The galleries of a stranger's folder, with everything that HTML can do."
    evil = ("<script>alert(1)</script><div class=card><img src='http://x/spy.gif' onerror=alert(2)><b onclick=alert(3)>5</b>, called <b>4</b> (50% sure)<small><svg onload=alert(4)></small><p>words<iframe srcdoc='<script>'></iframe><style>@import 'http://x'</style></p></div>"
            "<div class=card><img src='data:image/svg+xml,<svg onload=alert(5)/>'><b>1</b></div><div class=card><img src='data:image/jpeg;base64,AAAA\" onerror=\"alert(6)'><b>1</b></div><meta http-equiv=refresh content='0;url=http://x'><base href='http://x'><a href='javascript:alert(7)'>x</a><form action=http://x><button>")
    for kind in ("best", "worst"): (folder/"figures"/f"honest-{kind}.html").write_text(evil)
    for name in ("report.html", "paper.html"):
        page = PAGES[name](folder).read_text(encoding="utf8")
        harmless(page)
        assert "words" in page and "no picture" in page and "spy.gif" not in page


def test_galleries_written_for_themselves_have_a_policy(tmp_path):
    page = ev.alone(ev.gallery(pd.DataFrame([dict(text=EVIL, actual=1, predicted=2, sure=.5)])))
    assert page.index("Content-Security-Policy") < page.index("<div") and not {"script", "svg"} & {t for t, _ in Seen(page).tags}
    (tmp_path/"g.html").write_text(page)
    assert ev.read_gallery(tmp_path/"g.html")[0]["text"] == " ".join(EVIL.split())


def test_in_the_notebook_words_stay_words(folder):
    e = Explorer(folder)
    for html in [e.product_html(i) for i in e.items["item"][:4]] + [e.user_html(u) for u in e.users()["user"][:2]] + [explore(folder).children[-2].value]:
        tags = Seen(html).tags
        assert not {"script", "iframe", "object"} & {t for t, _ in tags} and not [a for _, at in tags for a in at if a.startswith("on")]


@pytest.mark.parametrize("kind", ["evil", "number", "near", "class"])
def test_names_of_kinds_and_classes(folder, kind):
    items, m = pd.read_parquet(folder/"items.parquet"), read_json(folder/"metrics.json")
    if kind == "evil": items = items.rename(columns=dict(near_text=f"near_{EVIL}", cosine_text=f"cosine_{EVIL}"))
    if kind == "number": items["title"] = range(len(items))
    if kind == "near": items["near_text"] = [[EVIL, "nobody"]]*len(items); items["cosine_text"] = [[.5, .1]]*len(items)
    if kind == "class": m["scale"]["names"] = [word(k) for k in range(5)]
    items.to_parquet(folder/"items.parquet"); write_json(folder/"metrics.json", m)
    for name, write in PAGES.items(): harmless(write(folder).read_text(encoding="utf8"), 2 if name == "explorer.html" else 0)


# a stranger's folder

def told(folder):
    "Make all three pages; what each said ('' for a page). Everything but an `MmrecError` or a page fails."
    out = []
    for name, write in PAGES.items():
        try: harmless(write(folder).read_text(encoding="utf8"), 2 if name == "explorer.html" else 0); out.append("")
        except MmrecError as e: assert len(str(e).splitlines()) == 1; out.append(str(e))
    return out


ODD = [None, "", EVIL, 0, -1, 10**4000, 1e308, float("nan"), float("inf"), True, [], {}, [[]], [[[[1]]]], {"a": {"b": []}}, ["x"]*3, "x"*100_000, [None], {"": None}, "\ud800", [1, "a", None], {EVIL: EVIL}, 2**63, -2**70]

def places(node, at=()):
    "The paths to all nodes of a JSON value."
    yield at
    for key, inner in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else (): yield from places(inner, (*at, key))


def test_any_odd_value_in_the_metrics_is_an_error_or_escaped(tmp_path):
    "Each place of metrics.json gets an odd value, or goes: a page, or one line that says so."
    folder = full(tmp_path/"run", evil=False, products=4, each=4)
    m, rng, errors = read_json(folder/"metrics.json"), random.Random(0), 0
    where = [at for at in places(m) if at and not (at[0] in ("config", "notes", "summary") and len(at) > 2)]
    start = time.monotonic()
    for at in rng.sample(where, 30):
        changed = copy.deepcopy(m)
        node = changed
        for key in at[:-1]: node = node[key]
        if rng.random() < .2: node.pop(at[-1])
        else: node[at[-1]] = rng.choice(ODD)
        try: text = json.dumps(changed, ensure_ascii=True)
        except ValueError: continue # a number of too many digits, here as there
        (folder/"metrics.json").write_text(text)
        errors += any(told(folder))
    assert errors > 5 and time.monotonic() - start < 300


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "5", '"x"', '{"protocols": 5}', '{"protocols": {}}', '{"protocols": {"a": 5}}', '{"protocols": {"../../x": {}}}', '{"protocols": {"a/b": {}}}', '{"protocols": {"..": {}}}', '{"protocols": []}', "[" * 100_000, '{"a":' * 50_000, '{"protocols": {"a": {}}, "n": ' + "9"*5000 + "}", "\x00", "\ufeff{}", '{"protocols": {"' + "a"*300 + '": {}}}', '{"protocols": {"a\\u0000": {}}}'], ids=lambda t: t[:30])
def test_metrics_of_another_shape(folder, text):
    (folder/"metrics.json").write_text(text, encoding="utf8")
    assert all(told(folder))


def spoil(folder, name, column, values):
    t = pd.read_parquet(folder/name)
    t[column] = (list(values)*len(t))[:len(t)]
    t.to_parquet(folder/name)


@pytest.mark.parametrize("name, column, values", [("items.parquet", c, v) for c in ("item", "title", "picture", "reviews", "rating", "near_text", "cosine_both") for v in (["x"], [1], [b"\xff\xd8\xff\x00"], [None], [[1, 2]], [float("nan")], [dict(a=1)])]
    + [("reviews.parquet", c, v) for c in ("line", "item", "user", "text", "title", "actual", "protocol") for v in (["x"], [99], [None], [[1]], [b"\0"], [-1])]
    + [("predictions.parquet", c, v) for c in ("line", "model", "protocol", "p_0", "actual", "predicted", "item") for v in (["x"], [None], [[1]], [-5], [float("inf")])])
def test_tables_with_odd_columns(tmp_path_factory, name, column, values):
    base = tmp_path_factory.getbasetemp()/"tables"
    if not base.exists(): full(base, products=4, each=4)
    folder = tmp_path_factory.mktemp("t")/"run"
    shutil.copytree(base, folder)
    try: spoil(folder, name, column, values)
    except Exception: pytest.skip("cannot be written either")
    e = None
    for name, write in PAGES.items():
        if name == "paper.html" and column not in ("actual", "predicted", "model", "picture"): continue # the paper reads no other column
        try: harmless(write(folder).read_text(encoding="utf8"), 2 if name == "explorer.html" else 0)
        except MmrecError as e: assert len(str(e).splitlines()) == 1


def test_tables_that_are_none_or_promise_too_much(folder):
    import pyarrow as pa
    from pyarrow import parquet
    huge = pa.table({c: pa.DictionaryArray.from_arrays(pa.array(np.zeros(10**7, np.int8)), pa.array(["x"])) for c in ("item", "title", "picture")})
    for name in ("items", "reviews", "predictions"):
        keep = (folder/f"{name}.parquet").read_bytes()
        for data in (b"", b"PAR1", b"PAR1" + b"\xff"*100 + b"PAR1", keep[:200], keep[:-9] + b"\xff"*9, b"\0"*1000):
            (folder/f"{name}.parquet").write_bytes(data)
            said = told(folder)
            assert said[1] and not said[0]
        (folder/f"{name}.parquet").write_bytes(keep)
    rows = pa.table(dict(item=pa.array(["x"]*1000)))
    with parquet.ParquetWriter(folder/"t.parquet", rows.schema) as w: w.write_table(rows)
    with pytest.raises(ValueError, match="cells"): report.run_table(folder/"t.parquet", most=999)
    assert huge.num_rows == 10**7 # such a table is a few kilobytes on the disk


def test_nothing_outside_the_folder_is_read(folder, tmp_path):
    "Links of a stranger's folder that lead to the user's pictures and files."
    secret = np.random.default_rng(0).integers(0, 255, (30, 30, 3), dtype=np.uint8)
    Image.fromarray(secret).save(tmp_path/"secret.png"); Image.fromarray(secret).save(tmp_path/"secret.jpg")
    (tmp_path/"secret.html").write_text(ev.gallery(pd.DataFrame([dict(text="my secret words", actual=1, predicted=2, sure=.5)])))
    (tmp_path/"notes.txt").write_text("secret")
    marks = [base64.b64encode((tmp_path/n).read_bytes()).decode()[200:260] for n in ("secret.png", "secret.jpg")] + ["my secret words", __import__("hashlib").sha256(b"secret").hexdigest()]
    for kind in ("accuracy", "confusion"): (folder/"figures"/f"honest-{kind}.png").unlink(); (folder/"figures"/f"honest-{kind}.png").symlink_to(tmp_path/"secret.png")
    (folder/"figures"/"honest-best.html").unlink(); (folder/"figures"/"honest-best.html").symlink_to(tmp_path/"secret.html")
    (folder/"notes.txt").symlink_to(tmp_path/"notes.txt")
    spoil(folder, "items.parquet", "picture", [str(tmp_path/"secret.jpg").encode()])
    for name, write in PAGES.items():
        page = write(folder).read_text(encoding="utf8")
        assert not any(mark in page for mark in marks)
    for name in ("metrics.json", "items.parquet"):
        os.replace(folder/name, tmp_path/name); (folder/name).symlink_to(tmp_path/name)
        assert any(told(folder))
        (folder/name).unlink(); os.replace(tmp_path/name, folder/name)


def test_markdown_does_not_write_through_a_link(folder, tmp_path):
    (tmp_path/"mine").mkdir()
    shutil.move(folder/"figures", tmp_path/"moved"); (folder/"figures").symlink_to(tmp_path/"moved")
    made = resolve(dict(title="t", author="", date="", blocks=[writeup.cards("fig-x", "x", [dict(head="a", title="b", text="c", picture=base64.b64encode(b"x").decode())])]))
    with pytest.raises(MmrecError, match="leads out of the run folder"): writeup.Md(folder).page(made)
    assert not list((tmp_path/"moved").glob("paper-*"))


@pytest.mark.parametrize("kind", ["pipe", "device", "link", "bytes"])
def test_markdown_reads_no_foreign_paper(folder, tmp_path, kind):
    path = folder/"paper.md"
    if kind == "pipe": os.mkfifo(path)
    if kind == "device": path.symlink_to("/dev/zero")
    if kind == "link": (tmp_path/"mine.md").write_text("mine"); path.symlink_to(tmp_path/"mine.md")
    if kind == "bytes": path.write_bytes(b"\xff\xfe\0")
    with pytest.raises(MmrecError, match="no file of this folder|somebody has written in it"): write_paper(folder, "md")
    assert kind != "link" or (tmp_path/"mine.md").read_text() == "mine"


@pytest.mark.parametrize("name", ["metrics.json", "items.parquet", "predictions.parquet", "figures/honest-accuracy.png", "figures/honest-best.html", "model.keras", "fusion.npz"])
def test_pipes_and_devices_keep_nobody_waiting(folder, name):
    (folder/name).unlink(missing_ok=True); os.mkfifo(folder/name)
    start = time.monotonic()
    told(folder)
    assert run_file(folder, name) is None and time.monotonic() - start < 60


def test_pictures_are_small_jpegs_or_none(folder, monkeypatch):
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(a))
    def drawn(kind, side=20, **options):
        out = io.BytesIO(); Image.new("RGB", (side, side), "red").save(out, kind, **options); return out.getvalue()
    odd = [drawn("EPS"), drawn("PNG"), drawn("JPEG", 3000), b"<svg onload=alert(1)>", b"\xff\xd8\xff" + b"\0"*50, drawn("JPEG")[:-200], b"GIF89a" + b"\0"*99, drawn("PDF")]
    spoil(folder, "items.parquet", "picture", odd)
    page = write_explorer(folder).read_text(encoding="utf8")
    harmless(page, 2)
    assert "data:image" not in re.sub("img-src data:", "", page) and page.count("no picture") and not started
    (folder/"figures"/"honest-confusion.png").write_bytes(drawn("EPS"))
    assert png_bytes(folder, "figures/honest-confusion.png") == b"" and write_report(folder) and not started


def test_a_bomb_in_the_networks_file_is_a_remark(folder):
    import zipfile
    with zipfile.ZipFile(folder/"model.keras", "w", zipfile.ZIP_DEFLATED) as z: z.writestr("mmrec.json", b"[" * 50_000_000)
    with zipfile.ZipFile(folder/"fusion.npz", "w", zipfile.ZIP_DEFLATED) as z: z.writestr("names.npy", bytes(300_000_000))
    start = time.monotonic()
    f = writeup.read_run(folder)
    assert f.network == {} and f.widths == {} and sum("model.keras" in l or "fusion.npz" in l for l in f.lacks) == 2 and time.monotonic() - start < 20


def test_a_paper_is_of_a_size_that_can_be_read(folder):
    m = read_json(folder/"metrics.json")
    m["log"] = [dict(table="t", rule="x"*50_000, rows=1, action="a", examples="")]*3 + [dict(table="t", rule=f"r{k}", rows=1, action="a", examples="") for k in range(20_000)]
    m["notes"] = ["y"*200_000]
    write_json(folder/"metrics.json", m)
    doc = paper(folder)
    rows = next(b["rows"] for b in doc["blocks"] if b.get("label") == "tab-log")
    assert len(rows) == 501 and rows[-1][0] == "… and 19,503 more rows" and max(len(c) for r in rows for c in r) == 10_000
    start = time.monotonic()
    assert write_paper(folder, "pdf").stat().st_size > 1000 and time.monotonic() - start < 130


def test_the_typesetter_is_ended_when_it_takes_too_long(tmp_path, monkeypatch):
    (tmp_path/"paper.typ").write_text("#let f(n) = { let i = 0; while i < n { i += 1; let j = 0; while j < 10000 { j += 1 } } }\n#f(1000000)")
    (tmp_path/"doc.json").write_text("{}")
    start = time.monotonic()
    with pytest.raises(MmrecError, match="took more than 2 seconds"): writeup._compiled(tmp_path, seconds=2, format="pdf")
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("text", ['#read("/etc/passwd")', '#image("/etc/passwd")', "$#panic()$", '")\n#panic()\n("', "#let x = 1", "= Heading", "\\u{1F600}", "#include \"x.typ\"", "<label>", "@ref", "```raw```", "#sys.inputs"])
def test_strings_are_data_to_the_typesetter(tmp_path, text):
    doc = resolve(dict(title=text, author=text, date=text, blocks=[writeup.heading(text), writeup.para(text, writeup.Mark(text)), paper_table("tab-x", text, [text], [[text]]), writeup.listing(text)]))
    (tmp_path/"p.pdf").write_bytes(typeset(doc, tmp_path)) # no panic, no error
    if shutil.which("pdftotext"):
        said = subprocess.run(["pdftotext", tmp_path/"p.pdf", "-"], capture_output=True, text=True).stdout
        assert "root:" not in said and re.sub(r"\W", "", said).count(re.sub(r"\W", "", text)) >= 5


# a browser

@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium")
def test_in_a_browser_only_our_script_runs(folder, tmp_path):
    "The explorer works under its policy; a script that gets into a page all the same does not run, and nothing is asked for."
    def dom(page):
        flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync".split()
        return subprocess.run(["chromium", *flags, f"--user-data-dir={tmp_path/'profile'}", "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120).stdout
    page = write_explorer(folder)
    seen = dom(page)
    assert seen.count("<option") > 5 and 'class="js"' in seen and re.search('<span id="count"[^>]*>1 of ', seen)
    for name, write in PAGES.items():
        page = write(folder)
        hole = "<script>document.title = 'hacked'</script><img src=x onerror=\"document.title = 'hacked'\"><svg onload=\"document.title = 'hacked'\"></svg><a href=\"javascript:document.title='hacked'\" id=a></a>"
        page.write_text(page.read_text(encoding="utf8").replace("</body>", hole + "</body>"), encoding="utf8")
        seen = dom(page)
        assert hole[:8] in seen and "<title>hacked" not in seen and "<title>" in seen


# verdict and interval say the same

@pytest.mark.parametrize("seed", range(12))
def test_a_gain_is_shown_exactly_where_its_interval_leaves_out_zero(tmp_path, seed):
    rng = np.random.default_rng(seed)
    n, K, names = 600, 5, ["majority class", "TF-IDF + logistic regression", *(f"{m}{h}" for m in ("text + image", "text", "image") for h in ("", ", weights undone"))]
    y, item = rng.integers(0, K, n), rng.integers(0, 60, n).astype(str)
    skill = dict(zip(names, rng.uniform(.2, .3, len(names))))
    tables = [pd.DataFrame(dict(protocol="honest", model=m, line=range(n), item=item, group=item, actual=y, predicted=np.where(rng.random(n) < s, y, rng.integers(0, K, n)))) for m, s in skill.items()]
    f = RunFacts(tmp_path, dict(scale=dict(names=list("12345"), values=[1, 2, 3, 4, 5]), main="text + image", protocols=dict(honest=dict(table=[dict(model=m) for m in names]))), pd.concat(tables))
    g = gains(f)
    assert len(g) == 6
    for _, r in g.iterrows():
        shown = r["verdict"].startswith(("better", "worse"))
        assert shown == (r["low"] > 0 or r["high"] < 0) == (r["adjusted p"] <= .05)
        says = gain_sentence(r)
        assert "simultaneous 95 % interval" in says and ("cannot be told apart" in says or "differ by less" in says) == (not shown)
