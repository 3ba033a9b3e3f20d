"Files of every kind that people have: what is recognised is said, no row and no digit is lost, and what is broken ends in one clear error."
import bz2, datetime, decimal, gzip, io, json, lzma, random, tarfile, time, zipfile
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mmrec.core import MmrecError
from mmrec.data.reading import MendedRow, batches_of, line_batches, parse_json, parse_python, parse_row, read_records, rows_of, sniff

ROWS = [dict(user=f"u{i}", item="AB"[i % 2], rating=i % 5 + 1, text=f"a warm scarf number {i}") for i in range(12)]
CSV = pd.DataFrame(ROWS).to_csv(index=False)
AS_TEXT = [{k: str(v) for k, v in r.items()} for r in ROWS]


def put(path, content):
    "Write text or bytes to a file."
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def records(path): return [r for _, r in read_records(path)]

def said(path): return "; ".join(sniff(path).recognised)

def reasons(path):
    "Why rows cannot be read, by line."
    source, found = sniff(path), {}
    for line, row in rows_of(source):
        try: parse_row(source, row)
        except ValueError as e: found[line] = str(e)
    return found


# ---- quotes: no row is lost to one

def test_a_stray_quote_costs_no_row(tmp_path):
    rng, texts = random.Random(0), []
    for i in range(2000):
        texts.append(rng.choice([f"good {i}", f"good, really {i}", f'7" board {i}', f'say "yes" {i}', f"two\nlines {i}"]))
    rows = [[f"u{i}", "AB"[i % 2], str(i % 5 + 1), t] for i, t in enumerate(texts)]
    table = pd.DataFrame(rows, columns=["user", "item", "rating", "text"]).to_csv(index=False).splitlines(True)
    spoiled = [k for k, line in enumerate(table) if line.startswith("u") and line.endswith(" 500\n") or line.startswith("u1200,")][:2]
    for k in spoiled: table[k] = ",".join(table[k].split(",")[:3]) + ',"never closed\n' if '"' not in table[k] else table[k]
    path = put(tmp_path/"r.csv", "".join(table))
    got = records(path)
    assert len(got) == 2000 and [r["user"] for r in got] == [f"u{i}" for i in range(2000)]
    assert sum(r["text"] != t for r, t in zip(got, texts)) <= 2 and said(path) == ""


@pytest.mark.parametrize("line,cells", [
    ('u1,B,4,"never closed', ["u1", "B", "4", '"never closed']), ('u1,B,4,"Great" gift', ["u1", "B", "4", '"Great" gift']),
    ('u1,"B,4,open in the middle', ["u1", '"B', "4", "open in the middle"]), ('u1,B,4,"a "real" bargain, yes"', ["u1", "B", "4", 'a "real" bargain, yes']),
    ('u1,B,4,"blank behind" ', ["u1", "B", "4", '"blank behind" ']), ('"u1,B,4,first cell', ['"u1', "B", "4", "first cell"])])
@pytest.mark.parametrize("at", [1, 5, 12])
def test_mended_rows_say_so(tmp_path, line, cells, at):
    lines = CSV.splitlines() + ['v,A,3,"needed, for the comma"', 'v,A,3,"and one\nover two lines"']
    path = put(tmp_path/"r.csv", "\n".join([*lines[:at], line, *lines[at:]]))
    rows = [row for _, row in rows_of(sniff(path))]
    mended = [row for row in rows if isinstance(row, MendedRow)]
    assert len(rows) == 15 and mended == [cells] and mended[0].note == "a stray quote"
    assert ["v", "A", "3", "and one\nover two lines"] in rows


def test_a_quote_at_the_end_of_a_later_line_closes_nothing(tmp_path):
    path = put(tmp_path/"r.csv", CSV.replace("number 3\n", 'number 3\nw,A,2,"opens\n').replace("number 8", 'number 8 of 9"') + 'v,A,1,"x, y"\n')
    rows = [row for _, row in rows_of(sniff(path))]
    assert len(rows) == 14 and [r[0] for r in rows][4:6] == ["w", "u4"]


def test_long_cells_over_many_lines_stay(tmp_path):
    long = "\n".join(f"line {k}, with a comma" for k in range(300)) + "\n\n1,2,3"
    frame = pd.DataFrame(dict(user=["a", "b"], text=[long, "short"], rating=[5, 1]))
    frame.to_csv(tmp_path/"r.csv", index=False)
    assert [r["text"] for r in records(tmp_path/"r.csv")] == [long, "short"]
    assert [line for line, _ in rows_of(sniff(tmp_path/"r.csv"))] == [2, 304]


@pytest.mark.parametrize("delimiter", ["\t", ",", ";"])
def test_quotes_that_are_characters(tmp_path, delimiter):
    "Some titles stand wholly in quotes, a few begin with one that is never closed."
    title = lambda i: '"wholly quoted"' if i % 9 == 0 else '"never closed' if i % 400 == 1 else f'a 7" board {i}' if i % 5 == 0 else f"title {i}"
    path = put(tmp_path/"r.tsv", "user,item,stars,title\n".replace(",", delimiter) + "".join(delimiter.join([f"u{i}", f"p{i % 7}", str(i % 5 + 1), title(i)]) + "\n" for i in range(3000)))
    source = sniff(path)
    assert [r["title"] for r in records(path)] == [title(i) for i in range(3000)]
    assert not source.quoted and "quotes are characters, not enclosures: line 3" in said(path)


def test_quotes_that_come_late_are_judged_too(tmp_path):
    "The first megabytes hold no quote at all."
    plain = "".join(f"u{i}\tp{i % 7}\t{i % 5 + 1}\tplain title {i}\n" for i in range(60_000))
    path = put(tmp_path/"r.tsv", "user\titem\tstars\ttitle\n" + plain + 'x\tp\t3\t"opens\n'*3 + 'y\tp\t3\t"whole"\n')
    assert not sniff(path).quoted and records(path)[-1]["title"] == '"whole"'


def test_cells_quoted_throughout_stay_enclosed(tmp_path):
    lines = pd.DataFrame(ROWS).to_csv(index=False, quoting=1).splitlines(True)
    path = put(tmp_path/"r.csv", "".join(lines[:5] + ['"u","A","3","it "never" ends\n'] + lines[5:]))
    assert sniff(path).quoted and len(records(path)) == 13 and records(path)[0] == AS_TEXT[0]


def test_reading_ends_soon_where_no_quote_is_ever_closed(tmp_path):
    path = put(tmp_path/"r.csv", "user,item,rating,text\n" + 'v,A,3,"so, it fits"\n'*30_000 + 'u,a,4,"open\n'*3000 + "u,a,4,plain\n"*3000)
    start = time.time()
    assert len(records(path)) == 36_000 and time.time() - start < 60


# ---- what a table's first lines say

HEADS = {
    "plain": ("user,item,rating\nu,a,5\nv,b,4\n", ("user", "item", "rating"), 2, ""),
    "a column called 7": ("user,item,rating,7\nu,a,5,x\nv,b,4,y\n", ("user", "item", "rating", "7"), 2, ""),
    "numbers by pandas": ("0,1,2,3\nu,a,5,9\nv,b,4,8\n", ("0", "1", "2", "3"), 2, ""),
    "years over text": ("item,2019,2020\nhat,good,bad\ncap,bad,good\n", ("item", "2019", "2020"), 2, ""),
    "no headings": ("u1,a,5\nu2,b,4\nu3,c,1\n", ("0", "1", "2"), 3, ""),
    "no headings, a title that is a number": ("7,1984,5\n8,Emma,4\n9,Ulysses,1\n", ("0", "1", "2"), 3, ""),
    "first cell is missing": ("u1,a,\nu2,b,4\nu3,c,1\n", ("0", "1", "2"), 3, ""),
    "sep": ("sep=|\nuser|item|rating\nu|a|5\n", ("user", "item", "rating"), 1, "first line 'sep=|' names the delimiter"),
    "quoted sep": ('"sep=;"\nuser;item;rating\nu;a;4,5\n', ("user", "item", "rating"), 1, "names the delimiter"),
    "comments": ("#made 2021, by hand\n#\n# shop: x\nuser,item,rating\nu,a,5\nv,b,4\n", ("user", "item", "rating"), 2, "lines that begin with # are comments: 3 left out, the first is line 1"),
    "headings in a comment": ("#user\titem\trating\n1\t2\t5\n3\t4\t1\n", ("user", "item", "rating"), 2, ""),
    "a title above": ("Reviews of 2021\n\nuser,item,rating\nu,a,5\nv,b,4\n", ("user", "item", "rating"), 2, "lines before the table: 1 left out, the first is line 1: 'Reviews of 2021'"),
    "R": ('"user","item","rating"\n"1","u","a",5\n"2","v","b",4\n', ("", "user", "item", "rating"), 2, "the first column holds row names (R)"),
    "R with blanks": ('"user" "item" "rating"\n"1" "u" "a b" 5\n"2" "v" "b" 4\n', ("", "user", "item", "rating"), 2, "row names (R)"),
    "RecBole": ("user_id:token\titem_id:token\trating:float\n7\t8\t5.0\n9\t8\t1.0\n", ("user_id", "item_id", "rating"), 2, "types dropped from the header: user_id:token"),
    "a time is no type": ("user,time:utc,rating\nu,3,5\nv,4,4\n", ("user", "time:utc", "rating"), 2, ""),
    "twice": ("user,item,rating,rating,rating\nu,a,1,2,3\nv,b,1,2,3\n", ("user", "item", "rating", "rating (2)", "rating (3)"), 2, "two columns are called 'rating' (columns 3 and 4): the second is read as 'rating (2)'"),
    "blanks": ("user item rating\nu a 5\nv b 4\n", ("user", "item", "rating"), 2, ""),
    "blank behind each comma": ('user, item, rating, text\nu, a, 5, "so, so"\nv, b, 4, "yes, well"\n', ("user", "item", "rating", "text"), 2, ""),
    "commas in names": ('user,item,"Rating (1,5)"\nu,a,5\nv,b,4\n', ("user", "item", "Rating (1,5)"), 2, ""),
    "an empty name": (",user,item,rating\n0,u,a,5\n1,v,b,4\n", ("", "user", "item", "rating"), 2, ""),
    "two lines in a name": ('user,item,"rating\nin stars"\nu,a,5\nv,b,4\n', ("user", "item", "rating\nin stars"), 2, ""),
}

@pytest.mark.parametrize("name", HEADS)
def test_headings(tmp_path, name):
    text, columns, n, says = HEADS[name]
    path = put(tmp_path/"t.txt", text)
    assert sniff(path).columns == columns and len(records(path)) == n and reasons(path) == {}
    assert says in said(path) and bool(says) == bool(said(path)) or name == "headings in a comment"


def test_rows_with_another_number_of_cells(tmp_path):
    path = put(tmp_path/"r.csv", CSV + "u,A,3,steel, brass\nu,A,3\nu,A,3,fine,,\n# a note\n")
    assert reasons(path) == {14: "wrong number of cells", 15: "wrong number of cells", 17: "a comment"} and len(records(path)) == 13


def test_rows_that_a_spreadsheet_ended_early(tmp_path):
    path = put(tmp_path/"r.csv", "user,item,rating,text,note\n" + "".join(f"u{i},A,{i % 5 + 1},fine{',x' if i % 3 == 0 else ''}\n" for i in range(90)))
    assert len(records(path)) == 90 and records(path)[1]["note"] == "" and "rows that end early are filled up with empty cells: 60 of" in said(path)


# ---- letters and line ends

TEXTS = dict(cp1251="тёплый шарф, очень мягкий", gbk="很暖和的围巾，质量不错", shift_jis="とても暖かいマフラーです", euc_kr="아주 따뜻한 목도리입니다", big5="這條圍巾非常溫暖",
             cp1253="Πολύ ζεστό κασκόλ, καλή ποιότητα", cp1250="Świetna jakość, żółty szalik, źle, łąka", cp1252="Très bonne qualité, écharpe déçue à l’été", koi8_r="хорошая вещь, рекомендую всем")

@pytest.mark.parametrize("encoding", TEXTS)
@pytest.mark.parametrize("late", [False, True])
def test_encodings(tmp_path, encoding, late):
    "In the first lines, or behind some megabytes of ASCII."
    text = TEXTS[encoding].replace(",", ";")
    path = put(tmp_path/"r.csv", ("user,item,rating,text\n" + "u,A,4,plain words for a while\n"*(45_000 if late else 1) + "".join(f"u,B,{i % 5 + 1},{text} {i}\n" for i in range(5))).encode(encoding))
    assert [r["text"] for r in records(path)][-5:] == [f"{text} {i}" for i in range(5)]
    assert "encoding " in said(path) and text[:5] in said(path) and f"line {45_002 if late else 3}" in said(path)


def test_few_letters_are_said_to_be_guessed(tmp_path):
    assert "encoding cp1252, guessed from few letters (line 2: 'Käse')" in said(put(tmp_path/"r.csv", "user,item,text\nu,a,Käse\n".encode("latin-1")))


def test_broken_bytes_in_utf8_stay_utf8(tmp_path):
    lines = [f"u,A,4,schöner Schal {i}\n".encode() for i in range(50)]
    lines[7] = b"u,A,4,sch\xf6ner Schal\n"
    path = put(tmp_path/"r.csv", b"user,item,rating,text\n" + b"".join(lines))
    assert said(path) == "" and records(path)[7]["text"] == "sch\ufffdner Schal" and records(path)[8]["text"] == "schöner Schal 8"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_byte_order_marks(tmp_path, encoding, ends):
    for content, want in ((CSV, AS_TEXT), ("".join(json.dumps(r | {"text": "Größe ☂"}) + "\n" for r in ROWS), [r | {"text": "Größe ☂"} for r in ROWS])):
        assert records(put(tmp_path/"x", content.replace("\n", ends).encode(encoding))) == want
        assert records(put(tmp_path/"x.gz", gzip.compress(content.replace("\n", ends).encode(encoding)))) == want


def test_json_lines_in_an_older_encoding(tmp_path):
    path = put(tmp_path/"r.jsonl", "".join(json.dumps(dict(item="a", text=f"очень тёплый шарф {i}"), ensure_ascii=False) + "\n" for i in range(9)).encode("cp1251"))
    assert records(path)[0]["text"] == "очень тёплый шарф 0" and "cp1251" in said(path)


@pytest.mark.parametrize("ends,says", [("\r", "line ends are CR"), ("\r\n", ""), ("\r\r\n", "")])
def test_line_ends(tmp_path, ends, says):
    path = put(tmp_path/"r.csv", CSV.replace("\n", ends))
    assert records(path) == AS_TEXT and said(path) == says
    path = put(tmp_path/"r.jsonl", "".join(json.dumps(r) + ends for r in ROWS))
    assert records(path) == ROWS and said(path) == says


def test_cr_with_lf_inside_cells_and_mixed_line_ends(tmp_path):
    path = put(tmp_path/"r.csv", pd.DataFrame([ROWS[0] | dict(text="two\nlines"), *ROWS[1:]]).to_csv(index=False).replace("\n", "\r").replace("two\rlines", "two\nlines"))
    assert records(path) == [AS_TEXT[0] | dict(text="two\nlines"), *AS_TEXT[1:]]
    lines = CSV.splitlines()
    path = put(tmp_path/"m.csv", "\n".join(lines[:8]) + "\n" + "\r".join(lines[8:]))
    assert records(path) == AS_TEXT and [line for line, _ in rows_of(sniff(path))] == list(range(2, 14)) and "some in CR" in said(path)
    path = put(tmp_path/"one.csv", CSV.replace("scarf number 4", "scarf\rnumber 4"))
    assert records(path) == AS_TEXT and said(path) == "" # a CR within a cell is a blank


@pytest.mark.parametrize("sign", ["\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"])
def test_other_signs_cut_no_line(tmp_path, sign):
    text = CSV.replace("warm scarf", f"warm{sign}scarf")
    got = records(put(tmp_path/"r.csv", text))
    assert len(got) == 12 and got[3]["text"] == f"a warm{sign}scarf number 3"
    assert len(records(put(tmp_path/"q.csv", text.replace("number 5", 'number 5"')))) == 12


def test_nul_bytes(tmp_path):
    assert records(put(tmp_path/"r.csv", CSV.replace("warm", "wa\0rm")))[0]["text"] == "a wa\ufffdrm scarf number 0"


@pytest.mark.parametrize("size", [1, 3, 20, 1000])
@pytest.mark.parametrize("newline", ["\n", "any"])
def test_the_size_of_blocks_does_not_show(tmp_path, size, newline):
    content = b"one\r\ntwo\rthree\n\rfour\r\r\nfive\r"
    path = put(tmp_path/"x", content)
    got = [bytes(row) for batch in line_batches(path, size=size, newline=newline) for _, row in batch]
    assert b"".join(got) == content
    if newline == "any": assert [x.strip() for x in got] == [b"one", b"two", b"three", b"", b"four", b"", b"five"]


# ---- numbers keep their digits

def test_no_digit_of_an_identifier_is_lost(tmp_path):
    ids = ["101463350189962023770", "101463350189962023771", "18446744073709551615", "9007199254740993", "-9223372036854775808", "1" + "7"*399, "1" + "7"*4999, "00123"]
    path = put(tmp_path/"r.jsonl", "".join(f'{{"user": {i}, "who": {{"id": {i}}}, "rating": 4.5}}\n' for i in ids[:-1]))
    assert [str(r["user"]) for r in records(path)] == ids[:-1] == [str(r["who"]["id"]) for r in records(path)] and records(path)[0]["rating"] == 4.5
    assert [str(r["user"]) for r in records(put(tmp_path/"a.json", "[" + ",".join(path.read_text().splitlines()) + "]"))] == ids[:-1]
    assert [r["user"] for r in records(put(tmp_path/"r.csv", "user,rating\n" + "".join(f"{i},4\n" for i in ids)))] == ids
    assert [str(r["user"]) for r in records(put(tmp_path/"r.py", "".join(f"{{'user': {i}}}\n" for i in ids[:6])))] == ids[:6]


def test_numbers_beyond_all_bounds():
    assert parse_json(b'{"a": 1e999, "b": -Infinity, "c": NaN, "d": 1e300, "e": 101463350189962023770.0}') == pytest.approx(dict(a="1e999", b=np.nan, c=np.nan, d=1e300, e="101463350189962023770.0"), nan_ok=True)
    assert parse_python(b"{b'k': b'caf\\xe9', 3: {4, 5}, 'n': (1, None)}") == {"k": "caf\ufffd", "3": [4, 5], "n": [1, None]}
    assert np.isnan(parse_python(b"{'a': -1e999}")["a"])
    assert parse_json(b'{"a\\ud800": "x\\udfff", "b": "\\ud83d\\ude00"}') == {"a\ufffd": "x\ufffd", "b": "\U0001f600"}


@pytest.mark.parametrize("kind", [lambda n: '{"a": ' + "["*n + "]"*n + "}", lambda n: '{"a":'*n + "1" + "}"*n])
@pytest.mark.parametrize("depth", [60, 300, 600, 5000, 100_000])
def test_one_record_nested_too_deep_is_left_out(tmp_path, kind, depth):
    for name, content in (("r.jsonl", '{"a": 1}\n' + kind(depth) + '\n{"a": 2}\n'), ("p.json", "{'a': 1}\n" + kind(depth) + "\n{'a': 2}\n")):
        path = put(tmp_path/name, content)
        assert [r["a"] for r in records(path)] == [1, 2] and list(reasons(path)) == [2]
    path = put(tmp_path/"a.json", '[{"a": 1, "b": 2},\n ' + kind(depth) + ', {"a": 2, "b": 3}]')
    try: assert [r["a"] for r in records(path)] == [1, 2]
    except MmrecError as e: assert depth > 800 and "not valid JSON" in str(e)


# ---- shapes of JSON

SHAPES = {
    "array": (json.dumps(ROWS), ""), "array in lines": ("[\n" + ",\n".join(map(json.dumps, ROWS)) + "\n]\n", "commas or brackets"),
    "array with commas first": ("[" + "\n,".join(map(json.dumps, ROWS)) + "]", "commas or brackets"), "commas at the ends": (",\n".join(map(json.dumps, ROWS)), "commas or brackets"),
    "indented array": (json.dumps(ROWS, indent=2), ""), "one after the other": ("\n".join(json.dumps(r, indent=4) for r in ROWS), "records written over several lines"),
    "arrays one after the other": (json.dumps(ROWS[:5], indent=1) + "\n" + json.dumps(ROWS[5:], indent=1), "records written over several lines"),
    "wrapper": (json.dumps(dict(total=12, page=None, reviews=ROWS)), "records under the key 'reviews'"), "any wrapper": (json.dumps({"x": ROWS, "n": 1}), "records under the key 'x'"),
    "indented wrapper": (json.dumps(dict(reviews=ROWS), indent=1), "records under the key 'reviews'"), "two levels": (json.dumps(dict(status="ok", response=dict(count=12, items=ROWS))), "'response.items'"),
    "columns": (pd.DataFrame(ROWS).to_json(), "pandas' JSON by column"), "split": (pd.DataFrame(ROWS).to_json(orient="split"), "split"),
    "index": (pd.DataFrame(ROWS).to_json(orient="index"), "a key for each record"), "table": (pd.DataFrame(ROWS).to_json(orient="table", index=False), "'data'"),
    "lists": (json.dumps(pd.DataFrame(ROWS).to_dict("list")), "a list for each column"), "rows under names": (json.dumps([list(ROWS[0]), *[list(r.values()) for r in ROWS]]), "the first names the columns"),
    "a mark": ("\ufeff" + json.dumps(ROWS), ""),
}

@pytest.mark.parametrize("name", SHAPES)
def test_shapes_of_json(tmp_path, name):
    content, says = SHAPES[name]
    for path in (put(tmp_path/"r.json", content), put(tmp_path/"r.json.gz", gzip.compress(content.encode()))):
        assert records(path) == ROWS and sniff(path).columns == tuple(ROWS[0]) and says in said(path) and bool(says) == bool(said(path))


def test_values_and_labels(tmp_path):
    path = put(tmp_path/"v.json", pd.DataFrame(ROWS).to_json(orient="values"))
    assert [list(r.values()) for r in records(path)] == [list(r.values()) for r in ROWS] and sniff(path).columns == ("0", "1", "2", "3")
    path = put(tmp_path/"i.json", json.dumps({f"B00{i}": dict(title=f"t{i}", price=i) for i in range(4)}))
    assert records(path)[2] == dict(index="B002", title="t2", price=2)
    path = put(tmp_path/"c.json", pd.DataFrame(ROWS, index=[f"r{i}" for i in range(12)]).to_json())
    assert [r["user"] for r in records(path)] == [r["user"] for r in ROWS]


@pytest.mark.parametrize("record", [dict(item="a", images=[dict(large="x", thumb="y")]*3, title="t", price=3, store="s"), dict(rating=3, author=dict(id="7", name="n"), item="x"), dict(a=dict(b=1))])
def test_a_single_record_is_one(tmp_path, record):
    assert records(put(tmp_path/"r.json", json.dumps(record))) == [record]


def test_mongoexport(tmp_path):
    one = dict(_id={"$oid": "5f0"}, user={"$numberLong": "101463350189962023770"}, item="A", rating={"$numberInt": "4"}, price={"$numberDouble": "2.5"}, cost={"$numberDecimal": "2.50"},
               time={"$date": {"$numberLong": "1577836800000"}}, seen={"$date": "2020-01-01T00:00:00Z"}, old={"$date": 7}, tags=[{"$numberInt": "1"}], none={"$minKey": 1})
    want = dict(_id="5f0", user="101463350189962023770", item="A", rating=4, price=2.5, cost=2.5, time=1577836800000, seen="2020-01-01T00:00:00Z", old=7, tags=[1], none=1)
    for content in (json.dumps(one) + "\n", json.dumps([one, one]), json.dumps(one, indent=1) + "\n" + json.dumps(one, indent=1)):
        path = put(tmp_path/"r.json", content)
        assert records(path)[0] == want and "MongoDB's extended JSON" in said(path)
    broken = put(tmp_path/"b.json", b'{"_id": {"$oid": "1"}, "n": {"$numberInt": "x"}, "m": {"$numberLong": [1]}, "d": {"$numberDouble": "NaN"}}\n')
    assert records(broken)[0]["n"] == "x"


def test_keys_within_records_and_keys_twice(tmp_path):
    path = put(tmp_path/"r.jsonl", '{"author": {"steamid": "7", "games": {"n": 3}}, "rating": 1, "rating": 4}\n')
    assert sniff(path).columns == ("author", "rating", "author.steamid", "author.games", "author.games.n") and "the key 'rating' comes twice" in said(path)
    pd.DataFrame(dict(who=[dict(id="x", n=1)], rating=[1])).to_parquet(tmp_path/"r.parquet")
    assert sniff(tmp_path/"r.parquet").columns == ("who", "rating", "who.id", "who.n")


def test_a_broken_record_among_records_over_several_lines(tmp_path):
    path = put(tmp_path/"r.json", "\n".join([json.dumps(ROWS[0], indent=1), '{\n "user": ,\n}', json.dumps(ROWS[1], indent=1)]))
    assert records(path) == ROWS[:2] and reasons(path) == {7: "malformed line"}


# ---- Parquet

def test_parquet_types(tmp_path):
    table = pa.table({
        "id": pa.array([decimal.Decimal("12345678901234567890123456789"), decimal.Decimal(7)], pa.decimal128(38, 0)), "rating": pa.array([decimal.Decimal("4.5"), None], pa.decimal128(3, 1)),
        "fine": pa.array([decimal.Decimal("1.2345678901234567890"), None], pa.decimal128(30, 19)), "day": pa.array([datetime.date(2021, 1, 2), None]), "clock": pa.array([datetime.time(7, 30), None]),
        "raw": pa.array([b"A", b"caf\xc3\xa9"], pa.binary()), "picture": pa.array([b"\x89PNG\0\0", None], pa.large_binary()), "long": pa.array(["x", "y"], pa.large_string()),
        "kind": pa.array(["p", "q"]).dictionary_encode(), "who": pa.array([{"id": 2**63, "n": [1, 2]}, None], pa.struct([("id", pa.uint64()), ("n", pa.list_(pa.int8()))])),
        "map": pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int32())), "float": pa.array([7.0, float("inf")]), "half": pa.array(np.array([1.5, 2], np.float16)), "span": pa.array([datetime.timedelta(1), None])})
    pq.write_table(table, tmp_path/"r.parquet")
    one, two = records(tmp_path/"r.parquet")
    assert one == dict(id="12345678901234567890123456789", rating=4.5, fine="1.2345678901234567890", day=datetime.date(2021, 1, 2), clock="07:30:00", raw="A", picture=None, long="x", kind="p",
                       who=dict(id=2**63, n=[1, 2]), map=dict(a=1), float=7.0, half=1.5, span="1 day, 0:00:00")
    assert two["id"] == 7 and two["raw"] == "café" and np.isnan(two["float"]) and two["who"] is None


def test_parquet_dates_beyond_bounds_and_names_twice(tmp_path):
    far = pa.array([10**13, 0, None], pa.int64())
    pq.write_table(pa.table([far.cast(pa.timestamp("s")), pa.array([2**62, 0, None], pa.int64()).cast(pa.timestamp("us")), pa.array([2**31 - 1, 0, None], pa.int32()).cast(pa.date32()), pa.array(["a", "b", "c"])], names=["t", "u", "d", "t"]), tmp_path/"r.parquet")
    got = records(tmp_path/"r.parquet")
    assert [r["t (2)"] for r in got] == ["a", "b", "c"] and got[0]["t"] is None and got[0]["d"] is None and got[1]["d"] == datetime.date(1970, 1, 1) and "two columns are called 't'" in said(tmp_path/"r.parquet")
    old = pa.table({"t": pa.array([datetime.datetime(1500, 1, 1), datetime.datetime(9000, 1, 1)], pa.timestamp("us"))})
    pq.write_table(old, tmp_path/"i.parquet", use_deprecated_int96_timestamps=True)
    assert [r["t"].year for r in records(tmp_path/"i.parquet")] == [1500, 9000]


@pytest.mark.parametrize("compression", ["snappy", "none", "gzip", "zstd"])
def test_damaged_parquet(tmp_path, compression):
    rng = random.Random(1)
    pd.DataFrame(ROWS*50).to_parquet(tmp_path/"g.parquet", compression=None if compression == "none" else compression)
    good = (tmp_path/"g.parquet").read_bytes()
    for k in range(60):
        raw = bytearray(good)
        if k % 3 == 0: raw = raw[:rng.randrange(len(raw))] + (b"PAR1" if k % 2 else b"")
        else:
            for _ in range(8): raw[rng.randrange(4, len(raw))] = rng.randrange(256)
        path = put(tmp_path/"r.parquet", bytes(raw) or b"PAR1")
        try: list(read_records(path))
        except MmrecError as e: assert "r.parquet" in str(e) and "\n" not in str(e) and e.fix


# ---- packed files and archives

@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_packed_files_cut_off_or_damaged(tmp_path, pack):
    rng, good = random.Random(2), pack(CSV.encode()*2000)
    assert len(records(put(tmp_path/"r.csv.x", good))) > 20_000
    cut = [good[:len(good)*k//7] for k in range(1, 7)]
    spoiled = []
    for _ in range(10):
        raw = bytearray(good); at = rng.randrange(30, len(raw) - 30)
        raw[at:at + 8] = rng.randbytes(8); spoiled.append(bytes(raw))
    for raw in cut + spoiled:
        with pytest.raises(MmrecError, match="r.csv.x.*(cut off or damaged|empty)"): list(read_records(put(tmp_path/"r.csv.x", raw)))


def tar(mode):
    with io.BytesIO() as out:
        with tarfile.open(fileobj=out, mode=mode) as archive:
            for name in ("reviews.csv", "items.csv"):
                info = tarfile.TarInfo(name); info.size = len(CSV)
                archive.addfile(info, io.BytesIO(CSV.encode()))
        return out.getvalue()

@pytest.mark.parametrize("name,mode", [("r.tar", "w"), ("r.tar.gz", "w:gz"), ("r.tgz", "w:gz"), ("r.tar.bz2", "w:bz2"), ("reviews", "w:xz")])
def test_a_tar_archive_is_refused_by_name(tmp_path, name, mode):
    with pytest.raises(MmrecError, match=rf"{name}: a tar archive with reviews.csv, items.csv in it.*tar xf {name}"): sniff(put(tmp_path/name, tar(mode)))


def test_zip_archives_and_spreadsheets(tmp_path):
    for members, says in ((["r.csv"], "a zip archive with r.csv in it"), (["[Content_Types].xml", "xl/workbook.xml"], "Excel file")):
        with zipfile.ZipFile(tmp_path/"x.zip", "w") as archive:
            for m in members: archive.writestr(m, CSV)
        with pytest.raises(MmrecError, match=says): sniff(tmp_path/"x.zip")
    with pytest.raises(MmrecError, match="zip archive"): sniff(put(tmp_path/"y.zip", b"PK\x03\x04" + b"x"*99))


@pytest.mark.parametrize("start,pattern", [(b"", b"\n"), (b'{"a": 1}\n', b"\n"), (b"user,item\nu,a\n", b" \n\r\n"), (b'{"a": 1}\n', b"\0"), (b"user,item\nu,a\n", b"\0")])
def test_endless_blanks_are_refused_soon(tmp_path, start, pattern):
    path = tmp_path/"bomb.gz"
    with gzip.open(path, "wb", compresslevel=6) as f:
        f.write(start)
        for _ in range(75): f.write(pattern*((1 << 22)//len(pattern)))
    begin = time.time()
    with pytest.raises(MmrecError, match="blank lines, or one line|empty|binary"): list(read_records(path))
    assert time.time() - begin < 60


def test_some_blank_lines_are_none_of_that(tmp_path):
    path = put(tmp_path/"r.jsonl", b'{"a": 1}\n' + b"\n"*20_000_000 + b'{"a": 2}\n')
    assert list(read_records(path)) == [(1, dict(a=1)), (20_000_002, dict(a=2))]


# ---- several files

def test_several_files_are_one(tmp_path):
    lines = CSV.splitlines(True)
    for k in range(12): put(tmp_path/f"part-{k}.csv", lines[0] + lines[k + 1])
    (tmp_path/"_SUCCESS").touch(); put(tmp_path/".part-0.csv.crc", b"x"); put(tmp_path/"README.md", "x"); put(tmp_path/"schema.json", "{}")
    for path in (tmp_path, str(tmp_path), f"{tmp_path}/part-*.csv", [tmp_path/f"part-{k}.csv" for k in range(12)]):
        source = sniff(path)
        assert records(path) == AS_TEXT and len(source.parts) == 12 and "12 files are read as one: part-0.csv, part-1.csv, part-2.csv, part-3.csv, … (12)" in said(path)
        assert [line for line, _ in rows_of(source)] == list(range(2, 26, 2)) and source.place(8) == "part-3.csv:2" and source.place(24) == "part-11.csv:2"
    assert sniff(tmp_path).path == tmp_path and sniff(tmp_path/"part-3.csv").place(2) == "part-3.csv:2"
    shares = [batch.share for batch in batches_of(sniff(tmp_path)) if batch.share is not None]
    assert shares == sorted(shares)


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet", "csv.gz"])
def test_shards_of_every_kind(tmp_path, kind):
    frames = [pd.DataFrame(ROWS[:5]), pd.DataFrame(ROWS[5:]).assign(more=1)[["more", *ROWS[0]]]]
    for k, frame in enumerate(frames):
        path = tmp_path/f"part-{k}.{kind}"
        dict(jsonl=lambda: put(path, frame.to_json(orient="records", lines=True) + "\n\n"), json=lambda: frame.to_json(path, orient="records"), parquet=lambda: frame.to_parquet(path), **{"csv.gz": lambda: frame.to_csv(path, index=False)})[kind]()
    source = sniff(tmp_path)
    got = [{c: str(r.get(c) or "") for c in source.columns} for r in records(tmp_path)]
    assert got == [{**r, "more": ""} for r in AS_TEXT[:5]] + [{**r, "more": "1"} for r in AS_TEXT[5:]] and "has no more: read as empty there" in said(tmp_path)
    lines = [line for line, _ in rows_of(source)]
    assert lines == sorted(set(lines)) and source.place(lines[-1]).startswith(f"part-1.{kind}:")


def test_headings_in_the_first_part_alone_or_in_none(tmp_path):
    lines = CSV.splitlines(True)
    put(tmp_path/"x_1.csv", "".join(lines[:7])); put(tmp_path/"x_2.csv", "".join(lines[7:]))
    assert records(tmp_path) == AS_TEXT and "x_2.csv has no line of headings" in said(tmp_path)
    put(tmp_path/"x_1.csv", "".join(lines[1:7]))
    assert len(records(tmp_path)) == 12 and sniff(tmp_path).columns == ("0", "1", "2", "3")


def test_mended_rows_of_a_part_in_another_order(tmp_path):
    put(tmp_path/"a.csv", CSV); put(tmp_path/"b.csv", 'text,user,item,rating\n"open,u,A,3\n"x, y",v,B,4\n')
    rows = [row for _, row in rows_of(sniff([tmp_path/"a.csv", tmp_path/"b.csv"]))]
    assert rows[-2:] == [["u", "A", "3", '"open'], ["v", "B", "4", "x, y"]] and rows[-2].note == "a stray quote"


def test_parts_that_do_not_belong_together(tmp_path):
    put(tmp_path/"a.csv", CSV); put(tmp_path/"b.csv", "sku,colour,price\n1,red,2\n"); put(tmp_path/"c.jsonl", '{"user": 1}\n')
    with pytest.raises(MmrecError, match="b.csv: has other columns than a.csv"): sniff([tmp_path/"a.csv", tmp_path/"b.csv"])
    with pytest.raises(MmrecError, match="c.jsonl"): sniff([tmp_path/"a.csv", tmp_path/"c.jsonl"])
    with pytest.raises(MmrecError, match="several kinds"): sniff(tmp_path)


@pytest.mark.parametrize("path", ["https://h.example/r.csv", "s3://bucket/r.parquet", "hf://datasets/x/y", "https:/h.example/r.csv"])
def test_an_address_is_no_file(path):
    with pytest.raises(MmrecError, match="an address, not a file.*download it first"): sniff(path)


def test_nothing_there(tmp_path):
    with pytest.raises(MmrecError, match="holds no data file"): sniff(tmp_path)
    with pytest.raises(MmrecError, match="no file has such a name"): sniff(f"{tmp_path}/*.csv")
    with pytest.raises(MmrecError, match="no file is named"): sniff([])
    put(tmp_path/"[x].csv", CSV)
    assert records(tmp_path/"[x].csv") == AS_TEXT


# ---- the same whenever it is read

def test_reading_twice_is_the_same(tmp_path):
    path = put(tmp_path/"r.csv", CSV + 'u,A,4,"open\n' + 'v,B,2,"x, y"\n')
    assert sniff(path) == sniff(path) and list(rows_of(sniff(path))) == list(rows_of(sniff(path)))


# ---- more of the same kinds

MORE = {
    "percent": ("% bip weighted\n% 3 2 2\n1 2 5\n2 2 4\n3 1 1\n", ("0", "1", "2"), 3, "lines that begin with % are comments: 2 left out"),
    "RecBole with lists": ("item_id:token\tclass:token_seq\tvec:float_seq\n1\ta b\t.1 .2\n2\tb\t.3 .4\n", ("item_id", "class", "vec"), 2, "types dropped"),
    "R in tabs": ("user\titem\trating\n1\tu\ta\t5\n2\tv\tb\t4\n", ("", "user", "item", "rating"), 2, "row names (R)"),
    "single quoted column": ('user,item,text\n1,2,"a, b"\n3,4,"c"\n', ("user", "item", "text"), 2, ""),
    "sep in capitals": ("SEP=,\nuser,item,rating\nu,a,5\n", ("user", "item", "rating"), 1, "names the delimiter"),
}

@pytest.mark.parametrize("name", MORE)
def test_more_headings(tmp_path, name):
    text, columns, n, says = MORE[name]
    path = put(tmp_path/"t.txt", text)
    assert sniff(path).columns == columns and len(records(path)) == n and reasons(path) == {} and says in said(path) and bool(says) == bool(said(path))


def test_more_shapes(tmp_path):
    path = put(tmp_path/"l.jsonl", '["user", "item", "rating"]\n' + "".join(json.dumps([f"u{i}", "a", i]) + "\n" for i in range(5)))
    assert records(path)[4] == dict(user="u4", item="a", rating=4) and len(records(path)) == 5
    path = put(tmp_path/"p.json", str([dict(user="it's", rating=5, ok=None), dict(user="v", rating=1, ok=True)]))
    assert records(path) == [dict(user="it's", rating=5, ok=None), dict(user="v", rating=1, ok=True)]
    assert records(put(tmp_path/"e.json", json.dumps(dict(took=3, hits=dict(total=2, hits=[dict(_id=str(i), _source=dict(user="u", rating=i)) for i in range(2)])))))[1]["_source"]["rating"] == 1


def test_keys_of_bytes_in_parquet(tmp_path):
    keys = [bytes([i])*15 + b"\xff" for i in range(3)]
    pq.write_table(pa.table({"id": pa.array(keys, pa.binary(16))}), tmp_path/"r.parquet")
    assert [r["id"] for r in records(tmp_path/"r.parquet")] == [k.hex() for k in keys]


def test_folders_within_a_folder(tmp_path):
    (tmp_path/"data").mkdir(); (tmp_path/".cache").mkdir(); put(tmp_path/".cache"/"x.csv", "a,b\n1,2\n"); put(tmp_path/"README.md", "x")
    lines = CSV.splitlines(True)
    put(tmp_path/"data"/"train-0.csv", "".join(lines[:7])); put(tmp_path/"data"/"train-1.csv", lines[0] + "".join(lines[7:]))
    assert records(tmp_path) == AS_TEXT
    (tmp_path/"data"/"rating=5").mkdir(); put(tmp_path/"data"/"rating=5"/"x.csv", CSV)
    with pytest.raises(MmrecError, match="hold a column .rating=5."): sniff(tmp_path)


def test_what_takes_long_is_said(tmp_path):
    told, path = [], tmp_path/"r.csv"
    with open(path, "w") as f:
        f.write("user,item,rating,text\n")
        for _ in range(11): f.write("u,a,5,some words of a review that is neither long nor short\n"*180_000)
    assert sniff(path, told.append).columns == ("user", "item", "rating", "text") and told[0].startswith("looks through r.csv (1")


# ---- a small fuzzer: mutants of good files end in records or in one clear error

def mutants(good, n, rng):
    signs = [b'"', b"\n", b"\0", b"{", b"}", b"[", b"]", b",", b"\r", b"\\", b"#", b"\xff", b"'", b'"\n', b"1e999", b"9"*30, b"::", b"\t", b"$", b"[[[[", b"\xe2\x80\xa8", b"\xef\xbb\xbf"]
    for _ in range(n):
        raw = bytearray(good)
        for _ in range(rng.choice([1, 1, 2, 3, 8])):
            at = rng.randrange(len(raw) + 1)
            way = rng.randrange(4)
            if way == 0: raw[at:at + 1] = bytes([rng.randrange(256)])
            elif way == 1: raw[at:at] = rng.choice(signs)
            elif way == 2: del raw[at:at + rng.choice([1, 5, 40])]
            else: raw[at:at] = raw[:at][-rng.randrange(1, 30):]
        yield bytes(raw)


@pytest.mark.parametrize("name", ["csv", "tsv", "cr", "colons", "jsonl", "array", "pretty", "wrapper", "mongo", "python", "utf-16", "gbk", "gz", "bz2", "parquet"])
def test_mutants(tmp_path, name):
    frame = pd.DataFrame(ROWS[:6])
    with io.BytesIO() as out: frame.to_parquet(out); parquet = out.getvalue()
    table = frame.to_csv(index=False)
    good = dict(csv=frame.assign(text='a "word", so').to_csv(index=False), tsv=frame.to_csv(index=False, sep="\t"), cr=table.replace("\n", "\r"), colons="1::2::5\n2::3::4\n", jsonl=frame.to_json(orient="records", lines=True),
                array=json.dumps(ROWS), pretty=SHAPES["one after the other"][0], wrapper=SHAPES["wrapper"][0], mongo='{"_id": {"$oid": "5"}, "n": {"$numberLong": "7"}, "t": {"$date": {"$numberLong": "1"}}}\n'*3,
                python="".join(f"{r!r}\n" for r in ROWS), gz=gzip.compress(table.encode()), bz2=bz2.compress(table.encode()), parquet=parquet,
                **{"utf-16": table.encode("utf-16"), "gbk": "user,item,text\nu,a,很暖和的围巾\nv,b,质量不错\n".encode("gbk")})[name]
    for raw in mutants(good if isinstance(good, bytes) else good.encode(), 150, random.Random(name)):
        path = put(tmp_path/"x", raw)
        try: source = sniff(path); rows = list(rows_of(source))
        except MmrecError as e: assert "\n" not in str(e); continue
        assert len(set(source.columns)) == len(source.columns) and [line for line, _ in rows] == sorted(line for line, _ in rows)
        for _, row in rows:
            try: record = parse_row(source, row)
            except ValueError as e: assert str(e); continue
            assert all(isinstance(k, str) for k in record) and str(record).encode("utf8")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16", "utf-32"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_two_bytes_a_letter_with_and_without_a_mark(tmp_path, encoding, kind):
    "They are read, and the card says so."
    rows = [dict(user=f"u{k}", item=f"i{k % 7}", rating=str(k % 5 + 1), text=f"schön 品 {k}") for k in range(50)]
    text = "\n".join(json.dumps(r, ensure_ascii=False) for r in rows) if kind == "jsonl" else pd.DataFrame(rows).to_csv(index=False)
    (tmp_path/"r").write_bytes(text.encode(encoding))
    source = sniff(tmp_path/"r")
    assert records(tmp_path/"r") == rows
    assert source.recognised[0] == f"encoding {encoding}"


def test_a_first_name_in_brackets_is_a_name(tmp_path):
    "[user],[item] of a table, not a list of JSON."
    (tmp_path/"r.csv").write_text("[user],[item],[rating]\n" + "".join(f"u{k},i{k % 7},{k % 5 + 1}\n" for k in range(50)))
    (tmp_path/"d.csv").write_text("".join(f"[deleted],i{k % 7},{k % 5 + 1}\n" for k in range(50)))
    assert sniff(tmp_path/"r.csv").columns == ("[user]", "[item]", "[rating]")
    assert sniff(tmp_path/"d.csv").kind == "table" and len(list(rows_of(sniff(tmp_path/"d.csv")))) == 50


def test_a_backslash_that_protects_far_down_the_file(tmp_path):
    "The first thousand lines do not decide alone whether a backslash protects a quote."
    say = lambda k: f'a \\"fine\\" hat, {k}' if k > 3000 and k % 3 == 0 else f"a hat, {k}"
    (tmp_path/"r.csv").write_text("user,item,rating,text\n" + "".join(f'u{k},i{k % 7},{k % 5 + 1},"{say(k)}"\n' for k in range(5000)))
    assert [r["text"] for r in records(tmp_path/"r.csv")] == [say(k).replace("\\", "") for k in range(5000)]
