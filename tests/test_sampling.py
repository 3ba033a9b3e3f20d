"Reading in blocks and drawing rows, held against slow and plain ways of doing the same."
import gzip, json
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from mmrec.core import MmrecError
from mmrec.data.fields import as_id, choose_columns
from mmrec.data.reading import BadRow, batches_of, line_batches, parse_row, rows_of, sniff
from mmrec.data.sampling import choose_lines, draw_lines, draw_rows, k_core, priorities, read_keys, rows_naming

quick = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def plain_lines(content, most):
    "Lines as Python's own splitting gives them."
    return [line if len(line) <= most else None for line in content.splitlines(keepends=True)] if b"\r" not in content else None


@quick
@given(st.lists(st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"").replace(b"\r", b"")), max_size=12), st.booleans(), st.integers(1, 40), st.integers(5, 40))
def test_blocks_give_the_lines_of_the_file(tmp_path, lines, ended, size, most):
    content = b"\n".join(lines) + (b"\n" if ended and lines else b"")
    (tmp_path/"f").write_bytes(b"x" + content)
    wanted = [line if len(line) <= most else None for line in (b"x" + content).split(b"\n")]
    wanted = [w if w is None else w + b"\n" for w in wanted[:-1]] + ([wanted[-1]] if wanted[-1] != b"" else [])
    wanted = [w if w is not None and len(w) <= most else None for w in wanted]
    got = [(line, None if isinstance(row, BadRow) else row) for batch in line_batches(tmp_path/"f", most, size) for line, row in batch]
    assert got == list(enumerate(wanted, 1))


def test_the_reader_says_how_far_it_is(tmp_path):
    for name, content in (("plain", b"a\n"*5000), ("packed.gz", gzip.compress(b"a\n"*5000))):
        (tmp_path/name).write_bytes(content)
        told = []
        shares = [batch.share for batch in line_batches(tmp_path/name, size=1000, advance=told.append)]
        assert sum(told) == len(content) and shares == sorted(shares) and shares[-1] == 1


def test_blank_lines_are_no_rows_but_count_as_lines(tmp_path):
    (tmp_path/"a.jsonl").write_bytes(b'\n{"a": 1}\n  \t\n\r\n {"a": 2}\n{"a": 3}')
    assert [(line, parse_row(sniff(tmp_path/"a.jsonl"), row)["a"]) for line, row in rows_of(sniff(tmp_path/"a.jsonl"))] == [(2, 1), (5, 2), (6, 3)]


def test_a_reader_that_stops_early_leaves_no_thread_waiting(tmp_path):
    import threading
    (tmp_path/"a.jsonl").write_bytes(b'{"a": 1}\n'*200_000)
    before = threading.active_count()
    for _ in range(5): next(iter(batches_of(sniff(tmp_path/"a.jsonl"))))
    assert threading.active_count() <= before


@quick
@given(st.integers(1, 60), st.integers(1, 70), st.integers(0, 10_000))
def test_the_draw_is_the_rows_of_lowest_priority(tmp_path, total, n, seed):
    (tmp_path/"a.jsonl").write_text("".join(f'{{"n": {i}}}\n' for i in range(1, total + 1)))
    rows, seen = draw_rows(sniff(tmp_path/"a.jsonl"), n, "uniform", seed)
    assert seen == total and [line for line, _ in rows] == sorted((np.argsort(priorities(range(1, total + 1), seed))[:n] + 1).tolist())
    assert rows == draw_lines(sniff(tmp_path/"a.jsonl"), [line for line, _ in rows])[0]


def test_a_wrong_guess_of_the_number_of_lines_is_mended(tmp_path):
    "A first block of very short lines makes the draw expect far more lines than there are."
    (tmp_path/"a.jsonl").write_bytes(b'{"n": 1}\n'*1_000_000 + (b'{"n": 1, "t": "' + b"x"*5_000_000 + b'"}\n')*10)
    rows, seen = draw_rows(sniff(tmp_path/"a.jsonl"), 1_000_005)
    assert seen == 1_000_010 and len(rows) == 1_000_005


def test_priorities_of_neighbours_have_nothing_to_do_with_each_other():
    a, b = priorities(np.arange(100_000)), priorities(np.arange(100_000), 1)
    uniform = lambda x: x.astype(float)/2**64
    assert abs(np.corrcoef(uniform(a[:-1]), uniform(a[1:]))[0, 1]) < .015 and abs(np.corrcoef(uniform(a), uniform(b))[0, 1]) < .015
    assert np.abs(np.histogram(uniform(a), 20, (0, 1))[0] - 5000).max() < 350


@quick
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=40), st.integers(1, 4))
def test_k_core_is_the_largest(pairs, k):
    users, items = (np.array([p[i] for p in pairs], dtype=int) for i in (0, 1))
    kept = {p for p, keep in zip(pairs, k_core(users, items, k)) if keep}
    plain = set(pairs)
    while True:
        fewer = {(u, i) for u, i in plain if sum(a == u for a, _ in plain) >= k and sum(b == i for _, b in plain) >= k}
        if fewer == plain: break
        plain = fewer
    assert kept == plain


@pytest.fixture
def ratings(tmp_path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(dict(user=[f"u{x}" for x in rng.zipf(1.6, 3000) % 700], item=[f"i{x}" for x in rng.integers(0, 90, 3000)],
        rating=rng.choice([1, 2, 3, 4, 5], 3000, p=[.1, .05, .1, .15, .6]), time=pd.date_range("2015-01-01", periods=3000, freq="D").astype(str)))
    table.to_csv(tmp_path/"ratings.csv", index=False)
    source = sniff(tmp_path/"ratings.csv")
    return table, source, choose_columns(source, "reviews")[1]


def drawn(ratings, how, n=None, seed=0):
    table, source, mapping = ratings
    rows, seen = draw_rows(source, n, how, seed, mapping)
    assert seen == 3000
    return table.iloc[[line - 2 for line, _ in rows]]


def test_stars_keep_their_shares_and_balanced_evens_them(ratings):
    share = ratings[0].rating.value_counts(normalize=True)
    assert (drawn(ratings, "stars", 500).rating.value_counts()/500 - share).abs().max() <= 1/500
    assert drawn(ratings, "balanced", 500).rating.value_counts().tolist() == [100]*5
    few = drawn(ratings, "balanced", 2000).rating.value_counts()
    assert few[2] == ratings[0].rating.eq(2).sum() # a rare class gives all it has


def test_users_come_whole(ratings):
    some, everything = drawn(ratings, "users", 600).groupby("user").size(), ratings[0].groupby("user").size()
    assert some.sum() <= 600 and some.equals(everything[some.index]) and not drawn(ratings, "users", 600, seed=1).equals(drawn(ratings, "users", 600))


def test_months_count_from_the_youngest(ratings):
    young = drawn(ratings, "6-months")
    assert young.time.min() > str(pd.Timestamp(ratings[0].time.max()) - pd.DateOffset(months=6))[:10] and len(young) in range(180, 186)
    assert len(drawn(ratings, "6-months", 50)) == 50


def test_rows_without_user_are_users_of_their_own(tmp_path):
    (tmp_path/"a.csv").write_text("user,item,rating\n,a,1\n,b,2\nann,a,3\nann,b,4\n")
    source = sniff(tmp_path/"a.csv")
    keys = read_keys(source, choose_columns(source, "reviews")[1])
    assert keys.user.nunique() == 3
    assert choose_lines(keys, "1-core").tolist() == [2, 3, 4, 5]


def test_rows_that_cannot_be_read_take_part_in_no_rule(tmp_path):
    (tmp_path/"a.jsonl").write_text('{"user": "u", "item": "a", "rating": 5}\n{"user": broken\n{"user": "v", "item": "a", "rating": 4}\n')
    source = sniff(tmp_path/"a.jsonl")
    keys = read_keys(source, choose_columns(source, "reviews")[1])
    assert keys.line.tolist() == keys.row.tolist() == [1, 3]


@pytest.mark.parametrize("how", ["0-core", "core", "12-month", "-3-months", "", None, "5-CORE"])
def test_ways_that_do_not_exist(ratings, how):
    with pytest.raises(MmrecError, match="no way of drawing"): drawn(ratings, how, 10)


identifiers = st.sampled_from(["a", "b", "B0", "7", 7, 7.0, -5, 1.5, None, " a ", "é", 'q"', "back\\slash", "", "u\u2028"])
records = st.fixed_dictionaries(dict(id=identifiers), optional=dict(x=st.fixed_dictionaries(dict(id=identifiers)), t=st.sampled_from(['"id": "a"', "plain", "\n"]), grandid=identifiers))


@quick
@given(st.lists(st.one_of(records.map(json.dumps), records.map(lambda r: json.dumps(r, ensure_ascii=False)), st.sampled_from(["{", "[1]", '{"x": 1}', '{"id":"a"}', '{"id" : "a"}'])), min_size=1, max_size=8),
       st.sets(st.sampled_from(["a", "b", "B0", "7", "-5", "1.5", "é", 'q"', "back\\slash"]), min_size=1))
def test_no_named_item_is_missed(tmp_path, lines, needed):
    (tmp_path/"items.jsonl").write_text('{"id": "zzz"}\n' + "\n".join(lines) + "\n", encoding="utf8")
    source = sniff(tmp_path/"items.jsonl")
    found = {line for line, _ in rows_naming(source, "id", needed)[0]}
    for line, row in rows_of(source):
        try: record = parse_row(source, row)
        except ValueError: continue
        if as_id(record.get("id")) in needed: assert line in found


def test_identifiers_with_a_type_far_down_are_found(tmp_path):
    "MongoDB's way of writing one value, in a file whose first thousand records have none."
    rows = [dict(item=f"i{k}", price=k) for k in range(1500)] + [dict(item={"$numberLong": "x"}, price=7), dict(item=["y"], price=8)]
    (tmp_path/"items.json").write_text("".join(json.dumps(r) + "\n" for r in rows))
    found, seen = rows_naming(sniff(tmp_path/"items.json"), "item", {"x", "i3"})
    assert seen == 1502 and {line for line, _ in found} >= {4, 1501} and len(found) < 10
