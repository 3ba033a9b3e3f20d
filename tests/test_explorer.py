"Explorer: neighbours are right, contributions add up, strangers' words stay words, a run of any shape can be opened, the page keeps its limit."
import base64, hashlib, json, re
from html.parser import HTMLParser
from pathlib import Path
import numpy as np, pandas as pd, pytest
from hypothesis import given, settings, strategies as st
from PIL import Image
from mmrec.core import MmrecError, write_json
from mmrec.report.explorer import Explorer, _App, _anchor, centred, contributions, explore, explorable_items, nearest, product_vectors, explorable_reviews, write_explorable, write_explorer

EVIL = '<script>alert(1)</script><img src=x onerror=alert(2)>"\'&'


def make_run(folder, modalities=("text", "image"), names=("1", "2", "3", "4", "5"), users=True, titles=True, protocols=("honest",), undone=True, products=12, each=6, seed=0, side=60):
    "A made-up run folder: random vectors, random probabilities."
    rng, folder = np.random.default_rng(seed), Path(folder)
    folder.mkdir(parents=True)
    ids = [f"B{i:03}" for i in range(products - 2)] + ['a "b"/ü', EVIL]
    paths = []
    for k in range(products): # the first has no picture
        paths.append(str(folder/f"{k}.jpg") if k and "image" in modalities else "")
        if paths[-1]: Image.fromarray(rng.integers(0, 255, (side, side, 3), dtype=np.uint8)).save(paths[-1])
    items = pd.DataFrame(dict(item=ids, title=[f"Product {i} {EVIL if i == 1 else ''}".strip() if titles else "" for i in range(products)], image_path=paths))
    n, K = products*each, len(names)
    which = np.tile(np.arange(products), each)
    rows = pd.DataFrame(dict(line=np.arange(n) + 1, user=pd.array([f"u{k % 7}" if users else pd.NA for k in range(n)], dtype="string"), item=items["item"].to_numpy()[which],
        title=[EVIL if k == 1 else "" for k in range(n)], text=[EVIL if k % 5 == 0 else f"words {k}\nmore" for k in range(n)], rating=rng.integers(0, K, n).astype(float)))
    blocks = {m: rng.normal(size=(n if m == "text" else products, 8)).astype(np.float32) for m in modalities}
    if "image" in blocks: blocks["image"][0] = np.nan; blocks["image"] = blocks["image"][which]
    test, y, tables = rows.iloc[n//2:], rng.integers(0, K, n - n//2), []
    singles = [(m,) for m in modalities] if len(modalities) > 1 else []
    for protocol in protocols:
        models = {"majority class": np.tile(rng.dirichlet(np.ones(K)), (len(test), 1)), "best anyone can reach: text": rng.dirichlet(np.ones(K), len(test))}
        for s in [tuple(modalities), *(singles if protocol == "honest" else [])]:
            for how in ("", ", weights undone") if undone else ("",): models[" + ".join(s) + how] = rng.dirichlet(np.ones(K), len(test))
        for model, p in models.items():
            tables.append(test[["line", "item"]].assign(protocol=protocol, model=model, actual=y, predicted=p.argmax(axis=1), **{f"p_{k}": p[:, k].astype(np.float32) for k in range(K)}))
    pd.concat(tables).to_parquet(folder/"predictions.parquet", index=False)
    values = [float(v) if v.replace(".", "").isdigit() else i for i, v in enumerate(names)]
    write_json(folder/"metrics.json", dict(name=EVIL, made_up=True, encoders={}, scale=dict(names=list(names), values=values), protocols={p: {} for p in protocols}))
    write_explorable(folder, explorable_items(items, rows, blocks), [explorable_reviews(p, test, y) for p in protocols])
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory): return make_run(tmp_path_factory.mktemp("explorer")/"run", protocols=("honest", "course"))


class Reader(HTMLParser):
    "What a browser sees: tags with their attributes, and words."
    def __init__(self, page):
        super().__init__(); self.tags, self.words = [], []
        self.feed(page); self.close()
    def handle_starttag(self, tag, attributes): self.tags.append((tag, dict(attributes)))
    def handle_data(self, data): self.words.append(data)

def seen(page): return Reader(page)


# neighbours

@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 150), d=st.integers(1, 6), k=st.integers(1, 7), seed=st.integers(0, 10**6), strip=st.sampled_from([1, 97, 2**20]))
def test_neighbours_are_those_of_the_whole_matrix(n, d, k, seed, strip):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, d)).astype(np.float32)
    vectors[rng.random(n) < .2] = np.nan
    units = centred(vectors)
    found, cosine = nearest(units, k, strip)
    there = ~np.isnan(units).any(axis=1)
    pairs = np.where(there[:, None] & there, np.nan_to_num(units) @ np.nan_to_num(units).T, -np.inf)
    np.fill_diagonal(pairs, -np.inf)
    for i in range(n):
        want = np.sort(pairs[i][np.isfinite(pairs[i])])[::-1][:k]
        mine = found[i][found[i] >= 0]
        assert len(mine) == len(want) == len(set(mine)) and i not in mine
        np.testing.assert_allclose(cosine[i][:len(want)], want, atol=1e-5)
        np.testing.assert_allclose(pairs[i][mine], cosine[i][:len(want)], atol=1e-5)
        assert np.isnan(cosine[i][len(want):]).all()


def test_neighbours_are_scikit_learns():
    from sklearn.neighbors import NearestNeighbors
    units = centred(np.random.default_rng(1).normal(size=(1000, 30)).astype(np.float32))
    distance, theirs = NearestNeighbors(n_neighbors=5, metric="cosine").fit(units).kneighbors()
    found, cosine = nearest(units, 5, strip=50_000)
    assert np.array_equal(found, theirs)
    np.testing.assert_allclose(1 - cosine, distance, atol=1e-5)


def test_no_matrix_of_all_pairs():
    import tracemalloc
    units = centred(np.random.default_rng(0).normal(size=(6000, 4)).astype(np.float32))
    tracemalloc.start()
    nearest(units, 3, strip=2**18)
    peak = tracemalloc.get_traced_memory()[1]; tracemalloc.stop()
    assert peak < 10e6 < 6000**2*4


def test_equal_pictures_are_nearest_and_say_so():
    vectors = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32); vectors[7] = vectors[3]
    found, cosine = nearest(centred(vectors), 2)
    assert found[7, 0] == 3 and found[3, 0] == 7 and cosine[3, 0] == pytest.approx(1, abs=1e-5)


def test_nothing_to_compare():
    nothing = np.full((3, 2), np.nan, np.float32)
    assert (nearest(centred(nothing))[0] == -1).all() and np.isnan(product_vectors(nothing, list("abc"), list("abc"))).all()
    assert (nearest(centred(np.ones((3, 2), np.float32)))[0] == -1).all() # all the same: nothing is left after the mean


def test_by_both_is_the_mean_of_the_cosines(folder):
    items = pd.read_parquet(folder/"items.parquet").set_index("item")
    row = items.loc["B003"]
    for item, cosine in zip(row["near_both"], row["cosine_both"]):
        parts = [dict(zip(row[f"near_{m}"], row[f"cosine_{m}"])).get(item) for m in ("text", "image")]
        if None not in parts: assert cosine == pytest.approx(np.mean(parts), abs=1e-5)
    assert not len(items.loc["B000", "near_image"]) and not len(items.loc["B000", "near_both"]) and len(items.loc["B000", "near_text"])
    assert all("B000" not in near for near in items["near_image"]) and items.loc["B000", "picture"] == b""


# contributions

@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), players=st.integers(1, 3))
def test_contributions_add_up(seed, players):
    import itertools
    rng, names = np.random.default_rng(seed), ("text", "image", "sound")[:players]
    known = {s: rng.normal(size=4) for k in range(players + 1) for s in itertools.combinations(names, k)}
    share = contributions(known)
    np.testing.assert_allclose(sum(share.values()), known[names] - known[()])


def test_contributions_of_a_modality_that_changes_nothing_and_of_equals():
    assert contributions({(): [3.], ("text",): [4.], ("image",): [3.], ("text", "image"): [4.]}) == dict(text=[1.], image=[0.])
    assert contributions({(): [3.], ("text",): [4.], ("image",): [4.], ("text", "image"): [4.5]}) == dict(text=[.75], image=[.75])


def test_parts_of_a_run_add_up(folder):
    e = Explorer(folder)
    assert e.parts == ["text", "image"] and e.model == "text + image, weights undone"
    np.testing.assert_allclose(e.base + e.reviews["by text"] + e.reviews["by image"], e.reviews["expected"])
    table = pd.read_parquet(folder/"predictions.parquet")
    mine = table[(table.protocol == "honest") & (table.model == e.model)]
    np.testing.assert_allclose(e.reviews["expected"], mine[[f"p_{k}" for k in range(5)]].to_numpy() @ np.arange(1, 6), rtol=1e-5)


# runs of any shape

SHAPES = dict(both={}, text=dict(modalities=("text",)), image=dict(modalities=("image",)), no_users=dict(users=False), no_titles=dict(titles=False), thumbs=dict(names=("down", "up")),
              half_stars=dict(names=tuple(f"{v/2:g}" for v in range(1, 11))), words=dict(names=("bad", "so so", "good <b>")), plain=dict(undone=False), one_product=dict(products=2, each=20))

@pytest.mark.parametrize("shape", SHAPES)
def test_a_run_of_any_shape(tmp_path, shape):
    folder = make_run(tmp_path/"run", **SHAPES[shape])
    e = Explorer(folder)
    assert len(e.products()) == len(e.items) and e.products()["tests"].sum() == len(e.reviews)
    for item in e.items["item"]:
        words = "".join(seen(e.product_html(item)).words)
        assert e.title(item) in words and ("expected: " in words or not e.of_item.get(item))
    for user in e.users()["user"]: e.user_html(user)
    assert len(e.users()) == (0 if shape == "no_users" else 7)
    assert e.near == dict(text=["text"], image=["image"]).get(shape, ["text", "image", "both"])
    page = write_explorer(folder).read_text(encoding="utf8")
    assert ("the data name none" in page) == (shape == "no_users")
    app = _App(folder, None)
    app.kind.value = "user"
    assert bool(app.page.value) == (shape != "no_users")


def test_a_protocol_that_trained_on_all_alone(folder):
    e = Explorer(folder, "course")
    assert e.parts == ["text + image"] and np.allclose(e.base + e.reviews["by text + image"], e.reviews["expected"])
    assert "text + image" in e.product_html("B002")
    with pytest.raises(MmrecError, match="use honest or course"): Explorer(folder, "none")


def test_refusals(tmp_path, folder):
    with pytest.raises(MmrecError, match="name a folder that `mmrec run` has made"): Explorer(tmp_path)
    write_json(tmp_path/"metrics.json", {})
    with pytest.raises(MmrecError, match="run again"): Explorer(tmp_path)
    e = Explorer(folder)
    with pytest.raises(MmrecError, match="no product"): e.product_html("x")
    with pytest.raises(MmrecError, match="no test review by user"): e.user_html("x")


def test_predictions_of_other_rows_are_refused(tmp_path):
    folder = make_run(tmp_path/"run")
    table = pd.read_parquet(folder/"reviews.parquet")
    table.iloc[::-1].to_parquet(folder/"reviews.parquet", index=False)
    with pytest.raises(MmrecError, match="not of the same rows"): Explorer(folder)


def test_search(folder):
    e = Explorer(folder)
    assert e.products("PRODUCT b004")["item"].tolist() == ["B004"] and not len(e.products("b004 b005")) and len(e.products("[(")) == 0
    assert e.users("u3")["user"].tolist() == ["u3"]
    assert e.products()["tests"].is_monotonic_decreasing


# strangers' words

def test_words_stay_words(folder):
    e = Explorer(folder)
    pages = [e.product_html(i) for i in e.items["item"]] + [e.user_html(u) for u in e.users()["user"]]
    for page in pages:
        read = seen(page)
        assert not {"script", "iframe", "object"} & {tag for tag, _ in read.tags}
        assert not [a for _, attributes in read.tags for a in attributes if a.startswith("on")]
        assert all(a.get("src", "data:").startswith("data:image/jpeg;base64,") and a.get("alt") for tag, a in read.tags if tag == "img")
    assert any(EVIL in "".join(seen(page).words) for page in pages)


def test_the_page_holds_no_code_but_its_own(folder):
    page = write_explorer(folder).read_text(encoding="utf8")
    read = seen(page)
    scripts = re.findall(r"<script>(.*?)</script>", page, re.S)
    assert len(scripts) == 2 and not any("alert" in s for s in scripts) and [t for t, _ in read.tags].count("script") == 2
    assert not {a for _, attributes in read.tags for a in attributes if a.startswith("on")}
    policy, = [a["content"] for t, a in read.tags if a.get("http-equiv") == "Content-Security-Policy"]
    own = [f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts]
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {' '.join(own)}; base-uri 'none'; form-action 'none'"
    assert page.index("Content-Security-Policy") < page.index("<title>") < page.index("<script>")
    assert not re.search(r"\b(innerHTML|insertAdjacentHTML|document\.write|eval)\b", page)


# the page

def test_the_page_stands_alone(folder):
    page = write_explorer(folder).read_text(encoding="utf8")
    read = seen(page)
    where = [a[x] for _, a in read.tags for x in ("src", "href") if x in a]
    assert all(w.startswith(("data:image/jpeg;base64,", "#")) or w == "report.html" for w in where) and "http" not in re.sub(r"base64,[\w+/=]+|http-equiv", "", page)
    ids = [a["id"] for _, a in read.tags if "id" in a]
    assert len(ids) == len(set(ids)) and {w[1:] for w in where if w.startswith("#")} <= set(ids)
    assert _anchor("item", 'a "b"/ü') in ids
    assert dict(read.tags)["html"] == dict(lang="en")
    assert all(a.get("aria-label") for t, a in read.tags if t == "svg" and a.get("role") == "img")
    assert write_explorer(folder).read_text(encoding="utf8") == page


def test_the_limit_is_kept(tmp_path):
    folder = make_run(tmp_path/"run", products=60, each=8, side=200)
    whole = write_explorer(folder, megabytes=50).stat().st_size
    for megabytes in (.05, .1, .2):
        page = write_explorer(folder, megabytes=megabytes).read_bytes()
        assert len(page) < megabytes*1e6 + 20e3 < whole and f"as many as fit into {megabytes:g} MB".encode() in page
        read = seen(page.decode())
        ids = {a["id"] for _, a in read.tags if "id" in a}
        assert {a["href"][1:] for t, a in read.tags if t == "a" and a["href"].startswith("#")} <= ids
        assert f"{sum(i.startswith('item=') for i in ids)} of 60 products" in page.decode()
    few = write_explorer(folder, n=4).read_text(encoding="utf8")
    assert few.count("<article") == 6 and "4 of 60 products and 2 of 7 users" in few


# the widgets

def test_another_choice_shows_another_entry(folder):
    app = _App(folder, None)
    pages = []
    for _, item in app.pick.options:
        app.pick.value = item
        assert app.page.value == app.explorer.product_html(item)
        pages.append(app.page.value)
    assert len(set(pages)) == len(app.explorer.items)


def test_buttons_step_through_the_list(folder):
    app = _App(folder, None)
    assert app.back.disabled and not app.next.disabled
    for _ in app.pick.options: app.next.click()
    assert app.pick.index == len(app.pick.options) - 1 and app.next.disabled and not app.back.disabled
    app.back.click()
    assert app.pick.index == len(app.pick.options) - 2 and app.page.value == app.explorer.product_html(app.pick.value)
    app.search.value = "no such words"
    assert app.back.disabled and app.next.disabled


def test_search_users_and_the_way_on(folder):
    app = _App(folder, None)
    app.search.value = "B004"
    assert app.pick.value == "B004" and len(app.pick.options) == 1
    to = app.to[1]
    app.ways[1].click()
    assert app.pick.value == to and app.search.value == "" and app.page.value == app.explorer.product_html(to)
    app.kind.value = "user"
    assert app.pick.value == app.explorer.users()["user"][0] and app.page.value == app.explorer.user_html(app.pick.value)
    shown = [b for b in app.ways if b.layout.display != "none"]
    assert len(shown) == len(app.to) and all(b.description and b.tooltip for b in shown)
    item = app.to[0]
    app.ways[0].click()
    assert app.kind.value == "item" and app.pick.value == item
    app.search.value = "no such words"
    assert app.page.value == "" and app.count.value == "0 products" and app.pick.value is None
    app.protocol.value = "course"
    assert app.explorer.protocol == "course"


def test_fields_have_names_and_pages_no_links(folder):
    import ipywidgets as w
    box = explore(folder)
    fields = [c for c in box.children if isinstance(c, (w.Text, w.Select, w.Dropdown, w.ToggleButtons))]
    assert len(fields) == 4 and all(c.description for c in fields)
    page, = [c for c in box.children if type(c) is w.HTML]
    assert "<a " not in page.value


def test_without_ipywidgets(folder, monkeypatch):
    import sys
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(MmrecError, match="pip install"): explore(folder)


def test_the_chapter_keeps_no_dead_widget():
    "A widget without its kernel is shown as an error: its output is not committed."
    cells = json.loads((Path(__file__).parents[1]/"nbs"/"51_report.explorer.ipynb").read_text(encoding="utf8"))["cells"]
    assert not [k for c in cells for o in c.get("outputs", []) for k in o.get("data", {}) if "widget" in k]
