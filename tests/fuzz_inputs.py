"Files, records and cells as people have them, and what can befall them."
import bz2, csv, datetime, decimal, gzip, io, json, lzma, string
from functools import cache

WORDS = """good bad lovely hat coat Größe naïve façade товар отлично 商品 很好 ثوب שלום size. price, "so-called" it's
5/5 don't (new) 100% #1 a|b x;y <br/> &amp; &#8217; http://a.example/b.jpg \\n e\u0301 👍 ½ … – “quoted” tab\there""".split(" ")
BIG = "9"*400
ODD = [ # cells that no table should hold
    None, True, False, 0, -1, 5.0, 1e308, -1e308, float("nan"), float("inf"), 10**25, 10**400, -10**400, 2**63, .1 + .2,
    "", " ", "\t", "\n", "\0", "\\N", "N/A", "NULL", "None", "nan", "NaN", "-", "?", "null", "inf", "-inf", "1e999", "1e-999",
    BIG, "0"*400, "." + BIG, BIG + "." + BIG, "1,299.00", "1.299,00 €", "EUR 0,99", "$1 - $2", "4/5", "8/10", "4 out of 5 stars",
    "★★★☆☆", "5つ星のうち4", "1/0", "/", "1.0E+12", "007", "1_000", "１２３", "²", "0x10", "+5", "--5", "5,0", "½", "4½",
    "2018-02-30", "30/02/2018", "03/04/18", "13/13/2018", "2018-W05", "99999999999999", "1600000000", "1600000000000",
    "31 Dec 10000", "Reviewed in the US on May 3, 2020", "3 мая 2020 г.", "2020年5月3日", "43831.5", "12:61", "0000-00-00",
    "2018-01-01T00:00:00+99:99", "Mon, 32 Foo 2020", "\ufeff", "\u202eabc", "\u200f", "\ud800", "\udfff\ud800", "\ufffd", "\x1b[31m",
    "\x1b]0;title\x07", "\x9b2J", "\x85", "\u2028", "a\rb", "a\r\nb", "'", '"', '""', '"""', "`", "\\", "\\\"", "[", "{", "[]", "{}", "{{}}", "[[", "()",
    "[1, 2", "['a', 'b']", "{'hi_res': None}", "array(['a'], dtype=object)", "[nan]", "["*600 + "]"*600, "{'a':"*300 + "1" + "}"*300,
    "&#" + BIG + ";", "&#x110000;", "&#0;", "&amp;amp;lt;", "<" + "a "*50, "<!--", "[[ASIN:", "<script>alert(1)</script>", "=1+1", "../../x.png",
    "/etc/passwd", "file:///x", "http://[", "//a.b/c.jpg", "C:\\a\\b.jpg", "a.jpg, b.jpg", "a"*3000, "=HYPERLINK(\"x\")", "\N{ZERO WIDTH SPACE}"]
NESTED = [[], {}, [None], [[]], {"": ""}, [1, "a", None], {"a": {"b": [1]}}, {"hi_res": ["a", None], "large": 3}, [{"hi_res": None, "thumb": 5}],
          [float("nan")], {"$oid": "5"}, {"$date": {"$numberLong": "1"}}, {"$numberLong": "x"}, {"$date": BIG}, {"0": 1, "1": 2}, {"text": ["x"]}]
PIECES = [b'"', b"'", b'""', b",", b";", b"\t", b"|", b"::", b"\n", b"\r", b"\r\n", b"\n\n", b"\0", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff\0\0", b"{", b"}", b"[", b"]", b"{{}}", b"\\",
          b"\\N", b"\\u", b"\\ud800", b"\\x", b"\xed\xa0\x80", b"\xff", b"\x80", b"\xc3", b"\xe2\x80\xae", b"\xe2\x80\xa8", b"\xc2\x85", b"\x1b[2J", b"NaN", b"Infinity", b"-", b"1e999",
          b"9"*400, b"[" * 600, b'{"a":'*300, b"true", b"null", b"None", b"sep=;\n", b"#", b" ", b"\x1f", b"\x1a", b"\x0c", b"/*", b"//", b"PK\x03\x04", b"PAR1", b"\x1f\x8b", b"0"]

def nested(rng):
    "A list or dictionary that nests, sometimes very deep."
    if rng.random() < .8: return rng.choice(NESTED)
    out = 1
    for _ in range(rng.choice((3, 30, 600))): out = [out] if rng.random() < .5 else {"a": out}
    return out

def odd(rng): return nested(rng) if rng.random() < .2 else rng.choice(ODD)

def words(rng, n): return " ".join(rng.choices(WORDS, k=n))


# Records

NAMES = [dict(user="user_id", item="parent_asin", rating="rating", title="title", text="text", time="timestamp", verified="verified_purchase", helpful="helpful_vote"),
         dict(user="reviewerID", item="asin", rating="overall", title="summary", text="reviewText", time="unixReviewTime", verified="verified", helpful="vote"),
         dict(user="userId", item="movieId", rating="rating", time="timestamp"),
         dict(user="User", item="Product ID", rating="Stars", title="Headline", text="Review Text", time="Date", price="Price", image="Image"),
         dict(item="item_id", rating="score"), dict(user="author.steamid", item="appid", rating="voted_up", text="review", time="timestamp_created"),
         dict(user="user_id:token", item="item_id:token", rating="rating:float", time="timestamp:float")]
ITEMS = [dict(item="parent_asin", title="title", text="features", more="description", store="store", price="price", image="images"),
         dict(item="asin", title="title", text="description", store="brand", price="price", image="imageURLHighRes"),
         dict(item="movieId", title="title", text="genres"), dict(item="id", title="name", text="plot+x", image="poster", price="price")]

def notations(rng):
    "How a file writes its ratings, times, users, items and prices: a function from field to cell."
    day = lambda: datetime.datetime(rng.randint(1995, 2030), rng.randint(1, 12), rng.randint(1, 28), rng.randint(0, 23), rng.randint(0, 59))
    rating = rng.choice([lambda: rng.randint(1, 5), lambda: float(rng.randint(1, 5)), lambda: rng.randint(1, 10)/2, lambda: rng.choice(["up", "down"]), lambda: rng.choice([True, False]),
        lambda: f"{rng.randint(1, 5)} out of 5 stars", lambda: f"{rng.randint(1, 10)}/10", lambda: f"{rng.randint(1, 5)},0", lambda: rng.choice(["bad", "ok", "good"]), lambda: str(rng.randint(0, 10)), lambda: "★"*rng.randint(1, 5)])
    time = rng.choice([lambda: int(day().timestamp()), lambda: int(day().timestamp()*1000), lambda: f"{day():%Y-%m-%d}", lambda: f"{day():%d/%m/%Y}", lambda: f"{day():%m/%d/%y}", lambda: f"{day():%d.%m.%Y %H:%M}",
        lambda: f"{day():%B %d, %Y}", lambda: f"{day():%m %d, %Y}", lambda: day().isoformat() + "Z", lambda: rng.randint(33000, 50000), lambda: str(day().year), lambda: f"{day():%Y%m%d}"])
    letters = string.ascii_uppercase + string.digits
    item = rng.choice([lambda k: f"B{k:09}", lambda k: k, lambda k: f"{k:010}", lambda k: f"{k}.0", lambda k: float(k), lambda k: f"i{k}", lambda k: f"{letters[k % 36]}-{k} {k % 7}", lambda k: 10**24 + k])
    user = rng.choice([lambda k: f"u{k}", lambda k: k, lambda k: f"A{k:020}", lambda k: None if k % 3 else f"u{k}", lambda k: 10**21 + k])
    price = rng.choice([lambda: f"${rng.randint(1, 999)}.99", lambda: f"{rng.randint(1, 999)},99 €", lambda: rng.random()*100, lambda: f"1.{rng.randint(100, 999)},00", lambda: None])
    picture = lambda: f"http://img.example/{rng.randint(0, 999)}.jpg"
    image = rng.choice([picture, lambda: [picture(), picture()], lambda: [{"hi_res": None, "large": picture(), "thumb": picture()}], lambda: {"hi_res": [None], "large": [picture()]}, lambda: f"pics/{rng.randint(0, 99)}.jpg", lambda: ""])
    text = rng.choice([lambda: words(rng, rng.randint(0, 12)), lambda: words(rng, 3), lambda: [words(rng, 2), words(rng, 4)]])
    return dict(user=lambda k, u: user(u), item=lambda k, u: item(k), rating=lambda k, u: rating(), title=lambda k, u: words(rng, 2), text=lambda k, u: text(), more=lambda k, u: [words(rng, 4)], time=lambda k, u: time(),
                verified=lambda k, u: rng.random() < .5, helpful=lambda k, u: rng.randint(0, 30), store=lambda k, u: rng.choice(["Acme", "", None]), price=lambda k, u: price(), image=lambda k, u: image())

def records(rng, names, write, n, n_items):
    "Some records, a few of their cells odd."
    out = [{name: write[what](rng.randrange(n_items), rng.randrange(n)) for what, name in names.items()} for _ in range(n)]
    return spoilt(rng, out)

def spoilt(rng, out):
    "Put odd cells into records, leave cells out, repeat records."
    for _ in range(rng.choice((0, 0, 1, 3, 10, 40))):
        record = rng.choice(out)
        if rng.random() < .15 or not record: out.insert(rng.randrange(len(out)), dict(rng.choice(out)))
        elif rng.random() < .1: record.pop(rng.choice(list(record)))
        elif rng.random() < .05: record[rng.choice(["x", "", "0", "a.b", "a|b", "a+b", "\x1b[31m", "\ud800", "rating"])] = odd(rng)
        else: record[rng.choice(list(record))] = odd(rng)
    return out


# Files

def _text(value):
    "A cell of a delimited table."
    if isinstance(value, (dict, list)):
        try: return json.dumps(value) if id(value) % 2 else repr(value)
        except (ValueError, RecursionError): return "[]"
    try: return "" if value is None else str(value)
    except ValueError: return BIG # more digits than Python prints

def _json(value, **how):
    try: return json.dumps(value, default=str, **how)
    except (ValueError, RecursionError): return json.dumps(str(type(value)))

def _python(value):
    try: return repr(value)
    except (ValueError, RecursionError): return "{}"

def as_table(rng, rows):
    "A delimited table, in one of the many ways."
    names = list(dict.fromkeys(k for r in rows for k in r))
    if rng.random() < .05: names.insert(rng.randrange(len(names) + 1), rng.choice([*names, "", "0", "a,b", '"', "x"]))
    delimiter, out = rng.choice([",", ",", ",", ";", "\t", "\t", "|", "::", " "]), io.StringIO(newline="")
    quoting = rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC, csv.QUOTE_NONE])
    end = rng.choice(["\n", "\n", "\r\n", "\r"])
    if delimiter == "::" or quoting == csv.QUOTE_NONE: lines = [delimiter.join(row) for row in [names, *([_text(r.get(c)) for c in names] for r in rows)]]
    else:
        writer = csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator=end, escapechar="\\", doublequote=rng.random() < .8)
        writer.writerows([names, *([_text(r.get(c)) for c in names] for r in rows)])
        lines = out.getvalue().split(end)[:-1]
    if rng.random() < .1: lines = lines[1:] # no header
    if rng.random() < .05: lines.insert(0, f"sep={delimiter}")
    if rng.random() < .05: lines[:0] = ["# a comment", "# another"]
    if rng.random() < .05: lines = [lines[0], *(f'"{k}"{delimiter}{line}' for k, line in enumerate(lines[1:], 1))] # R's row names
    if rng.random() < .05: lines.insert(rng.randrange(len(lines)), lines[0]) # the header again
    return end.join(lines) + end*(rng.random() < .9)

def as_json(rng, rows):
    "JSON or Python literals, in one of the many shapes."
    names = list(dict.fromkeys(k for r in rows for k in r))
    lines = [_json(r, ensure_ascii=rng.random() < .5) for r in rows]
    array = "[" + ", ".join(lines) + "]"
    column = lambda k: {str(i): r.get(k) for i, r in enumerate(rows)}
    ways = [lambda: "\n".join(lines) + "\n", lambda: "\n".join(map(_python, rows)) + "\n", lambda: array, lambda: "[\n" + ",\n".join(lines) + "\n]", lambda: '{"reviews": %s, "n": 3}' % array,
            lambda: '{"data": {"rows": %s}}' % array, lambda: _json({k: column(k) for k in names}), lambda: _json({k: list(column(k).values()) for k in names}), lambda: "".join(lines), lambda: ",\n".join(lines),
            lambda: "\n".join(_json(r, indent=1) for r in rows), lambda: _json({str(i): r for i, r in enumerate(rows)}),
            lambda: _json(dict(columns=names, index=list(range(len(rows))), data=[[r.get(c) for c in names] for r in rows])), lambda: "\n".join(_json([r.get(c) for c in names]) for r in rows)]
    return rng.choices(ways, [8, 3, 3] + [1]*(len(ways) - 3))[0]()

def as_parquet(rng, rows):
    "A Parquet file with columns of many kinds; b'' where Arrow knows no such table."
    import pyarrow as pa, pyarrow.parquet as pq
    names, columns = list(dict.fromkeys(k for r in rows for k in r)), {}
    kinds = [lambda x: x, lambda x: x, lambda x: None if x is None else _text(x), lambda x: _text(x).encode("utf8", "replace"), lambda x: decimal.Decimal(str(x)[:20]), lambda x: [_text(x)], lambda x: {"a": _text(x)},
             lambda x: datetime.date(2020, 1, 1 + len(_text(x)) % 28), lambda x: datetime.datetime(2020, 1, 1 + len(_text(x)) % 28), lambda x: float(x)]
    for name in names:
        for kind in (rng.choice(kinds), kinds[2]):
            try: columns[name.encode("utf8", "replace").decode()] = pa.array([kind(r.get(name)) for r in rows]); break
            except (pa.ArrowException, ValueError, TypeError, OverflowError, ArithmeticError, UnicodeError, RecursionError): pass
    out, table = io.BytesIO(), pa.table(columns)
    if rng.random() < .1: table = table.rename_columns([table.column_names[0]]*len(columns))
    pq.write_table(table, out, compression=rng.choice(["none", "snappy", "zstd"]), row_group_size=rng.choice([50, 5000]))
    return out.getvalue()

ENCODINGS = ["utf-8"]*8 + ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252", "cp1251", "gbk", "shift_jis", "latin1", "mac-roman"]

def a_file(rng, rows):
    "Bytes of a file of any kind."
    kind = rng.choices(["table", "json", "parquet"], [5, 5, 1])[0]
    if kind == "parquet": data = as_parquet(rng, rows)
    else:
        text, encoding = (as_table if kind == "table" else as_json)(rng, rows), rng.choice(ENCODINGS)
        data = text.encode(encoding, "surrogatepass" if encoding == "utf-8" and rng.random() < .5 else "replace")
    if rng.random() < .7: data = mutated(rng, data)
    if rng.random() < .15:
        data = rng.choice([gzip.compress, bz2.compress, lzma.compress])(data)
        if rng.random() < .3: data = mutated(rng, data, 2)
    return data

def mutated(rng, data, most=12):
    "Bytes flipped, cut, inserted, doubled and swapped at a few places."
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, most))):
        if not data: return b""
        at, to = sorted((rng.randrange(len(data)), rng.randrange(len(data))))
        near = min(to, at + rng.choice((1, 2, 8, 64, 1024)))
        way = rng.randrange(8)
        if way == 0: data[at] ^= 1 << rng.randrange(8)
        elif way == 1: data[at] = rng.randrange(256)
        elif way == 2: del data[at:near]
        elif way == 3: data[at:at] = data[to:to + (near - at)]
        elif way == 4: data[at:at + rng.randrange(4)] = rng.choice(PIECES)
        elif way == 5: data[at:at] = rng.choice(PIECES)*rng.choice((1, 1, 1, 2, 50))
        elif way == 6: data[at:near], data[to:to + 1] = data[to:to + 1], data[at:near]
        elif rng.random() < .1: del data[rng.choice((0, at)):near if rng.random() < .5 else len(data)]
        else: data = data.replace(*rng.sample([b",", b";", b'"', b"'", b"\n", b"\r", b":", b"{", b"1"], 2), rng.choice((1, 3)))
    return bytes(data[:2_000_000])

def mutated_json(rng, value):
    "A document with one of its parts replaced, renamed or gone."
    places = []
    def look(x):
        for k in list(x) if isinstance(x, dict) else range(len(x)) if isinstance(x, list) else (): places.append((x, k)); look(x[k])
    look(value)
    for _ in range(rng.choice((1, 1, 2, 5)) if places else 0):
        inside, key = rng.choice(places)
        if key not in inside if isinstance(inside, dict) else key >= len(inside): continue
        way = rng.randrange(5)
        if way == 0: del inside[key]
        elif way == 1 and isinstance(inside, dict): inside[rng.choice(["", "x", "\ud800", "names"])] = inside.pop(key)
        elif way == 2: inside[key] = rng.choice([[inside[key]], {"a": inside[key]}, str(inside[key])[:50]])
        else: inside[key] = odd(rng)
    return value

@cache
def pictures():
    "A small picture in each format that Pillow writes."
    from PIL import Image
    Image.init()
    out = []
    for mode in ("RGB", "L", "P", "RGBA", "1", "CMYK", "I;16", "F", "I"):
        picture = Image.new(mode, (9, 7), 1 if mode in ("1", "I;16", "F", "I") else None)
        for form in sorted(set(Image.SAVE) - {"IM"}): # which Pillow gives up
            buffer = io.BytesIO()
            try: picture.save(buffer, form)
            except (OSError, KeyError, ValueError, AttributeError, TypeError): continue # not every format has every mode
            out.append(buffer.getvalue())
    return out
