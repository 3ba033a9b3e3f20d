"The small twin of `make fuzz`, and that the fuzzer finds what it is to find."
import pickle
import pytest
import fuzz
from mmrec.data import fields
from mmrec.core import MmrecError

CASES = dict(files=24, cells=16, configs=60, converted=20, stored=25, headers=30, pictures=100) # runs and networks are left to `make fuzz`


@pytest.mark.parametrize("reader", CASES)
def test_spoilt_inputs_end_in_our_own_errors(reader, tmp_path):
    for number in range(CASES[reader]):
        _, error = fuzz.tried(reader, *fuzz.drawn(reader, number, "twin"), tmp_path/"case")
        if error is not None: pytest.fail(f"make fuzz SEED=twin CASE={reader}-{number}: {fuzz.signature(error)}: {error!r}")


def test_a_case_has_the_same_bytes_again():
    for reader in CASES: assert fuzz.drawn(reader, 3, 1) == fuzz.drawn(reader, 3, 1) != fuzz.drawn(reader, 4, 1)


@pytest.mark.parametrize("fault, said", [(ZeroDivisionError(), "ZeroDivisionError"), (MmrecError("two\x1b lines"), None), (None, "Flaw")])
def test_a_planted_fault_is_found_kept_and_made_small(monkeypatch, tmp_path, fault, said):
    def planted(value, *args):
        if value != "+5": return real(value, *args)
        if fault: raise fault
        return 5
    real = fields.as_id
    monkeypatch.setattr(fields, "as_id", planted)
    files = {"cells.pickle": pickle.dumps(["a", "b", "+5", "c"]*5)}
    _, error = fuzz.tried("cells", files, dict(scale="1-5"), tmp_path/"case")
    if said is None: assert isinstance(error, MmrecError); return # the functions on cells raise nothing at all
    assert type(error).__name__ == said
    fuzz.keep(tmp_path/"findings", "cells-0", 1, files, dict(scale="1-5"), error, tmp_path/"case")
    assert pickle.loads((tmp_path/"findings/cells-0/small/cells.pickle").read_bytes()) == ["+5"]
    assert said in (tmp_path/"findings/cells-0/traceback.txt").read_text()


def test_what_hangs_or_grows_is_found(monkeypatch, tmp_path):
    monkeypatch.setattr(fuzz, "CPU", .2)
    def endless(*args):
        while True: pass
    monkeypatch.setattr(fields, "as_flag", endless)
    _, error = fuzz.tried("cells", {"cells.pickle": pickle.dumps(["a"])}, dict(scale="1-5"), tmp_path/"case")
    assert isinstance(error, fuzz.TooLong)
