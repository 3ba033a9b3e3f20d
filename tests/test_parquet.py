"Converted tables: the same data set as from the raw files, whatever is in them, and nothing half-written."
import json
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from mmrec.data import parquet
from mmrec.data.card import data_card, plot_card, tail
from mmrec.core import MmrecError
from mmrec.data.tables import load_dataset
from mmrec.data.parquet import converted_keys, convert, is_converted, load_converted, same_dataset
from mmrec.data.reading import sniff
from mmrec.data.sampling import read_keys
from mmrec.sim.shop import make_shop


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    shop = make_shop(folder/"shop", 250, 4000)
    return shop, convert(folder/"tables", shop.reviews_path, shop.meta_path)


@pytest.mark.parametrize("how, n", [("uniform", 900), ("uniform", None), ("uniform", 10**6), ("all", None), ("head", 300), ("stars", 300), ("balanced", 300), ("users", 500), ("2-core", None), ("24-months", 200)])
@pytest.mark.parametrize("seed", [0, 5])
def test_same_as_from_the_raw_files(shop, how, n, seed):
    raw, tables = shop
    a = load_dataset(raw.reviews_path, raw.meta_path, sample=n, how=how, seed=seed)
    assert same_dataset(a, load_converted(tables, n, how, seed)) == []


def test_buckets_and_row_groups_do_not_show(shop, tmp_path, monkeypatch):
    raw, tables = shop
    monkeypatch.setattr(parquet, "GROUP", 16)
    small = convert(tmp_path/"small", raw.reviews_path, raw.meta_path, seed=3)
    for seed in (0, 3): assert same_dataset(load_converted(tables, 700, seed=seed), load_converted(small, 700, seed=seed)) == []


def test_keys_are_those_of_the_file(shop):
    raw, tables = shop
    source = sniff(raw.reviews_path)
    assert read_keys(source, json.loads((tables/"dataset.json").read_text())["mapping"]).astype(dict(rating="int64")).equals(converted_keys(tables))


values = st.one_of(st.none(), st.integers(-5, 10), st.floats(), st.text(max_size=8), st.lists(st.text(max_size=4), max_size=2), st.booleans(), st.just({}))
fields = ("rating", "title", "text", "parent_asin", "user_id", "timestamp", "helpful_vote", "verified_purchase")
plain = dict(rating=5.0, title="t", text="words", images=[], asin="A", parent_asin="P1", user_id="U", timestamp=1_577_836_800_000, helpful_vote=0, verified_purchase=True)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.sampled_from(fields), values, max_size=4), max_size=6), st.lists(st.sampled_from(['{"rating": 5', "[]", "", "nonsense", "\x00"]), max_size=3))
def test_any_values_go_both_ways(tmp_path_factory, changes, broken):
    folder = tmp_path_factory.mktemp("any")
    lines = [json.dumps(plain)] + [json.dumps(plain | change) for change in changes] + broken + [json.dumps(plain | dict(user_id="V", parent_asin="P2"))]*2
    (folder/"Any.jsonl").write_text("\n".join(lines) + "\n", encoding="utf8")
    (folder/"meta_Any.jsonl").write_text("".join(json.dumps(dict(title=t, features=[], images=[], store=None, price=None, parent_asin=p)) + "\n" for t, p in (("One", "P1"), ("Twice", "P1"), ("None", "P9"))))
    raw = lambda: load_dataset(folder/"Any.jsonl", folder/"meta_Any.jsonl", format="amazon-2023")
    try: a = raw()
    except MmrecError:
        with pytest.raises(MmrecError): convert(folder/"tables", folder/"Any.jsonl", folder/"meta_Any.jsonl", format="amazon-2023")
        return
    convert(folder/"tables", folder/"Any.jsonl", folder/"meta_Any.jsonl", format="amazon-2023")
    assert same_dataset(a, load_converted(folder/"tables")) == []


def test_several_files_of_items_and_other_scales(tmp_path):
    (tmp_path/"r.csv").write_text("userId,movieId,rating,timestamp\n" + "".join(f"{i % 7},{i % 5},{.5 + i % 10/2},{1_000_000_000 + i}\n" for i in range(60)))
    (tmp_path/"titles.csv").write_text("movieId,title,genres\n0,Heat,Crime|Drama\n1,Up,Animation\n9,Unseen,\n")
    (tmp_path/"plots.csv").write_text("movieId,overview\n0,A thief.\n3,A fish.\n")
    both = [tmp_path/"titles.csv", tmp_path/"plots.csv"]
    tables = convert(tmp_path/"tables", tmp_path/"r.csv", both)
    a, b = load_dataset(tmp_path/"r.csv", both), load_converted(tables)
    assert same_dataset(a, b) == [] and b.scale.spec == "0.5-5:0.5" and "A thief." in b.items.set_index("item").text["0"]


def test_items_that_nobody_reviewed_are_kept_behind(shop, tmp_path):
    import pyarrow.parquet as pq
    raw, tables = shop
    items = pq.read_table(tables/"items.parquet").to_pandas()
    facts = json.loads((tables/"dataset.json").read_text())
    assert items.item_row.tolist() == list(range(len(items)))
    named = set(load_dataset(raw.reviews_path, raw.meta_path, how="all").reviews.item)
    assert named <= set(items.item[:facts["reviewed_items"]]) and items.item.is_unique and len(items) > facts["reviewed_items"]


def test_a_killed_conversion_leaves_nothing_believed(shop, tmp_path, monkeypatch):
    raw, _ = shop
    def killed(*args): raise KeyboardInterrupt
    with monkeypatch.context() as m:
        m.setattr(parquet, "_write_items", killed)
        with pytest.raises(KeyboardInterrupt): convert(tmp_path/"t", raw.reviews_path, raw.meta_path)
    assert list(tmp_path.iterdir()) == [] and not is_converted(tmp_path/"t")
    (tmp_path/".t"/"buckets").mkdir(parents=True) # as after kill -9
    assert is_converted(convert(tmp_path/"t", raw.reviews_path, raw.meta_path))


@pytest.mark.parametrize("spoil, says", [("{", "not valid JSON"), ("", "not valid JSON")])
def test_a_spoilt_folder_is_refused(shop, tmp_path, spoil, says):
    (tmp_path/"dataset.json").write_text(spoil)
    with pytest.raises(MmrecError, match=says): load_converted(tmp_path)


def test_what_cannot_be_converted(tmp_path):
    with pytest.raises(MmrecError, match="check the spelling"): convert(tmp_path/"t", tmp_path/"none.jsonl")
    (tmp_path/"a.csv").write_text("user,item,rating\na,b,11\n"*3)
    with pytest.raises(MmrecError, match="no review is left"): convert(tmp_path/"t", tmp_path/"a.csv", scale="1-5")
    assert not (tmp_path/"t").exists() and not (tmp_path/".t").exists()


def test_memory_does_not_follow_the_file(tmp_path):
    "Twice the reviews, about the same peak."
    import tracemalloc
    line, peaks = json.dumps(plain | dict(text="x"*3000)), []
    for n in (6000, 24_000):
        (tmp_path/f"{n}.jsonl").write_text("".join(line.replace('"P1"', f'"P{i % 50}"').replace('"U"', f'"U{i}"') + "\n" for i in range(n)))
        tracemalloc.start(); convert(tmp_path/f"t{n}", tmp_path/f"{n}.jsonl"); peaks.append(tracemalloc.get_traced_memory()[1]); tracemalloc.stop()
    assert peaks[1] < 1.6*peaks[0]


def test_card_of_bare_ratings(tmp_path):
    (tmp_path/"r.csv").write_text("item,rating\na,1\na,5\nb,5\n")
    card = data_card(load_dataset(tmp_path/"r.csv"))
    assert card.majority == pytest.approx(2/3) and "not known" in repr(card) and card.tails.number["users"] == 0
    assert len(plot_card(card).axes) == 6 and "<h4>" in card._repr_html_()


def test_card_counts_the_whole_file(shop):
    raw, tables = shop
    data, keys = load_converted(tables, 500), converted_keys(tables)
    card, everything = data_card(data, keys), load_converted(tables, None)
    assert card.rows == len(keys) and card.sample == len(data.reviews) < card.rows
    assert abs(card.majority - everything.reviews.label.value_counts(normalize=True).max()) < .01 # keys know no empty texts and repeats
    assert tail(["a"]).once == 1
