"What a bench has measured stays: records of other machines and days are kept beside a new one."
import json, sys
from pathlib import Path
import pytest

BENCH = Path(__file__).parents[1]/"bench"


@pytest.fixture
def record(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCH))
    import record as module
    monkeypatch.setattr(module, "RESULTS", tmp_path/"results")
    yield module
    sys.modules.pop("record", None)


def test_no_record_is_replaced(record, monkeypatch):
    for machine, ours in (("one", 6.), ("another", 12.), ("one", 5.)):
        monkeypatch.setattr(record, "machine", lambda: machine)
        record.record("speed", "ours vs theirs", ours, 1., "texts/s", "made-up texts")
    record.record("speed", "another claim", 2., 8., "seconds", "made-up texts", peak_mb=3)
    rows = json.loads((record.RESULTS/"speed.json").read_text(encoding="utf8"))
    assert [(r["claim"], r["machine"], r["ratio"]) for r in rows] == [("another claim", "one", 4.), ("ours vs theirs", "one", 6.), ("ours vs theirs", "another", 12.), ("ours vs theirs", "one", 5.)]
    assert all(r["date"] and "others" in r for r in rows) and rows[0]["peak_mb"] == 3


def test_every_claim_of_the_front_page_was_measured():
    "The table takes the least ratio first, so a claim without a ratio, or with two units, would break it."
    rows = [r for name in ("data", "encoders") for r in json.loads((BENCH/"results"/f"{name}.json").read_text(encoding="utf8"))]
    front = "".join("".join(c["source"]) for c in json.loads((BENCH.parent/"nbs/index.ipynb").read_text(encoding="utf8"))["cells"])
    for claim in {r["claim"] for r in rows if f'"{r["claim"]}"' in front}:
        same = [r for r in rows if r["claim"] == claim]
        assert len({r["unit"] for r in same}) == 1 and all(r["ratio"] > 0 for r in same) and all(r["machine"] and r["date"] for r in same)
        assert any(r["ours"] and r["theirs"] for r in same)
        assert all(r.get("source") or (r["ours"] and r["theirs"]) for r in same) # a ratio without its rates says where it comes from
