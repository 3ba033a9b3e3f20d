"Loading: files of every kind, and every way in which they can be broken."
import gzip, json
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from mmrec.core import MmrecError
from mmrec.data.tables import load_dataset
from mmrec.data.fields import best_image_url, parse_times, plain_text
from mmrec.data.ratings import RatingScale, STARS
from mmrec.data.reading import read_lines, read_records, sniff
from mmrec.data.sampling import draw_rows

T0 = 1_577_836_800_000 # 2020-01-01 in milliseconds


def review(**changes):
    "A well-formed review of the 2023 files."
    return dict(rating=5.0, title="Good", text="It is good.", images=[], asin="B1", parent_asin="P1", user_id="U1",
                timestamp=T0, helpful_vote=0, verified_purchase=True) | changes


def meta(**changes):
    "A well-formed item of the 2023 files."
    return dict(main_category="AMAZON FASHION", title="Scarf", average_rating=4.9, rating_number=9, features=["Wool"], description=[],
                price=1.5, images=[dict(thumb="https://h/t.jpg", large="https://h/l.jpg", variant="MAIN", hi_res=None)], videos=[],
                store="Knit", categories=[], details={}, parent_asin="P1", bought_together=None) | changes


def lines(path, *records):
    "Write records (dicts, or bytes as they are) one a line."
    path.write_bytes(b"".join((r if isinstance(r, bytes) else json.dumps(r).encode()) + b"\n" for r in records))
    return path


def rules(data, table="reviews"):
    "The log of a table as {rule: (rows, action, examples)}."
    log = data.log[data.log.table == table]
    return {r.rule: (r.rows, r.action, r.examples) for r in log.itertuples()}


@pytest.fixture
def amazon(tmp_path):
    "Write reviews in the 2023 format and load them, after one good review in line 1."
    def load(*records, **options):
        path = lines(tmp_path/"Amazon_Fashion.jsonl", review(), *records)
        return load_dataset(path, lines(tmp_path/"meta_Amazon_Fashion.jsonl", meta(), meta(parent_asin="P2", title="Hat")), **options)
    return load


# ---- the formats of Amazon

def test_raw_2023(amazon):
    data = amazon(review(user_id="U2", parent_asin="P2", asin="B9", rating=1.0, text="Bad &amp; <br/>sad"))
    assert data.source["format"] == "amazon-2023" and data.scale == STARS
    assert data.reviews.text.tolist() == ["It is good.", "Bad & sad"] and data.reviews.label.tolist() == [4, 0]
    assert data.reviews.time[0] == pd.Timestamp("2020-01-01", tz="UTC") and str(data.reviews.time.dtype) == "datetime64[ms, UTC]"
    assert data.items.image_url.tolist() == ["https://h/l.jpg"]*2 and data.items.text[0] == "Scarf. Wool"
    assert data.rows().item_title.tolist() == ["Scarf", "Hat"]
    assert not any("rating" in c for c in data.items.columns)
    assert data.has("text") and data.has("image") and data.has("user") and not data.made_up


def test_hub_form_2023(tmp_path):
    hub = meta(images=dict(hi_res=[None, "https://h/2h.jpg"], large=["https://h/1l.jpg", "https://h/2l.jpg"], thumb=["a", "b"], variant=["MAIN", "PT01"]), details='{"a": 1}', price="None")
    data = load_dataset(lines(tmp_path/"r.jsonl", review()), lines(tmp_path/"m.jsonl", hub))
    assert data.items.image_url[0] == "https://h/1l.jpg" and np.isnan(data.items.price[0])


def test_2018_and_2014(tmp_path):
    old = dict(overall=4.0, verified=True, reviewTime="09 4, 2015", reviewerID="A", asin="B", reviewText="Fine", summary="Ok", unixReviewTime=1441324800, vote="1,234")
    item = dict(asin="B", title="Hat", brand="Knit", price="$12.99 - $20.00", imageURLHighRes=[], imUrl="https://h/i.jpg", also_buy=[], description=["Warm"], feature=["Wool"])
    data = load_dataset(lines(tmp_path/"r.json", old), lines(tmp_path/"m.json", item))
    assert data.source["format"] == "amazon-2018" and data.reviews.helpful[0] == 1234
    assert data.reviews.time[0] == pd.Timestamp("2015-09-04", tz="UTC") and data.items.price[0] == 12.99
    assert data.items.image_url[0] == "https://h/i.jpg" and data.items.text[0] == "Hat. Wool. Warm"
    python = [repr(dict(old, helpful=[2, 3], reviewText="It's")).encode(), b"__import__('os').abort()"]
    data = load_dataset(lines(tmp_path/"r14.json", *python), lines(tmp_path/"m14.json", repr(item).encode()))
    assert data.source["format"] == "amazon-2014" and data.reviews.text[0] == "It's"
    assert rules(data)["malformed line"] == (1, "removed", "line 2")


# ---- cleaning

BAD_LINES = {
    "malformed line": [b'{"rating": 5.0, "title": ', b"not json", b'{"a": 1}{"b": 2}'],
    "not a record": [b"[1, 2]", b'"text"', b"7", b"null"],
    "no item": [review(parent_asin=""), review(parent_asin=None), review(parent_asin=["P1"]), review(parent_asin={})],
    "no rating": [review(rating=None), review(rating=""), review(rating=[5]), review(rating={"a": 1})],
    "rating outside 1-5": [review(rating=0.0), review(rating=5.5), review(rating=-1), review(rating=1e300)],
    "rating is not a number": [review(rating="great"), review(rating=True)],
    "empty text": [review(text=""), review(text=" \n "), review(text=None), review(text="<br />"), review(text={"a": 1})],
    "exact duplicate": [review(), review(asin="B2")],
}

@pytest.mark.parametrize("rule,record", [(rule, r) for rule, rs in BAD_LINES.items() for r in rs])
def test_removed_rows_are_counted_with_their_line(amazon, rule, record):
    data = amazon(record, review(user_id="U3"))
    assert len(data.reviews) == 2 and rules(data)[rule][:3] == (1, "removed", "line 2")


@pytest.mark.parametrize("changes", [dict(timestamp=0), dict(timestamp=4_102_444_800_000), dict(timestamp="soon"), dict(timestamp=[1]), dict(timestamp=-5), dict(timestamp=1e300), dict(timestamp=True)])
def test_unbelievable_time_becomes_missing(amazon, changes):
    data = amazon(review(user_id="U2", **changes))
    assert data.reviews.time.isna().tolist() == [False, True]
    assert rules(data)["time not readable, or not in 1990-2049"][:2] == (1, "mended")


def test_missing_time_is_no_fault(amazon):
    record = review(user_id="U2"); del record["timestamp"]
    assert len(amazon(record).log) == 0


def test_mended_rows(amazon):
    utf8 = json.dumps(review(user_id="U2", text="caf@")).encode().replace(b"@", b"\xe9")
    data = amazon(utf8, json.dumps(review(user_id="U3")).encode().replace(b"It", b"\0It"), review(user_id="U4", text="a\0b"), review(user_id="U5", rating="4"),
                  review(user_id="U6", text=["One", "two."]), review(user_id="U7", title="&lt;3"), b'{"rating": NaN, "parent_asin": "P1"}', review(user_id="U8", text="\ud800x"))
    assert data.reviews.text.tolist()[1:4] == ["caf", "It is good.", "ab"] and data.reviews.label.tolist()[4] == 3
    found = rules(data)
    assert found["unreadable bytes"][:2] == (4, "mended") and found["a rating written as text"] == (1, "mended", "line 5")
    assert found["a list in place of text"][2] == "line 6" and found["HTML entities or tags"][2] == "line 7" and found["no rating"][2] == "line 8"
    data.reviews.text.str.encode("utf8")


def test_record_split_over_two_lines(amazon):
    whole = json.dumps(review(user_id="U2")).encode()
    assert rules(amazon(whole[:40] + b"\n" + whole[40:]))["malformed line"] == (2, "removed", "line 2, 3")


def test_line_of_50_mb(amazon):
    data = amazon(json.dumps(review(user_id="U2", text="x"*50_000_000)).encode(), review(user_id="U3"))
    assert len(data.reviews) == 2 and rules(data)["line over 10 MB"] == (1, "removed", "line 2")


def test_deep_nesting_and_huge_numbers(amazon):
    data = amazon(b"["*100_000, b'{"rating": 1' + b"0"*5000 + b', "parent_asin": "P1"}', b'{"a":'*5000 + b"1" + b"}"*5000)
    assert len(data.reviews) == 1 and sum(n for n, action, _ in rules(data).values() if action == "removed") == 3


def test_item_without_metadata_is_kept(amazon):
    data = amazon(review(parent_asin="P3"))
    assert data.items.item.tolist() == ["P1", "P3"] and data.items.title.tolist() == ["Scarf", ""]
    assert rules(data)["item without metadata"] == (1, "kept", "line 2")


def test_broken_items_file(tmp_path):
    weird = meta(parent_asin="P2", title=["a", "b"], features="one", images="x", price={"a": 1}, store=7)
    items = lines(tmp_path/"m.jsonl", meta(), b'{"parent_asin": "P2", "title": ', b"[]", weird, meta(title="Again"), meta(parent_asin="P9", title=None))
    data = load_dataset(lines(tmp_path/"r.jsonl", review(), review(parent_asin="P2")), items)
    assert data.items.title.tolist() == ["Scarf", "a. b"] and data.items.store.tolist() == ["Knit", "7"]
    found = rules(data, "items")
    assert found["malformed line"][2] == "line 2" and found["not a record"][2] == "line 3" and found["item listed before"][2] == "line 5"


def test_same_words_of_strangers_are_no_duplicates(tmp_path):
    path = tmp_path/"r.csv"; path.write_text("item,rating\nA,5\nA,5\nB,1\n")
    assert len(load_dataset(path).reviews) == 3


def test_keep_empty_text(amazon):
    assert len(amazon(review(user_id="U2", text=""), keep_empty_text=True).reviews) == 2


# ---- sampling

def test_uniform_is_seeded_and_in_order(amazon):
    many = [review(user_id=f"U{i}") for i in range(2, 500)]
    one, two, other = (amazon(*many, sample=50, seed=s).reviews for s in (0, 0, 1))
    assert one.equals(two) and len(one) == 50 and one.line.is_monotonic_increasing and set(one.line) != set(other.line)
    assert len(amazon(*many, sample=None).reviews) == len(amazon(*many, how="all").reviews) == 499


def test_head_joins_the_heads_of_both_files(amazon):
    data = amazon(review(user_id="U2", parent_asin="P2"), review(user_id="U3"), how="head", sample=1)
    assert data.reviews.user.tolist() == ["U1"] and data.source["read"] == dict(reviews=1, items=1)
    data = amazon(review(user_id="U2", parent_asin="P3"), how="head", sample=2)
    assert len(data.reviews) == 1 and rules(data)["item not in the head of the items file"][0] == 1


def test_kinds_of_file_give_the_same_sample(tmp_path):
    table = pd.DataFrame(dict(user=[f"u{i}" for i in range(300)], item=[f"{i % 7:03d}" for i in range(300)], rating=[1 + i % 5 for i in range(300)]))
    table.to_csv(tmp_path/"a.csv", index=False); table.to_csv(tmp_path/"a.tsv", index=False, sep="\t"); table.to_csv(tmp_path/"a.csv.gz", index=False)
    table.to_csv(tmp_path/"a.csv.xz", index=False); table.to_parquet(tmp_path/"a.parquet"); table.to_json(tmp_path/"a.jsonl", orient="records", lines=True)
    table.to_json(tmp_path/"a.json", orient="records")
    loaded = [load_dataset(f, sample=40).reviews.drop(columns="line") for f in sorted(tmp_path.iterdir())]
    assert len(loaded) == 7 and all(x.equals(loaded[0]) for x in loaded) and loaded[0].item.str.len().eq(3).all()


# ---- tables of all sorts

TABLES = {
    "yelp": ('{"review_id":"x","user_id":"u","business_id":"b","stars":4.0,"useful":3,"funny":0,"cool":0,"text":"Nice","date":"2018-07-07 22:09:11"}\n',
             dict(user="u", item="b", rating=4, text="Nice", time="2018-07-07 22:09:11", helpful=3)),
    "goodreads": ('{"user_id":"u","book_id":"24375664","review_id":"r","rating":5,"review_text":"Mind","date_added":"Fri Aug 25 13:55:02 -0700 2017","n_votes":6}\n',
                  dict(user="u", item="24375664", rating=5, text="Mind", time="2017-08-25 20:55:02")),
    "book-crossing": ('"User-ID";"ISBN";"Book-Rating"\n"276725";"034545104X";"0"\n"276726";"0155061224";"5"\n"9";"0002005018";"10"\n',
                      dict(user="276725", item="034545104X", rating=0, scale="0-10")),
    "steam": ("app_id,recommendationid,review,timestamp_created,voted_up\n10,1,\"Ruined\nmy life.\",1601594787,True\n10,2,Bad,1601594000,False\n",
              dict(item="10", rating=1, text="Ruined my life.", time="2020-10-01 23:26:27", scale="thumbs")),
    "movielens-1m": ("1::0193::5::978300760\n1::661::3::978302109\n", dict(options=dict(columns=dict(user=0, item=1, rating=2, time=3)), user="1", item="0193", rating=5, time="2000-12-31 22:12:40")),
    "movielens-100k": ("196\t242\t3\t881250949\n186\t302\t3\t891717742\n", dict(options=dict(columns=dict(user="0", item="1", rating="2", time="3")), user="196", item="242", rating=3, time="1997-12-04 15:55:49")),
    "amazon-tsv": ('marketplace\tcustomer_id\treview_id\tproduct_id\tproduct_parent\tproduct_title\tstar_rating\thelpful_votes\tverified_purchase\treview_headline\treview_body\treview_date\n'
                   'US\t18778586\tR\tB00\t123\tA "Monopoly" game\t5\t2\tY\t"Great" gift\tFun 7" board\t2015-08-31\n',
                   dict(user="18778586", item="B00", rating=5, title='"Great" gift', text='Fun 7" board', time="2015-08-31", verified=True, helpful=2, item_title='A "Monopoly" game')),
    "clothes": (",Clothing ID,Age,Title,Review Text,Rating,Recommended IND,Class Name\n0,0767,33,,Silky,4,1,Intimates\n1,1080,34,,\"Love, it\",5,1,Dresses\n", dict(item="0767", rating=4, text="Silky")),
    "bom and crlf": ("\ufeffuser,item,rating\r\nu,007,3\r\nv,008,4\r\n", dict(user="u", item="007", rating=3)),
    "commas for points": ("user;item;rating\nu;1;4,5\nv;2;3,0\n", dict(user="u", item="1", rating=4.5, scale="0.5-5:0.5")),
    "half stars in text": ('{"item": 7, "score": "4.5 out of 5 stars"}\n{"item": 7, "score": "3 out of 5 stars"}\n', dict(item="7", rating=4.5, scale="0.5-5:0.5")),
    "iso, no user": ("product,stars,date,comment\np,2,2021-03-04T05:06:07+02:00,hm\n", dict(item="p", rating=2, time="2021-03-04 03:06:07", text="hm")),
    "day first": ("user,item,rating,date\nu,a,2,01/02/2021\nu,b,2,31/01/2021\n", dict(time="2021-02-01")),
    "beer": ('{"beer/name": "Ale", "beer/beerId": "07", "review/overall": "4/5", "review/text": "Hoppy", "review/profileName": "u", "review/time": "1234817823"}\n',
             dict(item="07", user="u", rating=4, text="Hoppy", time="2009-02-16 20:57:03")),
    "anime, -1 for not rated": ("user_id,anime_id,rating\n1,20,8\n1,24,-1\n", dict(user="1", item="20", rating=8, scale="1-10")),
    "floats that were numbers": ("user_id,item_id,rating\n1.0,20.0,8.0\n", dict(user="1", item="20", rating=8)),
    "words": ("game;user;rating\ng;u;good\nh;u;bad\n", dict(item="g", rating=3, scale="bad<ok<good")),
}

@pytest.mark.parametrize("name", TABLES)
def test_tables_nobody_prepared(tmp_path, name):
    text, want = TABLES[name]
    path = tmp_path/"table.txt"; path.write_bytes(text.encode())
    data = load_dataset(path, **want.pop("options", {}) if "options" in (want := dict(want)) else {})
    row = data.rows().iloc[0]
    if "scale" in want: assert data.scale.spec == want.pop("scale")
    if "time" in want: assert row.time == pd.Timestamp(want.pop("time"), tz="UTC")
    assert {k: row[k] for k in want} == want
    assert data.source["guessed"]


def test_latin_letters_and_backslashes(tmp_path):
    path = tmp_path/"books.csv"
    path.write_bytes('"User";"ISBN";"Rating";"Review"\n"1";"001";"3";"Café \\"Öl\\"; gut"\n"2";"002";"4";"Übel"\n'.encode("latin-1"))
    assert load_dataset(path).reviews.text.tolist() == ['Café "Öl"; gut', "Übel"]


def test_bad_table_rows(tmp_path):
    path = tmp_path/"r.csv"
    path.write_bytes(b'user,item,rating,text\nu,a,5,ok\nu,b,5\nu,c,4,x,y\nv,d,3,fine,\n\nw,e,"2","two\nlines"\nx,f,1,n\0ul\n')
    data = load_dataset(path)
    assert data.reviews.item.tolist() == ["a", "d", "e", "f"] and data.reviews.line.tolist() == [2, 5, 7, 9]
    assert rules(data)["wrong number of cells"] == (2, "removed", "line 3, 4") and data.reviews.text[3] == "nul"


def test_open_quote_swallows_no_row(tmp_path):
    path = tmp_path/"r.csv"
    path.write_bytes(b'user,item,rating,text\nu,a,5,ok\nu,b,5,"open\n' + b"u,c,4,padding padding padding\n"*50_000)
    data = load_dataset(path, sample=None)
    assert len(data.reviews) == 3 and data.reviews.text.tolist()[1] == '"open'


def test_items_with_other_names_pictures_on_disk(tmp_path):
    (tmp_path/"r.csv").write_text("userId,movieId,rating,timestamp\n1,01,4.0,964982703\n1,02,0.5,964982703\n2,03,3,964982703\n")
    (tmp_path/"m.csv").write_text('movieId,title,genres,average_rating\n01,Toy,A|B,4\n02,"Heat, The",C,3\n')
    (tmp_path/"p.csv").write_text("id,overview,poster\n01,A plot.,pics/x.png\n03,Other,pics/none.png\n")
    (tmp_path/"pics").mkdir(); (tmp_path/"pics"/"x.png").write_bytes(b"x"); (tmp_path/"pics"/"02.JPG").write_bytes(b"x")
    data = load_dataset(tmp_path/"r.csv", [tmp_path/"m.csv", tmp_path/"p.csv"])
    assert data.scale.spec == "0.5-5:0.5" and data.items.title.tolist() == ["Toy", "Heat, The", ""]
    assert data.items.text.tolist() == ["Toy. A, B. A plot.", "Heat, The. C", "Other"]
    assert data.items.image_path.map(lambda p: p[-5:]).tolist() == ["x.png", "", ""] and rules(data, "items")["picture file not found"][0] == 1
    data = load_dataset(tmp_path/"r.csv", tmp_path/"m.csv", item_columns=dict(text="title+genres"), images=tmp_path/"pics")
    assert data.items.text.tolist()[:2] == ["Toy. A, B", "Heat, The. C"] and data.items.image_path.map(bool).tolist() == [False, True, False]
    assert not data.has("text") and data.has("item_text") and data.has("image")


def test_one_file_with_everything(tmp_path):
    (tmp_path/"r.csv").write_text("user,item,rating,product_name,image_url,body\nu,a,5,Scarf,https://h/a.jpg,nice\nv,a,1,Scarf,https://h/a.jpg,bad\n")
    data = load_dataset(tmp_path/"r.csv")
    assert data.items.iloc[0][["title", "image_url"]].tolist() == ["Scarf", "https://h/a.jpg"]
    data = load_dataset(tmp_path/"r.csv", columns=dict(text="product_name+body"), item_columns=dict(text="product_name"))
    assert data.reviews.text.tolist() == ["Scarf. nice", "Scarf. bad"] and len(data.log) == 0


def test_key_of_the_same_name(tmp_path):
    (tmp_path/"r.csv").write_text("user,vehicle,rating\nu,a,5\n"); (tmp_path/"m.csv").write_text("id,vehicle,name\n1,a,Car\n")
    assert load_dataset(tmp_path/"r.csv", tmp_path/"m.csv", columns=dict(item="vehicle")).items.title[0] == "Car"


def test_guessed_scale_is_said(tmp_path):
    (tmp_path/"r.csv").write_text("user,item,rating\nu,a,0\nv,a,5\nw,b,3\n")
    data = load_dataset(tmp_path/"r.csv")
    assert any("0 is read as the lowest mark" in g for g in data.source["guessed"]) and data.scale.spec == "0-5"
    data = load_dataset(tmp_path/"r.csv", scale="1-5")
    assert rules(data)["rating outside 1-5"][:2] == (1, "removed")


def test_nested_records_and_parquet(tmp_path):
    pd.DataFrame(dict(user=["a", None], item=[7.0, 8.0], rating=[1, 2], time=pd.to_datetime(["2020-01-01", None]), who=[dict(id="x"), dict(id="y")])).to_parquet(tmp_path/"r.parquet")
    data = load_dataset(tmp_path/"r.parquet")
    assert data.reviews.item.tolist() == ["7", "8"] and data.reviews.user.isna().tolist() == [False, True] and data.reviews.time.notna().tolist() == [True, False]
    assert rules(data)["no user"] == (1, "kept", "line 2")
    assert load_dataset(tmp_path/"r.parquet", columns=dict(user="who.id")).reviews.user.tolist() == ["x", "y"]


# ---- one clear error

def broken(tmp_path, name):
    "A path to a file that cannot be used."
    path, good = tmp_path/"in.jsonl.gz", json.dumps(review()).encode() + b"\n"
    content = {"empty": b"", "blank": b"\n \n", "empty gz": gzip.compress(b""), "torn gz": gzip.compress(good*5000)[:-30], "bad crc": gzip.compress(good*5000)[:-8] + b"\0"*8,
               "binary": bytes(range(256))*500, "zip": b"PK\x03\x04" + b"x"*99, "utf-16": "user,item,rating\n".encode("utf-16"), "one 50 MB line": b"{" + b"x"*50_000_000, "prose": b"It was a dark night\nand rain fell\n",
               "parquet": b"PAR1" + b"\0"*50, "array": b'[{"a": 1}', "pretty json": b'{\n "a": 1\n}\n', "header only": b"user,item,rating\n", "words": b"user,item,rating\nu,a,wow\nv,b,meh\n",
               "amazon words": json.dumps(review(rating="wow")).encode(), "no rating": b"user,item,text\nu,a,b\n", "no item": b'{"stars": 3}\n', "hundred": b"item,rating\n" + b"".join(b"a,%d\n" % i for i in range(100))}
    if name in content: path.write_bytes(content[name])
    return path

ERRORS = {"missing": "check the spelling", "empty": "empty", "blank": "empty", "empty gz": "empty", "torn gz": "cut off or damaged", "bad crc": "cut off or damaged", "binary": "binary", "zip": "zip archive",
          "utf-16": "there is a header, but no row", "one 50 MB line": "one record a line", "prose": "no table and no JSON", "parquet": "damaged Parquet", "array": "not valid JSON", "pretty json": "the columns are 'a'", "header only": "there is a header, but no row",
          "words": "whose order is not known", "amazon words": "rating is not a number", "no rating": "the columns are 'user', 'item', 'text'", "no item": "columns={'item'", "hundred": "too many for classes"}

@pytest.mark.parametrize("name", ERRORS)
def test_one_error_says_what_where_and_what_to_do(tmp_path, name):
    with pytest.raises(MmrecError) as e: load_dataset(broken(tmp_path, name))
    assert ERRORS[name] in str(e.value) and str(tmp_path) in str(e.value) and "\n" not in str(e.value) and len(str(e.value)) < 500 and e.value.fix


@pytest.mark.parametrize("options,says", [(dict(format="amazon"), "no format"), (dict(how="best"), "no way of drawing"), (dict(sample=0), "no sample"), (dict(scale="five"), "not a rating scale"), (dict(columns=dict(rating="stars")), "no column named 'stars'"),
    (dict(columns=dict(stars="rating")), "no field is called"), (dict(format="amazon-2018"), "keeps it in 'overall'"), (dict(item_columns=dict(text="average_rating")), "to be predicted"), (dict(images="/nowhere"), "nowhere"), (dict(scale="6-9"), "no review is left")])
def test_wrong_options(amazon, options, says):
    with pytest.raises(MmrecError) as e: amazon(**options)
    assert says in str(e.value)


def test_files_that_do_not_belong_together(tmp_path):
    with pytest.raises(MmrecError, match="no review's item is among"):
        load_dataset(lines(tmp_path/"r.jsonl", review(parent_asin="X")), lines(tmp_path/"m.jsonl", meta()))


def test_most_ratings_outside_the_stars(amazon):
    with pytest.raises(MmrecError, match="most ratings do not fit"): amazon(*[review(user_id=f"u{i}", rating=9) for i in range(5)])


def test_folder_and_unreadable(tmp_path):
    with pytest.raises(MmrecError, match="folder"): load_dataset(tmp_path)


# ---- fuzz: any bytes, any JSON: a data set or one clear error

@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_any_bytes(tmp_path, content):
    for start in (b"", json.dumps(review()).encode() + b"\n", b"user,item,rating,text,time\nu,a,5,ok,1577836800\n"):
        (tmp_path/"x").write_bytes(start + content)
        try: data = load_dataset(tmp_path/"x")
        except MmrecError: continue
        assert data.reviews.label.between(0, data.scale.n - 1).all()


anything = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20), lambda x: st.lists(x, max_size=3) | st.dictionaries(st.sampled_from(["hi_res", "large", "a"]), x, max_size=3), max_leaves=5)

@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(list(review())), anything), st.dictionaries(st.sampled_from(list(meta())), anything))
def test_any_values(tmp_path, changes, item_changes):
    reviews = lines(tmp_path/"r.jsonl", review(), json.dumps(review(user_id="U2") | changes).encode())
    data = load_dataset(reviews, lines(tmp_path/"m.jsonl", meta(), json.dumps(meta() | item_changes).encode()))
    assert len(data.reviews) >= 1 and len(data.items) >= 1 and data.summary() is not None
    data.rows().to_parquet(tmp_path/"rows.parquet")


@given(anything)
def test_small_readers_never_fail(x):
    assert isinstance(best_image_url(x), str) and isinstance(plain_text(x), str) and len(parse_times([x])[0]) == 1 and STARS.encode([x]).isna().sum() <= 1


# ---- streaming

def test_memory_does_not_grow_with_the_file(tmp_path):
    import tracemalloc
    peaks, record = [], json.dumps(review(text="word "*100)).encode() + b"\n"
    for n in (20_000, 80_000): # both of more than one block
        (tmp_path/"big.jsonl").write_bytes(record*n)
        tracemalloc.start(); draw_rows(sniff(tmp_path/"big.jsonl"), 500); peaks.append(tracemalloc.get_traced_memory()[1]); tracemalloc.stop()
    assert peaks[1] < 1.5*peaks[0]


def test_lines_and_records(tmp_path):
    path = lines(tmp_path/"x.jsonl", dict(a=1), b"junk", dict(a=2))
    assert list(read_records(path)) == [(1, dict(a=1)), (3, dict(a=2))] and [n for n, _ in read_lines(path)] == [1, 2, 3]


# ---- scales

@given(st.integers(-3, 3), st.integers(1, 12), st.sampled_from([1, .5, .25]))
def test_even_scales_survive_the_round_trip(low, n, step):
    scale = RatingScale.parse(f"{low}..{low + n*step:g}:{step:g}")
    assert RatingScale.parse(scale.spec) == scale and scale.encode(scale.values).tolist() == list(range(scale.n))


def test_scale_from_json():
    scale = RatingScale.parse('{"bad": [1, 2], "good": "3..5"}')
    assert scale.encode([1, 2, 3.3, 5, 6, "good"]).fillna(-1).tolist() == [0, 0, 1, 1, -1, 1] and scale.names == ("bad", "good")
    with pytest.raises(MmrecError): RatingScale.parse("a<a")


def test_named_columns_of_items(tmp_path):
    (tmp_path/"r.csv").write_text("user,item,rating\nu,a,5\n"); (tmp_path/"m.csv").write_text("code,what,pic\na,Car,https://h/c.jpg\n")
    data = load_dataset(tmp_path/"r.csv", tmp_path/"m.csv", item_columns=dict(item="code", title="what", image="pic"))
    assert data.items.iloc[0][["title", "image_url"]].tolist() == ["Car", "https://h/c.jpg"]


def test_items_in_parquet_and_columns_that_are_nowhere(tmp_path):
    (tmp_path/"r.csv").write_text("user,item,rating\nu,7,5\n"); (tmp_path/"t.csv").write_text("item,title\n7,Car\n")
    pd.DataFrame(dict(item=[7.0, 8.0], plot=["It goes.", "No"])).to_parquet(tmp_path/"p.parquet")
    data = load_dataset(tmp_path/"r.csv", [tmp_path/"t.csv", tmp_path/"p.parquet"])
    assert data.items.text.tolist() == ["Car. It goes."] and data.source["read"]["items"] == 3
    with pytest.raises(MmrecError, match="no file of items has the columns plit"):
        load_dataset(tmp_path/"r.csv", [tmp_path/"t.csv", tmp_path/"p.parquet"], item_columns=dict(text="plit"))
