"""The feature store under damage, kills and rivals; one path from inputs to vectors."""
import multiprocessing, os, signal, subprocess, sys, time
import numpy as np, pytest
from hypothesis import given, settings, strategies as st
from mmrec.features import encode as features
from mmrec.core import MmrecError
from mmrec.features.encode import NO_CONTENT, Encoder, FeatureStore, encode, key_numbers, list_stores, map_tensors, remove_store


class Letters(Encoder):
    "Length, and how often 'a' occurs."
    dim, key, label, block, seen = 2, "letters", "letters", 100, 0

    def transform(self, X):
        self.seen += len(X)
        return np.array([[len(x), x.count("a")] for x in X], dtype=np.float32)


def numbers(*values): return np.array(values, dtype=np.uint64)


@given(st.lists(st.text(max_size=4), max_size=60))
@settings(max_examples=60, deadline=None)
def test_encode_is_transform_in_the_callers_order(texts):
    expected = Letters().transform(texts) if texts else np.zeros((0, 2))
    encoder = Letters()
    assert np.array_equal(encode(encoder, texts), expected) and encoder.seen == len(set(texts))
    assert np.array_equal(encode(Letters(), iter(texts)), expected)


def test_only_what_is_new_is_encoded(tmp_path):
    texts = [f"text {i % 700}" for i in range(2000)]
    first, second, third = Letters(), Letters(), Letters()
    rows = encode(first, texts, tmp_path)
    assert first.seen == 700 and np.array_equal(rows, Letters().transform(texts))
    assert np.array_equal(encode(second, texts[::-1], tmp_path), rows[::-1]) and second.seen == 0
    encode(third, [*texts, "new", "newer"], tmp_path)
    assert third.seen == 2


def test_inputs_without_content_are_nan(tmp_path):
    class Some(Letters):
        def content_key_of(self, x): return None if x == "" else super().content_key_of(x)
    rows = encode(Some(), ["a", "", "bb"], tmp_path)
    assert np.isnan(rows[1]).all() and rows[2, 0] == 2 and np.isnan(encode(Some(), [""], tmp_path)).all()


def test_a_file_in_place_of_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "PORTION", 64)
    texts = [f"text {i % 150}" for i in range(500)]
    rows = encode(Letters(), iter(texts), tmp_path/"store", out=tmp_path/"rows.npy")
    assert isinstance(rows, np.memmap) and np.array_equal(np.load(tmp_path/"rows.npy"), Letters().transform(texts))
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".npy"] == ["rows.npy"]


def test_half_precision_is_half_as_large_and_close(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(500, 64)).astype(np.float32)
    for dtype in ("float32", "float16"): FeatureStore(tmp_path, "x", dtype).add(np.arange(1, 501, dtype=np.uint64), vectors)
    whole, half = list_stores(tmp_path)
    assert (whole["dtype"], half["dtype"]) == ("float32", "float16") and half["megabytes"] < .6*whole["megabytes"]
    assert np.allclose(FeatureStore(tmp_path, "x", "float16").take(numbers(3), 64), vectors[2], rtol=1e-3, atol=1e-3)
    with pytest.raises(MmrecError, match="float32"): FeatureStore(tmp_path, "x", "float8")
    with pytest.raises(MmrecError, match="too large for float16"): FeatureStore(tmp_path, "y", "float16").add(numbers(1), [[7e4]])


def test_nan_rows_are_kept(tmp_path):
    FeatureStore(tmp_path, "x").add(numbers(1, 2), [[np.nan], [2.]])
    store = FeatureStore(tmp_path, "x")
    assert (store.find(numbers(1, 2))[0] == 0).all() and np.isnan(store.take(numbers(1), 1)).all()


@pytest.mark.parametrize("damage", [lambda b: b[:40], lambda b: b[:-1], lambda b: b"", lambda b: b[:-9] + bytes([b[-9] ^ 4]) + b[-8:],
                                    lambda b: b"\xff"*8 + b[8:], lambda b: b + b"x", lambda b: b"{" + b[1:]])
def test_damage_is_noticed_and_mended(tmp_path, damage):
    texts = [f"text {i}" for i in range(250)]
    rows, again = encode(Letters(), texts, tmp_path), Letters()
    piece = sorted(tmp_path.glob("*/*.safetensors"))[0]
    piece.write_bytes(damage(piece.read_bytes()))
    assert np.array_equal(encode(again, texts, tmp_path), rows) and 0 < again.seen <= 100


def test_pieces_are_merged_and_rivals_keep_what_they_mapped(tmp_path):
    mine, rival = FeatureStore(tmp_path, "x"), FeatureStore(tmp_path, "x")
    for i in range(1, 20): mine.add(numbers(i), [[float(i)]])
    rival.refresh()
    for i in range(20, 60): mine.add(numbers(i), [[float(i)]])
    assert len(list(mine.folder.glob("*.safetensors"))) < features.TOO_MANY
    assert rival.take(numbers(7), 1) == 7 and np.isnan(rival.take(numbers(59), 1))
    rival.add(numbers(100), [[100.]])
    every = np.r_[np.arange(1, 60), 100].astype(np.uint64)
    assert np.array_equal(rival.take(every, 1).ravel(), every) and np.array_equal(FeatureStore(tmp_path, "x").take(every, 1).ravel(), every)


def test_the_very_same_merge_twice_loses_nothing(tmp_path):
    stores, last = [FeatureStore(tmp_path, "x"), FeatureStore(tmp_path, "x")], features.TOO_MANY
    for i in range(1, last): stores[0].add(numbers(i), [[float(i)]])
    stores[1].refresh()
    for store in stores: store.add(numbers(last), [[float(last)]])
    every = np.arange(1, last + 1, dtype=np.uint64)
    assert np.array_equal(FeatureStore(tmp_path, "x").take(every, 1).ravel(), every)


def _rival(folder, start):
    for i in range(start, start + 60): FeatureStore(folder, "x").add(numbers(i % 80 + 1), [[float(i % 80 + 1)]])


def test_two_writers_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    rivals = [context.Process(target=_rival, args=(tmp_path, start)) for start in (0, 30)]
    for r in rivals: r.start()
    for r in rivals: r.join(60)
    assert [r.exitcode for r in rivals] == [0, 0]
    every = np.arange(1, 81, dtype=np.uint64)
    assert np.array_equal(FeatureStore(tmp_path, "x").take(every, 1).ravel(), every)


def test_a_killed_run_goes_on(tmp_path):
    script = f"""
import sys, time; sys.path.insert(0, {str(os.path.dirname(__file__))!r})
from test_features import Letters, encode
class Slow(Letters):
    block = 10
    def transform(self, X): time.sleep(.05); return super().transform(X)
print("go", flush=True); encode(Slow(), [f"text {{i}}" for i in range(400)], {str(tmp_path)!r})"""
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    child.stdout.readline()
    while len(list(tmp_path.glob("*/*.safetensors"))) < 5: time.sleep(.01); assert child.poll() is None
    child.send_signal(signal.SIGKILL); child.wait()
    encoder = Letters()
    rows = encode(encoder, [f"text {i}" for i in range(400)], tmp_path)
    assert encoder.seen <= 360 and np.array_equal(rows, Letters().transform([f"text {i}" for i in range(400)]))


def test_numbers_of_keys():
    assert key_numbers([]).dtype == np.uint64 and key_numbers([None, "f"*64]).tolist() == [int(NO_CONTENT), 2**64 - 1]


def test_files_are_plain_safetensors(tmp_path):
    from safetensors.numpy import load_file
    FeatureStore(tmp_path, "x").add(numbers(5, 3), [[5., 0.], [3., 1.]])
    piece, = tmp_path.glob("*/*.safetensors")
    for read in (load_file, map_tensors): assert read(piece)["keys"].tolist() == [3, 5] and read(piece)["vectors"].tolist() == [[3, 1], [5, 0]]


def test_stores_are_listed_and_removed(tmp_path):
    encode(Letters(), ["a"], tmp_path)
    row, = list_stores(tmp_path)
    assert (row["encoder"], row["vectors"], row["dim"]) == ("letters", 1, 2)
    for name in ("", "nothing"):
        with pytest.raises(MmrecError, match="mmrec features ls"): remove_store(tmp_path, name)
    assert remove_store(tmp_path, row["name"][:8]) == row["name"] and list_stores(tmp_path) == [] == list_stores(tmp_path/"none")


def test_a_warning_when_fast_is_far_from_exact(tmp_path):
    class Far(Letters):
        def agreement(self, X): return .9
    with pytest.warns(UserWarning, match="mean cosine of only 0.9"): encode(Far(), [f"text {i}" for i in range(600)], tmp_path)


def test_agreement_is_asked_once_however_many_portions(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "PORTION", 600)
    class Asked(Letters):
        asked = 0
        def agreement(self, X): self.asked += 1; return 1.
    encoder = Asked()
    encode(encoder, [f"text {i}" for i in range(1800)], tmp_path)
    assert encoder.asked == 1


def test_pieces_of_anybody_are_read_or_left_out(tmp_path, capfd):
    "Mutated, with and without a name that fits: opening, adding, listing and removing go on."
    import hashlib, random
    rng = random.Random(0)
    store = FeatureStore(tmp_path, "x", about=dict(label="x"))
    store.add(np.arange(1, 40, dtype=np.uint64), np.ones((39, 4)))
    piece, note = features.piece_paths(store.folder)[0], store.folder/"encoder.json"
    whole = piece.read_bytes()
    for i in range(150):
        for p in store.folder.iterdir(): p.unlink()
        data, at = bytearray(whole), rng.randrange(len(whole) if i % 2 else 120)
        if i % 3: data[at] ^= 1 << rng.randrange(8)
        else: del data[at:at + rng.randrange(1, 200)]
        name = hashlib.sha256(data).hexdigest()[:32] if i % 4 else piece.stem
        (store.folder/f"{name}.safetensors").write_bytes(data)
        note.write_text(["{}", "[", '{"label": 7}', "[1]"][i % 4])
        again = FeatureStore(tmp_path, "x", dim=4)
        assert again.take(np.arange(1, 60, dtype=np.uint64), 4).shape == (59, 4)
        again.add(numbers(7), [[1., 2., 3., 4.]])
        assert len(list_stores(tmp_path)) == 1
    assert remove_store(tmp_path, store.folder.name) and list(tmp_path.iterdir()) == []
    assert all(line.startswith(str(tmp_path)) for line in capfd.readouterr().err.splitlines())


def test_a_piece_of_other_length_is_left_out(tmp_path, capfd):
    FeatureStore(tmp_path, "letters").add(key_numbers([Letters().content_key_of("a")]), [[1., 2., 3.]])
    assert encode(Letters(), ["a"], tmp_path).tolist() == [[1, 1]] and "vectors of 3 numbers, not 2" in capfd.readouterr().err


def test_what_is_no_piece_is_never_touched(tmp_path):
    store = FeatureStore(tmp_path, "x")
    store.add(numbers(1), [[1.]])
    theirs = {name: store.folder/name for name in ("bert.safetensors", "deadbeef.safetensors", "a.bin", "f"*31 + ".safetensors")}
    for path in theirs.values(): path.write_bytes(b"a model of mine")
    (store.folder/("0"*32 + ".safetensors")).mkdir()
    FeatureStore(tmp_path, "x").add(numbers(2), [[2.]])
    remove_store(tmp_path, store.folder.name)
    assert all(path.read_bytes() == b"a model of mine" for path in theirs.values()) and not features.piece_paths(store.folder)
