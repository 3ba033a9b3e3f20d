"""Engines: same numbers, same order, and 8 bits only where they agree with 32."""
import os, subprocess, sys
import numpy as np, pytest, torch
from mmrec.features import engines
from mmrec.core import MmrecError
from mmrec.features.engines import TorchEngine, cosines, engine_kind, has_openvino, make_engine

needs_openvino = pytest.mark.skipif(not has_openvino(), reason="the extra mmrec[fast] is not installed")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    "A small transformer-like network on int64 and one on bytes, with calibration and a cache of their own."
    os.environ["MMREC_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    torch.manual_seed(0)
    class Mean(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.layer = torch.nn.Embedding(50, 32), torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.GELU(), torch.nn.Linear(64, 32))
        def forward(self, ids, mask): return (self.layer(self.words(ids))*mask[..., None]).sum(1)/mask.sum(1)[:, None]
    rng = np.random.default_rng(0)
    blocks = [(rng.integers(0, 50, (n, w)), np.ones((n, w), dtype=np.int64)) for n, w in ((8, 5), (4, 9), (6, 7), (3, 3))]
    yield Mean().eval(), blocks
    del os.environ["MMREC_CACHE"]


def engine(small, precision, key="small"): return make_engine(small[0], precision, CPU, key, lambda: small[1][:3], True)


def test_exact_is_torch(small):
    net, blocks = small
    outs = dict(engine(small, "exact").stream(enumerate(blocks)))
    with torch.inference_mode():
        for i, block in enumerate(blocks): assert np.allclose(outs[i], net(*map(torch.from_numpy, block)).numpy(), atol=1e-6)


@needs_openvino
def test_int8_keeps_order_and_agrees(small):
    exact = [v for _, v in engine(small, "exact").stream(enumerate(small[1]))]
    tags, fast = zip(*engine(small, "int8").stream(enumerate(small[1]*20)))
    assert list(tags) == list(range(80))
    for i, v in enumerate(fast): assert cosines(exact[i % 4], v).min() > .99
    again = [v for _, v in engine(small, "int8").stream(enumerate(small[1]))]
    assert all(np.array_equal(a, b) for a, b in zip(fast, again))


@needs_openvino
def test_a_reader_may_stop_early(small):
    fast = engine(small, "int8")
    stream = fast.stream(enumerate(small[1]*20)); next(stream); stream.close()
    assert len(list(fast.stream(enumerate(small[1])))) == 4


@needs_openvino
def test_the_integer_network_is_made_once(small, monkeypatch):
    engine(small, "fast", "once")
    monkeypatch.setattr(engines, "quantise", lambda *a: pytest.fail("made twice"))
    assert engine(small, "fast", "once").kind == engine_kind("fast", CPU, "once")


@needs_openvino
def test_the_ladder_refuses_what_does_not_agree(small, monkeypatch):
    monkeypatch.setattr(engines, "LOWEST_COSINE", 1.01)
    refused = engine(small, "fast", "refused")
    assert refused.kind in ("exact", "bfloat16") and engine(small, "int8", "refused").kind == "int8"


@needs_openvino
def test_a_network_that_the_tools_do_not_know(small):
    class Odd(torch.nn.Module):
        def forward(self, ids, mask): return torch.special.bessel_j0((ids*mask).float())
    odd = (Odd().eval(), small[1])
    assert engine(odd, "fast", "odd").kind in ("exact", "bfloat16")
    with pytest.raises(MmrecError, match="cannot be turned into 8 bits"): engine(odd, "int8", "odd")


def test_without_the_extra(small, monkeypatch):
    monkeypatch.setattr(engines, "has_openvino", lambda: False)
    assert engine(small, "fast", "none").kind in ("exact", "bfloat16")
    with pytest.raises(MmrecError, match=r"pip install mmrec\[fast\]"): engine(small, "int8", "none")


@needs_openvino
def test_an_interrupted_quantisation_leaves_nothing(small, monkeypatch):
    def dies(*args): raise KeyboardInterrupt
    monkeypatch.setattr(engines, "quantise", dies)
    with pytest.raises(KeyboardInterrupt): engine(small, "int8", "killed")
    assert not engines._int8_folder("killed").exists()


@needs_openvino
def test_nothing_is_sent_home():
    code = """
import socket, sys, torch, numpy as np, os
def refuse(*a, **k): print("CALLED HOME"); raise OSError
socket.socket.connect = refuse; socket.getaddrinfo = refuse
from mmrec.features.engines import make_engine
net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()
x = np.random.rand(2, 3, 8, 8).astype("float32")
print(make_engine(net, "int8", torch.device("cpu"), "home", lambda: [(x,)], False).kind, "openvino_telemetry" in sys.modules)"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert out.stdout.split() == ["int8", "False"], out.stdout + out.stderr[-500:]


def test_bits_are_counted_from_copies(small):
    net, blocks = small
    sixteen = TorchEngine(net, bits=16)
    assert next(net.parameters()).dtype == torch.float32 and next(sixteen.net.parameters()).dtype == torch.bfloat16
    exact, half = (next(e.stream([(0, blocks[0])]))[1] for e in (TorchEngine(net), sixteen))
    assert half.dtype == np.float32 and cosines(exact, half).min() > .99
