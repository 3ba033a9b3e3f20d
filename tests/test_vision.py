"""Behaviour of the image encoders on toys and on bad input; no network, no large weights."""
import os
import numpy as np, pytest
from PIL import Image, ImageDraw
from mmrec.features import vision
from mmrec.core import MmrecError
from mmrec.features.encode import encode
from mmrec.features.vision import ClassicalVision, TorchvisionImage, colour_histogram, describe_picture, find_object, hog, image_encoder, local_patterns


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    "Good and bad picture files by name."
    folder = tmp_path_factory.mktemp("pictures")
    base = Image.new("RGB", (120, 90), "white"); ImageDraw.Draw(base).ellipse((20, 10, 90, 70), fill="crimson")
    base.save(folder/"good.jpg"); base.convert("L").save(folder/"grey.png"); base.convert("P").save(folder/"palette.gif")
    base.convert("RGBA").save(folder/"alpha.png"); base.convert("CMYK").save(folder/"cmyk.jpg")
    Image.new("RGB", (1, 1)).save(folder/"pixel.png"); Image.new("RGB", (900, 2), "red").save(folder/"thin.png")
    (folder/"torn.jpg").write_bytes((folder/"good.jpg").read_bytes()[:900]); (folder/"empty.jpg").write_bytes(b"")
    (folder/"page.jpg").write_text("<html>not here</html>")
    return folder

GOOD = ["good.jpg", "grey.png", "palette.gif", "alpha.png", "cmyk.jpg", "pixel.png", "thin.png"]
BAD = ["torn.jpg", "empty.jpg", "page.jpg", "missing.jpg"]


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory):
    "SqueezeNet with random weights: the file and torchvision's own network."
    import torch, torchvision
    torch.manual_seed(0)
    net, path = torchvision.models.squeezenet1_1(weights=None).eval(), tmp_path_factory.mktemp("weights")/"squeezenet.pth"
    torch.save(net.state_dict(), path)
    return path, net


def test_bad_pictures_are_nan_and_good_ones_are_not(pictures, squeezenet):
    paths = [pictures/n for n in GOOD + BAD] + ["", None]
    for encoder in (ClassicalVision(), TorchvisionImage("squeezenet1_1", squeezenet[0], batch_size=3)):
        rows = encoder.fit_transform(paths)
        assert rows.dtype == np.float32 and rows.shape == (13, encoder.dim)
        assert np.isfinite(rows[:7]).all() and np.isnan(rows[7:]).all()
        assert np.allclose(encoder.transform(paths[::-1])[::-1], rows, atol=1e-4, equal_nan=True)
        assert encoder.transform([]).shape == (0, encoder.dim)


def test_encode_keeps_pictures_by_their_bytes(pictures, tmp_path):
    class Counting(ClassicalVision):
        read = 0
        def _prepare(self, picture): self.read += 1; return super()._prepare(picture)
    (tmp_path/"copy.jpg").write_bytes((pictures/"good.jpg").read_bytes())
    encoder, paths = Counting(), [pictures/"good.jpg", tmp_path/"copy.jpg", tmp_path/"later.jpg", pictures/"torn.jpg"]
    first = encode(encoder, paths, tmp_path/"store")
    assert encoder.read == 1 and (first[0] == first[1]).all() and np.isnan(first[2:]).all()
    Image.new("RGB", (30, 30), "navy").save(tmp_path/"later.jpg")
    assert np.isfinite(encode(encoder, paths, tmp_path/"store")[2]).all() and encoder.read == 2


def test_place_and_size_of_the_object_hardly_matter():
    def row(x, y, r):
        picture = Image.new("RGB", (300, 240), (240, 240, 235))
        ImageDraw.Draw(picture).ellipse((x - r, y - r, x + r, y + 2*r), fill=(30, 90, 160))
        return describe_picture(*find_object(np.asarray(picture)))
    near, far = np.abs(row(80, 80, 40) - row(200, 120, 50)).sum(), np.abs(row(80, 80, 40)).sum()
    assert near < .1*far


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (3, 3), (96, 96)])
def test_describe_any_shape(shape):
    row = describe_picture(np.full((*shape, 3), 7, np.uint8), np.ones(shape, bool))
    assert row.shape == (677,) and np.isfinite(row).all()


def test_parts_by_hand():
    assert abs(colour_histogram(np.random.default_rng(0).integers(0, 256, (500, 3))).sum() - 1) < 1e-5
    grey = np.random.default_rng(0).random((96, 96))
    assert np.allclose(hog(grey), hog(5*grey + 2), atol=1e-4) and hog(grey).shape == (324,)
    assert np.allclose(np.sqrt((hog(grey).reshape(9, 36)**2).sum(1)), 1, atol=1e-4)
    assert abs(local_patterns(255*grey, grey > .2).sum() - 1) < 1e-9
    assert (local_patterns(grey, grey > 2) == 0).all()


def test_equals_plain_torchvision(pictures, squeezenet):
    import torch, torchvision
    path, net = squeezenet
    recipe = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1.transforms()
    picture = Image.open(pictures/"good.jpg").convert("RGB")
    with torch.inference_mode(): plain = net.features(recipe(picture)[None]).mean((2, 3)).numpy()
    assert np.abs(TorchvisionImage("squeezenet1_1", path, device="cpu").transform([pictures/"good.jpg"]) - plain).max() < 1e-4


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pt"])
def test_kinds_of_weight_files(squeezenet, pictures, tmp_path, suffix):
    import torch
    from safetensors.torch import save_file
    path, net = squeezenet
    body = {k.removeprefix("features."): v for k, v in net.state_dict().items() if k.startswith("features.")}
    target = tmp_path/f"body{suffix}"
    if suffix == ".npz": np.savez(target, **{k: v.numpy() for k, v in body.items()})
    elif suffix == ".pt": torch.save({"state_dict": body}, target)
    else: save_file(body, target)
    encoder = image_encoder(f"squeezenet1_1:{target}")
    assert np.allclose(encoder.transform([pictures/"good.jpg"]), TorchvisionImage("squeezenet1_1", path).transform([pictures/"good.jpg"]), atol=1e-5)
    assert encoder.lacking_ == ["classifier.1.bias", "classifier.1.weight"]


def test_npz_with_pickles_is_refused(tmp_path):
    class Malice:
        def __reduce__(self): return os.mkdir, (str(tmp_path/"owned"),)
    np.savez(tmp_path/"m.npz", x=np.array([Malice()], dtype=object))
    with pytest.raises(MmrecError, match="cannot be read"): TorchvisionImage("squeezenet1_1", tmp_path/"m.npz").load()
    assert not (tmp_path/"owned").exists()


def test_foreign_weights_are_refused(squeezenet, tmp_path):
    import torch
    with pytest.raises(MmrecError, match="is it a checkpoint of resnet18"): TorchvisionImage("resnet18", squeezenet[0]).load()
    torch.save([1, 2], tmp_path/"list.pth")
    with pytest.raises(MmrecError, match="no state_dict"): TorchvisionImage("resnet18", tmp_path/"list.pth").load()
    with pytest.raises(MmrecError, match="IMAGENET1K_V2"): TorchvisionImage("resnet50", "IMAGENET1K_V9").key
    with pytest.raises(MmrecError, match="preprocess"): TorchvisionImage(preprocess="bgr")


def test_fetch_weights_checks_the_digest(monkeypatch, tmp_path):
    import hashlib, http.server, threading
    monkeypatch.setenv("TORCH_HOME", str(tmp_path/"torch"))
    content = b"weights"; digits = hashlib.sha256(content).hexdigest()[:8]
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self): self.send_response(200); self.send_header("Content-Length", str(len(content))); self.end_headers(); self.wfile.write(content)
        def log_message(self, *a): pass
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        at = f"http://127.0.0.1:{server.server_port}"
        path = vision.fetch_weights(f"{at}/net-{digits}.pth", "net")
        assert path.read_bytes() == content
        path.write_bytes(b"damaged")
        assert vision.fetch_weights(f"{at}/net-{digits}.pth", "net").read_bytes() == content
        with pytest.raises(MmrecError, match="damaged"): vision.fetch_weights(f"{at}/net-00000000.pth", "net")
        server.shutdown()
    assert vision.fetch_weights(f"{at}/net-{digits}.pth", "net") == path
    with pytest.raises(MmrecError, match="curl -LO"): vision.fetch_weights(f"{at}/net-11111111.pth", "net")
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def spoilt(squeezenet, path, change):
    "SqueezeNet's weights in a file, each changed by name."
    import torch
    torch.save({k: change(k, v.clone()) for k, v in torch.load(squeezenet[0], weights_only=True).items()}, path)
    return path


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_no_number_is_found_at_once(squeezenet, tmp_path, bad):
    "One such weight makes every vector NaN, and NaN means a missing picture."
    def change(name, w):
        if name == "features.9.squeeze.bias": w[2] = bad
        return w
    with pytest.raises(MmrecError, match="1 weights are not finite numbers, features.9.squeeze.bias first") as e:
        TorchvisionImage("squeezenet1_1", spoilt(squeezenet, tmp_path/"w.pth", change)).load()
    assert str(tmp_path/"w.pth") in str(e.value)


def test_numbers_that_overflow_are_no_missing_pictures(squeezenet, tmp_path, pictures):
    huge = spoilt(squeezenet, tmp_path/"w.pth", lambda name, w: w*1e30)
    with pytest.raises(MmrecError, match="not finite"): TorchvisionImage("squeezenet1_1", huge).transform([str(pictures/"good.jpg")])


def test_one_vector_for_all_pictures_is_refused(squeezenet, tmp_path):
    "Different pictures must differ; copies of one, of whatever bytes, need not."
    dead = TorchvisionImage("squeezenet1_1", spoilt(squeezenet, tmp_path/"w.pth", lambda name, w: w*0))
    for i, colour in enumerate("red blue green gold pink black navy tan".split()):
        Image.new("RGB", (40, 40), colour).save(tmp_path/f"{colour}.png")
        Image.new("RGB", (40, 40), "red").save(tmp_path/f"red{i}.png", compress_level=i) # the same to the eye
    unlike = [str(tmp_path/f"{c}.png") for c in "red blue green gold pink black navy tan".split()]
    with pytest.raises(MmrecError, match="8 different pictures get one and the same vector"): dead.transform(unlike)
    with pytest.raises(MmrecError, match="8 different pictures"): encode(dead, unlike)
    assert np.isfinite(dead.transform([str(tmp_path/f"red{i}.png") for i in range(8)]*2)).all()
    assert np.isfinite(dead.transform(unlike[:7])).all() and np.isfinite(TorchvisionImage("squeezenet1_1", squeezenet[0]).transform(unlike)).all()
