"How columns are written: decided once over all rows, the same for samples and converted tables, and said."
import json, random
import numpy as np
import pandas as pd
import pytest
from mmrec.data.card import data_card
from mmrec.core import MmrecError
from mmrec.data.tables import load_dataset
from mmrec.data.fields import TimeEvidence, as_id, as_number, best_image_url, mended_text, parse_times, written_out
from mmrec.data.parquet import convert, load_converted, same_dataset
from mmrec.data.ratings import RatingScale


def table(path, columns, sep=","):
    "Write columns as a delimited table, cells as they are."
    rows = [sep.join(columns), *(sep.join(map(str, row)) for row in zip(*columns.values()))]
    path.write_text("\n".join(rows) + "\n", encoding="utf8")
    return path

def reviews(n, **columns):
    "Columns of n reviews with users, items and stars, and whatever else is given."
    base = dict(user=[f"u{i}" for i in range(n)], item=[f"i{i % 7}" for i in range(n)], rating=[i % 5 + 1 for i in range(n)],
                text=[f"word{i} fine" for i in range(n)])
    return base | {name: list(cells) for name, cells in columns.items()}

def rules(data, table="reviews"): return {r.rule: (r.rows, r.action) for r in data.log[data.log.table == table].itertuples()}

def said(data): return " · ".join(data.source["guessed"])


# ---- times

DAYS = pd.date_range("2019-03-01", "2019-05-28", freq="D")

@pytest.mark.parametrize("form", ["%d/%m/%Y", "%d-%m-%y", "%d.%m.%Y %H:%M", "%d/%m/%Y, %I:%M %p", "posted %d/%m/%Y", "%d %m %Y"])
@pytest.mark.parametrize("order", ["rising", "falling", "mixed"])
def test_day_first_is_one_decision_over_all_rows(tmp_path, form, order):
    "9,000 rows sorted by date: most blocks of a reader show no day over 12."
    days = list(DAYS.repeat(9000//len(DAYS) + 1)[:9000])
    if order == "falling": days.reverse()
    if order == "mixed": random.Random(1).shuffle(days)
    path = table(tmp_path/"r.csv", reviews(9000, date=[f'"{d.strftime(form)}"' for d in days]))
    whole = load_dataset(path, sample=None)
    assert (whole.reviews.time.dt.normalize().dt.tz_localize(None).to_numpy() == np.array(days, dtype="datetime64[ms]")).all()
    assert "day first" in said(whole) and "guess" not in said(whole)
    few = load_dataset(path, sample=20)
    assert (few.reviews.set_index("line").time == whole.reviews.set_index("line").time.loc[few.reviews.line]).all()
    assert not same_dataset(whole, load_converted(convert(tmp_path/"out", path), None))


def test_an_order_that_no_row_shows_is_a_guess_and_can_be_named(tmp_path):
    path = table(tmp_path/"r.csv", reviews(30, date=[f"{i % 12 + 1:02}/{i % 9 + 1:02}/2020" for i in range(30)]))
    open_case = load_dataset(path)
    assert "a guess" in said(open_case) and "--dates day-first" in said(open_case) and open_case.reviews.time[1].month == 2
    named = load_dataset(path, dates="day-first")
    assert named.reviews.time[1].day == 2 and "as you say" in said(named)
    assert not same_dataset(named, load_converted(convert(tmp_path/"out", path, dates="day-first"), None))
    with pytest.raises(MmrecError, match="dates cannot be 'dmy'"): load_dataset(path, dates="dmy")


def test_dots_are_read_day_first_where_nothing_shows_it():
    assert parse_times(["03.04.2020", "05.06.2020"])[0].dt.month.tolist() == [4, 6]
    assert parse_times(["03/04/2020", "05/06/2020"])[0].dt.month.tolist() == [3, 5]


def test_iso_dates_beside_others_stay_iso(tmp_path):
    data = load_dataset(table(tmp_path/"r.csv", reviews(4, date=["2020-02-01", "01/02/2020", "13/02/2020", "2020-02-03T10:00:00Z"])))
    assert data.reviews.time.dt.strftime("%m-%d").tolist() == ["02-01", "02-01", "02-13", "02-03"]


def test_rows_that_contradict_each_other_are_said_and_counted(tmp_path):
    data = load_dataset(table(tmp_path/"r.csv", reviews(5, date=["13/01/2020", "14/01/2020", "01/15/2020", "02/01/2020", "15/01/2020"])))
    assert data.reviews.time.isna().tolist() == [False, False, True, False, False] and "1 of 5 do not fit" in said(data)
    assert rules(data)["time not readable, or not in 1990-2049"] == (1, "mended")


@pytest.mark.parametrize("cells,dates", [
    ([44000, 44001.5], ["2020-06-18", "2020-06-19"]), (["20200618", "20200619"], ["2020-06-18", "2020-06-19"]),
    (["20200618093000", "20200619093000"], ["2020-06-18", "2020-06-19"]), (["202006", "202007"], ["2020-06-01", "2020-07-01"]),
    (["1592438400", "1592524800"], ["2020-06-18", "2020-06-19"]), (["1592438400000000", "1592524800000000"], ["2020-06-18", "2020-06-19"]),
    (["18 juin 2020", "19 juillet 2020"], ["2020-06-18", "2020-07-19"]), (["Rated on June 18, 2020", "Rated on Jul 19, 2020"], ["2020-06-18", "2020-07-19"]),
    (["18-JUN-20 09.30.00.000 PM", "19-JUN-20 09.30.00.000 AM"], ["2020-06-18", "2020-06-19"]),
    (["Thu Jun 18 13:55:02 -0700 2020", "Thu, 18 Jun 2020 10:00:00 +0200"], ["2020-06-18", "2020-06-18"]),
    (["reseñado el 18 de junio de 2020", "reseñado el 19 de junio de 2020"], ["2020-06-18", "2020-06-19"]),
    (["20/06/18", "20/06/19", "99/12/31"], ["2020-06-18", "2020-06-19", "1999-12-31"])])
def test_dates_as_people_and_programs_write_them(cells, dates):
    assert parse_times(cells)[0].dt.strftime("%Y-%m-%d").tolist() == dates


@pytest.mark.parametrize("cell", ["3 days ago", "yesterday", "now", "May", "12", "2020-W10", "13/13/2020", "99/99/9999", "NaN", "\\N", True, [1], {}, 10**400, -1,
                                  float("inf"), "9"*5000, "2020-02-30", "31/02/2020", "a"*5000 + "1", "25:61"])
def test_what_is_no_time_is_missing(cell):
    time, _ = parse_times([cell, "2020-01-01"])
    assert time.isna().tolist() == [True, False]


def test_words_are_read_alike_whatever_was_read_before():
    "The parser of dates in words must not remember languages."
    once = parse_times(["1 mar 2020", "2 apr 2020"])[0]
    parse_times(["18 juin 2020", "3 março 2020", "5 мая 2020"])
    assert once.equals(parse_times(["1 mar 2020", "2 apr 2020"])[0])


def test_evidence_in_pieces_is_evidence_at_once():
    cells = [f"{d:02}/03/2021" for d in range(1, 29)]
    whole, pieces = TimeEvidence(), TimeEvidence()
    whole.add(cells, range(1, 29))
    for i in range(0, 28, 5): pieces.add(cells[i:i + 5], range(i + 1, i + 1 + len(cells[i:i + 5])))
    assert whole.decide() == pieces.decide()


# ---- identifiers

@pytest.mark.parametrize("nothing", [r"\N", "N/A", "NULL", "None", "-", "nan", "<NA>", "#N/A", "--", "null", "n/a"])
def test_words_for_nothing_are_nobody_and_nothing(tmp_path, nothing):
    data = load_dataset(table(tmp_path/"r.csv", reviews(10, user=[nothing]*8 + ["ann", "bob"], text=["the same"]*9 + [nothing])))
    assert data.reviews.user.notna().sum() == 1 and len(data.reviews) == 9 # bob's review says nothing
    assert rules(data)["no user"] == (8, "kept") and rules(data)["empty text"] == (1, "removed")


def test_ids_that_a_spreadsheet_rounded_name_nobody(tmp_path):
    data = load_dataset(table(tmp_path/"r.csv", reviews(6, user=["7.65612E+16"]*4 + ["76561198000000001", "76561198000000002"])))
    assert data.reviews.user.dropna().tolist() == ["76561198000000001", "76561198000000002"]
    assert "4 identifiers in 'user' were rounded by a spreadsheet" in said(data) and "line 2: '7.65612E+16'" in said(data)


@pytest.mark.parametrize("ids,found", [(["1.0", "2.0"], ["1", "2"]), (["1.0", "1.1"], ["1.0", "1.1"]), (["007", "7"], ["007", "7"])])
def test_a_tail_belongs_to_an_id_where_others_have_one(tmp_path, ids, found):
    data = load_dataset(table(tmp_path/"r.csv", reviews(2, item=ids)))
    assert data.reviews.item.tolist() == found


@pytest.mark.parametrize("side", ["reviews", "items"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_zeros_that_one_file_lost_are_filled_up(tmp_path, side, kind):
    ids = ["0108775015", "0110065001", "4000000001", "0000000007"]
    lost = [i.lstrip("0") for i in ids]
    path = table(tmp_path/"r.csv", reviews(8, item=(lost if side == "reviews" else ids)*2))
    names = ids if side == "reviews" else lost
    if kind == "csv": items = table(tmp_path/"i.csv", dict(item=names, title=[f"Strap {i}" for i in range(4)]))
    else: items = tmp_path/"i.jsonl"; items.write_text("".join(json.dumps(dict(item=i, title=f"Strap {k}")) + "\n" for k, i in enumerate(names)))
    data = load_dataset(path, items)
    assert data.items.item.tolist() == ids and (data.items.title != "").all() and "filled up with zeros to 10 digits" in said(data)
    assert not same_dataset(data, load_converted(convert(tmp_path/"out", path, items), None))


def test_ids_of_unequal_length_are_left_alone(tmp_path):
    path = table(tmp_path/"r.csv", reviews(4, item=["7", "007", "12", "5"]))
    data = load_dataset(path, table(tmp_path/"i.csv", dict(item=["7", "007", "12"], title=["a", "b", "c"])))
    assert data.items.title.tolist() == ["a", "b", "c", ""] and "zeros" not in said(data)


def test_large_numbers_as_ids():
    assert [as_id(x) for x in (2**70, 10**400, 10**5000, float(2**53), 1e30, -5)] == [str(2**70), str(10**400), "", str(2**53), "", "-5"]


# ---- numbers

@pytest.mark.parametrize("cells,values", [
    (["12,99 €", "1.299,00 €", "1.299 €", "EUR 0,99"], [12.99, 1299, 1299, .99]), (["$12.99", "$1,299.00", "$1,299", "free"], [12.99, 1299, 1299, np.nan]),
    (["1.234.567", "12,5", "7", "1.000"], [np.nan, 12.5, 7, 1000]), (["0.125", "1.299", "3", "4"], [.125, 1.299, 3, 4]),
    (["CHF 12,90 - 15,90", "1 299,00 kr", "3", "4"], [12.9, 1299, 3, 4]), (["₹1,23,456.00", "₹99.50", "3", "4"], [123456, 99.5, 3, 4])])
def test_decimal_sign_is_the_columns(tmp_path, cells, values):
    path = table(tmp_path/"r.csv", reviews(4, item=list("ABCD")), sep=";")
    items = table(tmp_path/"i.csv", dict(item=list("ABCD"), title=["Pin"]*4, price=cells), sep=";")
    data = load_dataset(path, items)
    assert data.items.price.tolist() == pytest.approx(values, nan_ok=True)
    assert ("comma begins the decimals" in said(data)) == any(",9" in c or ",0" in c or ",5" in c for c in cells if "$" not in c and "₹" not in c)
    assert not same_dataset(data, load_converted(convert(tmp_path/"out", path, items), None))


@pytest.mark.parametrize("cell", ["{{}}", "[" * 600 + "]" * 600, "<" * 5000, "&#" + "9" * 5000 + ";", 10**400, float("inf"), [[[["a"]]]], {"a": {}}, "\ud800", b"x", True, None])
def test_odd_cells_end_no_reading(cell):
    assert isinstance(mended_text(cell)[0], str) and isinstance(as_id(cell), str) and isinstance(as_number(cell), float) and isinstance(best_image_url(cell), str)
    assert len(parse_times([cell])[0]) == 1 and RatingScale.parse("1-5").encode([cell]).isna().all()
    written_out(cell)


def test_one_odd_record_is_logged_and_the_rest_goes_on(tmp_path):
    good = dict(user="u", item="A", rating=5, text="fine", time=1577836800)
    odd = ['{"user": "u", "item": "A", "rating": %s, "text": "x"}' % ("9"*400), '{"user": ["u"], "item": {"a": 1}, "rating": 3, "text": "y"}',
           '{"user": "\\ud800", "item": "A", "rating": 4, "text": "\\udc00 z", "time": [1]}', '{"user": "v", "item": "A", "rating": 1e999, "text": "w"}',
           '{"user": "w", "item": "A", "rating": 2, "text": ' + "["*600 + '"deep"' + "]"*600 + "}"]
    path = tmp_path/"r.jsonl"
    path.write_text("".join(json.dumps(good | dict(user=f"u{i}")) + "\n" for i in range(5)) + "\n".join(odd) + "\n")
    data = load_dataset(path, keep_empty_text=True)
    removed = data.log[(data.log.table == "reviews") & (data.log.action == "removed")].rows.sum()
    assert data.source["read"]["reviews"] == 10 == len(data.reviews) + removed and len(data.reviews) >= 6
    assert not same_dataset(data, load_converted(convert(tmp_path/"out", path, keep_empty_text=True), None))


# ---- ratings

@pytest.mark.parametrize("cells,spec", [
    (["4 Sterne", "5 Sterne", "1 Stern"], "1-5"), (["★★★", "★★★★★", "★"], "1-5"), (["⭐⭐", "⭐⭐⭐⭐⭐"], "1-5"), (["★☆☆☆☆", "★★★★☆"], "1-5"), (["4,5 von 5", "3 von 5"], "0.5-5:0.5"),
    (["4 étoiles", "2 étoiles"], "1-5"), (["4 sur 5", "5 sur 5"], "1-5"), (["4 de 5 estrellas", "1 de 5 estrellas"], "1-5"), (["7/10", "10/10"], "1-10"),
    (["4 out of 5 stars", "5 out of 5 stars"], "1-5"), (["5つ星のうち4.0", "5つ星のうち2.0"], "1-5"), (["4 звезды", "5 звёзд"], "1-5"), (["excellent", "poor", "terrible"], "terrible<poor<average<very good<excellent")])
def test_marks_in_many_hands(cells, spec): assert RatingScale.infer(cells*20).spec == spec


def test_fractions_of_different_wholes_are_refused_and_can_be_named(tmp_path):
    path = table(tmp_path/"r.csv", reviews(6, rating=["3/4", "3/5", "8/10", "1/4", "10/10", "2/5"]))
    with pytest.raises(MmrecError, match="fractions of different wholes"): load_dataset(path)
    assert load_dataset(path, scale="low=0..0.5<high=0.51..1").reviews.label.tolist() == [1, 1, 1, 0, 1, 0]


def test_a_fraction_of_another_whole_is_outside_and_said(tmp_path):
    data = load_dataset(table(tmp_path/"r.csv", reviews(9, rating=[5, 4, 3, "4/10", "4/5", 2, 1, 5, 4])))
    assert data.reviews.rating.tolist() == [5, 4, 3, 4, 2, 1, 5, 4] and "outside it: 1 ('4/10')" in said(data)


@pytest.mark.parametrize("stray,where", [(10, "high"), (50, "high"), (0, "low"), (-3, "low")])
def test_a_typing_error_does_not_stretch_a_scale(tmp_path, stray, where):
    data = load_dataset(table(tmp_path/"r.csv", reviews(2000, rating=[i % 5 + 1 for i in range(1999)] + [stray])), sample=None)
    assert data.scale.spec == "1-5" and len(data.reviews) == 1999 and f"outside it: 1 ({stray})" in said(data)


def test_a_mark_that_is_merely_rare_is_on_the_scale(tmp_path):
    data = load_dataset(table(tmp_path/"r.csv", reviews(3000, rating=[i % 9 + 1 for i in range(2999)] + [10])), sample=None)
    assert data.scale.spec == "1-10"


def test_the_scale_is_that_of_all_rows_not_of_the_sample(tmp_path):
    path = table(tmp_path/"r.csv", reviews(3000, rating=[i % 5 + 1 for i in range(2700)] + [i % 10 + 1 for i in range(300)]))
    assert load_dataset(path, sample=50, how="head").scale.spec == load_converted(convert(tmp_path/"out", path), 50).scale.spec == "1-10"


# ---- whose a text is, several rows an item, lists written out

def test_a_title_that_is_the_items(tmp_path):
    films = {f"i{k}": f"Film {k}" for k in range(7)}
    columns = reviews(40)
    columns.pop("text")
    path = table(tmp_path/"r.csv", columns | dict(title=[films[i] for i in columns["item"]], genres=["Drama|Comedy"]*40))
    data = load_dataset(path)
    assert not data.has("title") and (data.items.title.str.startswith("Film")).all() and data.items.text[0].endswith("Drama, Comedy")
    assert "the same in all reviews of an item" in said(data)
    assert not same_dataset(data, load_converted(convert(tmp_path/"out", path), None))
    mine = load_dataset(path, columns=dict(title="title")) # a caller's word counts
    assert mine.has("title")


def test_a_title_that_is_the_reviews_stays(tmp_path):
    data = load_dataset(table(tmp_path/"r.csv", reviews(40, title=[f"Nice {i % 3}" for i in range(40)])))
    assert data.has("title")


@pytest.mark.parametrize("order", [0, 1, 2])
def test_gaps_of_an_item_are_filled_from_its_other_rows(tmp_path, order):
    rows = [dict(item="A", title="", image="", price=""), dict(item="A", title="Scarf", image="https://h/a.jpg", price=""), dict(item="A", title="Shawl", image="", price="3.5")]
    rows = rows[order:] + rows[:order] + [dict(item="B", title="Hat", image="", price="1")]*2
    path, items = table(tmp_path/"r.csv", reviews(4, item=list("ABAB"))), tmp_path/"i.csv"
    pd.DataFrame(rows).to_csv(items, index=False)
    data = load_dataset(path, items)
    a = data.items.set_index("item").loc["A"]
    assert a.title == next(r["title"] for r in rows if r["title"]) and a.image_url == "https://h/a.jpg" and a.price == 3.5
    assert sum(n for rule, (n, _) in rules(data, "items").items() if rule.startswith("item listed before")) == 3
    assert not same_dataset(data, load_converted(convert(tmp_path/"out", path, items), None))


@pytest.mark.parametrize("cell,value", [
    ("['a' 'b']", ["a", "b"]), ("['it''s' \"b c\"]", ["it", "s", "b c"]), ("array(['a', 'b'], dtype=object)", None), ("[array(['a'], dtype=object)]", [["a"]]), ("{'k': array([None, 'x'], dtype=object)}", {"k": [None, "x"]}),
    ("[1. 2.5]", [1.0, 2.5]), ("[-1 2]", [-1, 2]), ('{"a": [1, {"b": null}]}', {"a": [1, {"b": None}]}), ("[]", []), ("['a'\n 'b']", ["a", "b"]), ("[nan 'x']", [None, "x"]), ("[sic]", None), ("{}", {}),
    ("__import__('os').system('x')", None), ("[__import__('os')]", None)])
def test_lists_as_programs_print_them(cell, value):
    assert written_out(cell) == (cell if value is None else value)


# ---- nested records, several files, the closing line

def test_nested_names_are_guessed(tmp_path):
    path = tmp_path/"r.jsonl"
    path.write_text("".join(json.dumps(dict(author=dict(steamid=str(i)), appid=i % 3, voted_up=bool(i % 2), review=f"nice {i}")) + "\n" for i in range(12)))
    data = load_dataset(path)
    assert data.reviews.user.nunique() == 12 and data.source["columns"]["user"] == "author.steamid"


def test_lines_of_several_files_are_named_after_their_file(tmp_path):
    for k in range(3): table(tmp_path/f"part-{k}.csv", reviews(5, user=[f"{k}-{i}" for i in range(5)], rating=[5, "", 4, 3, 2]))
    data = load_dataset(str(tmp_path/"part-*.csv"))
    row = data.log[data.log.rule == "no rating"].iloc[0]
    assert (row.rows, row.examples) == (3, "part-0.csv:3, part-1.csv:3, part-2.csv:3")
    assert not same_dataset(data, load_converted(convert(tmp_path/"out", str(tmp_path/"part-*.csv")), None))


def test_the_card_ends_with_what_came_in_and_what_stayed(tmp_path):
    data = load_dataset(table(tmp_path/"r.csv", reviews(12, rating=[5, 4, "", 9, 3, 2, 1, 5, 4, 3, 2, 1])), scale="1-5")
    last = repr(data_card(data)).splitlines()[-1]
    assert last == "12 rows came in, 10 stayed, 2 removed (no rating: 1 (line 4); rating outside 1-5: 1 (line 5))."


def test_names_from_data_reach_neither_terminal_nor_page_raw(tmp_path):
    path = tmp_path/"r.csv"
    path.write_text("user,item,rating,te\x1b[31mxt<script>\n" + "".join(f"u{i},A,{i % 5 + 1},x\n" for i in range(9)))
    card = data_card(load_dataset(path, columns={"text": "te\x1b[31mxt<script>"}, name="<script>alert(1)</script>\x1b]0;x\x07"))
    assert "\x1b" not in repr(card) and "\x07" not in repr(card) and "<script>" not in card._repr_html_()


# ---- the promise: raw and converted are the same, for tables that nobody prepared

def messy(rng, n):
    "A table of many hands: columns of any notation, with gaps and faults."
    pick = lambda *options: rng.choice(options)
    day, sign = pick("%d/%m/%Y", "%m/%d/%Y", "%Y-%m-%d", "%d.%m.%y", "%s", "%B %d, %Y"), pick(",", ".")
    cell = lambda value: value if rng.random() > .03 else pick("", r"\N", "N/A", "NULL", "x", "-")
    days = [pd.Timestamp("2019-01-01") + pd.Timedelta(days=int(d)) for d in sorted(rng.integers(0, 700, n))]
    date = lambda d: str(int(d.timestamp())) if day == "%s" else d.strftime(day)
    ids = [f"{i:06}" if rng.random() < 2 else i for i in range(30)]
    return pd.DataFrame(dict(userId=[cell(f"{rng.integers(0, 40)}{pick('', '.0') if n % 2 else '.0'}") for _ in range(n)], movieId=[cell(pick(*ids)) for _ in range(n)],
        rating=[cell(str(pick(1, 2, 3, 4, 5))) for _ in range(n)], review=[cell(pick("warm &amp; soft", "cold", "so so", "<b>great</b>")) for _ in range(n)],
        timestamp=[cell(date(d)) for d in days], votes=[cell(f"1{pick('', sign + '5', '.000')}") for _ in range(n)],
        price=[cell(f"{rng.integers(1, 99)}{sign}{rng.integers(10, 99)}") for _ in range(n)]))

@pytest.mark.parametrize("seed", range(12))
def test_messy_tables_load_alike_raw_and_converted(tmp_path, seed):
    rng = np.random.default_rng(seed)
    path = tmp_path/"r.csv"
    messy(rng, 300 + seed).to_csv(path, index=False, sep=rng.choice([",", ";", "\t"]))
    tables = convert(tmp_path/"out", path)
    for n, how in ((None, "all"), (40, "uniform"), (30, "head"), (50, "users"), (None, "2-core")):
        raw = load_dataset(path, sample=n, how=how, seed=seed)
        assert not (differ := same_dataset(raw, load_converted(tables, n, how, seed))), (how, differ)
        assert raw.source["guessed"] == load_converted(tables, n, how, seed).source["guessed"]
        removed = raw.log[(raw.log.table == "reviews") & (raw.log.action == "removed")].rows.sum()
        if how == "all": assert raw.source["read"]["reviews"] == len(raw.reviews) + removed


def test_items_of_other_reviews_are_refused_by_loader_and_converter(tmp_path):
    path, items = table(tmp_path/"r.csv", reviews(6)), table(tmp_path/"i.csv", dict(item=["x", "y"], title=["a", "b"]))
    for attempt in (lambda: load_dataset(path, items), lambda: convert(tmp_path/"out", path, items)):
        with pytest.raises(MmrecError, match="no review's item is among its 2 items"): attempt()


@pytest.mark.parametrize("huge", [1e308, 1.7e308, 1e18])
def test_marks_without_bound_are_no_scale(huge):
    with pytest.raises(MmrecError, match="too many for classes"): RatingScale.infer([1.0, 3.0, huge]*5)
