"""How fast are the encoders, against the course project's loop, against sentence-transformers, and against the machine?

    python bench/encoders.py                                        about 6 minutes on two cores
    python bench/encoders.py --weights squeezenet1_1.npz --preprocess caffe-bgr --catalogue FOLDER
                                                                    also: does a classifier notice fast features of real weights?
                                                                    (FOLDER: a catalogue with items.csv and pictures/)

Full-size DistilBERT and ResNet50 with made-up weights (speed does not depend on them), MiniLM with its own. The ways take turns,
three rounds; the median of each counts. Texts are made up, their lengths are lognormal like those of reviews: median 24 word pieces,
cut at 128. Pictures are made up: 500 pixels, and 1,500 as in Amazon's `hi_res`, which is what the course project downloads.
"""
import argparse, re, shutil, statistics, tempfile, time
from pathlib import Path
from unittest.mock import patch as mock
import numpy as np
from record import RESULTS, machine, record
from mmrec.core import PALETTE, figure_style
from mmrec.features.engines import check_torch, cosines, has_openvino, product_rate
from mmrec.features.encode import encode
from mmrec.sim.pictures import COLOURS, GARMENTS, draw_item
from mmrec.eval.statistics import compare_paired
from mmrec.features.text import TransformerText, calibration_texts, minilm_folder, text_encoder
from mmrec.features.vision import TorchvisionImage, image_encoder

ROUNDS = 3
TEXTS = "made-up texts, lognormal lengths (median 24 word pieces, at most 128)"


def take_turns(ways, rounds=ROUNDS):
    "Rates (median of the rounds) and last results of {name: (number of inputs, function)}; a first turn of each, which compiles and warms, does not count."
    rates, results = {name: [] for name in ways}, {}
    for _, way in ways.values(): way()
    for round in range(rounds):
        for name, (n, way) in ways.items():
            start = time.perf_counter()
            results[name] = way()
            rates[name].append(n/(time.perf_counter() - start))
            print(f"  round {round + 1}  {name:36} {rates[name][-1]:8.1f}/s", flush=True)
    return {name: statistics.median(r) for name, r in rates.items()}, results


def highest_rate(dtype):
    "What a plain product reaches at its best: threads of other libraries that still wait for work slow the first tries."
    return max((time.sleep(.5), product_rate(dtype, 2048))[1] for _ in range(8))


def made_up_texts(n, tokenizer, seed=0):
    "Different texts with lengths like those of reviews."
    rng, words = np.random.default_rng(seed), " ".join(calibration_texts()).split()
    lengths = np.exp(rng.normal(np.log(24), .8, n)).astype(int).clip(1, 126)
    texts = [" ".join(rng.choice(words, length)) for length in lengths]
    return [tokenizer.decode(tokenizer(t, truncation=True, max_length=max(3, length + 2))["input_ids"], skip_special_tokens=True) for t, length in zip(texts, lengths)]


def text_bench(folder):
    import torch
    from transformers import AutoModel, AutoTokenizer, DistilBertConfig, DistilBertModel
    torch.manual_seed(0)
    DistilBertModel(DistilBertConfig()).save_pretrained(folder)
    for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        if (minilm_folder()/name).exists(): shutil.copy(minilm_folder()/name, folder)
    tokenizer, net = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    texts = made_up_texts(1600, tokenizer)
    lengths = np.array([len(i) for i in tokenizer(texts, truncation=True, max_length=128)["input_ids"]])
    few = np.argsort(lengths, kind="stable")[np.linspace(0, len(texts) - 1, 48).astype(int)] # as long as all of them

    def plain(which, **padding):
        out = []
        with torch.no_grad():
            for at in which:
                block = tokenizer([texts[i] for i in at], return_tensors="pt", truncation=True, max_length=128, **padding)
                out.append(net(**block).last_hidden_state[:, 0, :].numpy())
        return np.concatenate(out)

    options = dict(pooling="cls", device="cpu")
    exact, fast = TransformerText(folder, **options).load(), TransformerText(folder, precision="fast", **options).load()
    with mock("mmrec.features.engines.has_openvino", return_value=False): by_torch = TransformerText(folder, **options).load()
    shuffled = np.random.default_rng(1).permutation(len(texts))
    ways = {"one by one, padded to 128": (48, lambda: plain([[i] for i in few], padding="max_length")),
            "one by one": (48, lambda: plain([[i] for i in few])),
            "32 at a time": (128, lambda: plain(np.split(shuffled[:128], 4), padding=True)),
            "sorted, token budget": (480, lambda: by_torch.transform([texts[i] for i in shuffled[:480]])),
            "the same, compiled (exact)": (480, lambda: exact.transform([texts[i] for i in shuffled[:480]])),
            f"the same in {fast.kind} (fast)": (1600, lambda: fast.transform(texts))}
    rates, out = take_turns(ways)
    names = list(ways)
    reference = exact.transform(texts)
    same = {names[0]: cosines(reference[few], out[names[0]]), names[1]: cosines(reference[few], out[names[1]]), names[2]: cosines(reference[shuffled[:128]], out[names[2]]),
            names[3]: cosines(reference[shuffled[:480]], out[names[3]]), names[4]: cosines(out[names[0]], reference[few]), names[5]: cosines(reference, out[names[5]])}
    steps = {name: [round(rates[name], 1), round(float(same[name].mean()), 6)] for name in names}
    data = f"full DistilBERT architecture with made-up weights; {TEXTS}"
    record("encoders", "text exact vs course loop", rates[names[4]], rates[names[0]], "texts/s", data, cosine=float(same[names[4]].mean()))
    record("encoders", "text fast vs course loop", rates[names[5]], rates[names[0]], "texts/s", data, kind=fast.kind, cosine=float(same[names[5]].mean()),
           lowest_cosine=float(same[names[5]].min()), steps=steps)
    # multiplications and additions of the linear layers and of attention, for tokens that are there
    operations = (85e6*lengths + 2*2*6*768*lengths.astype(float)**2).mean()
    bits = {"int8": torch.int8, "bfloat16": torch.bfloat16}.get(fast.kind, torch.float32)
    peak, peak32 = highest_rate(bits), highest_rate(torch.float32)
    record("encoders", "text fast share of int8 peak", rates[names[5]]*operations/1e9, peak, "GOP/s", data, kind=fast.kind)
    record("encoders", "text exact share of 32-bit peak", rates[names[4]]*operations/1e9, peak32, "GFLOP/s", data)
    return texts, steps


def sentence_transformers_bench(texts):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, Pooling, Transformer
    words = Transformer(str(minilm_folder()), max_seq_length=128)
    theirs = SentenceTransformer(modules=[words, Pooling(384), Normalize()], device="cpu")
    exact, usual = text_encoder("minilm", precision="exact", device="cpu").load(), text_encoder("minilm", device="cpu").load()
    ways = {"sentence-transformers": (len(texts), lambda: theirs.encode(texts)), "ours, exact": (len(texts), lambda: exact.transform(texts)),
            f"ours, {usual.kind}": (len(texts), lambda: usual.transform(texts))}
    rates, out = take_turns(ways)
    data = f"MiniLM; {TEXTS}"
    record("encoders", "text vs sentence-transformers", rates["ours, exact"], rates["sentence-transformers"], "texts/s", data,
           cosine=float(cosines(out["sentence-transformers"], out["ours, exact"]).mean()))
    if usual.kind != "exact":
        record("encoders", f"text {usual.kind} vs sentence-transformers", rates[f"ours, {usual.kind}"], rates["sentence-transformers"], "texts/s", data,
               cosine=float(cosines(out["sentence-transformers"], out[f"ours, {usual.kind}"]).mean()))


def made_up_pictures(folder, side, n=64):
    "Drawn products as JPEG files of `side` pixels, with the grain of a photograph."
    from PIL import Image
    folder.mkdir()
    paths, looks = [], [(g, c) for g in GARMENTS for c in COLOURS]
    for i in range(n):
        rng = np.random.default_rng(i)
        picture = np.asarray(draw_item(*looks[i % len(looks)], "plain", "neat", rng, size=500).resize((side, side)), dtype=float)
        Image.fromarray((picture + rng.normal(0, 3, picture.shape)).clip(0, 255).astype(np.uint8)).save(folder/f"{i}.jpg", quality=88)
        paths.append(str(folder/f"{i}.jpg"))
    return paths


def keras_loop(paths):
    "The course project's way: each picture by `predict`."
    import keras
    from keras.applications.resnet50 import ResNet50, preprocess_input
    net = ResNet50(weights=None, include_top=False, pooling="avg")
    def one(path):
        x = keras.utils.img_to_array(keras.utils.load_img(path, target_size=(224, 224)))
        return net.predict(preprocess_input(x[None]), verbose=0)
    one(paths[0])
    return lambda: [one(p) for p in paths]


def image_bench(folder):
    import torch, torchvision
    from PIL import Image
    torch.manual_seed(0)
    net = torchvision.models.resnet50(weights=None)
    torch.save(net.state_dict(), folder/"resnet50.pth")
    net.fc = torch.nn.Identity()
    net, recipe = net.eval(), torchvision.models.ResNet50_Weights.IMAGENET1K_V1.transforms()

    def plain(paths):
        with torch.no_grad(): return np.concatenate([net(recipe(Image.open(p).convert("RGB"))[None]).numpy() for p in paths])

    exact, fast = (TorchvisionImage("resnet50", folder/"resnet50.pth", device="cpu", precision=p).load() for p in ("exact", "fast"))
    block = np.random.default_rng(0).integers(0, 256, (4, 224, 224, 3), dtype=np.uint8)
    rates, _ = take_turns({"network alone": (64, lambda: list(exact.engine_.stream((i, (block,)) for i in range(16))))})
    record("encoders", "image exact share of 32-bit peak", rates["network alone"]*8.2, highest_rate(torch.float32), "GFLOP/s", "ResNet50 with made-up weights, network alone")
    steps = {}
    for side in (1500, 500):
        paths = made_up_pictures(folder/str(side), side)
        ways = {"torch, one by one": (32, lambda: plain(paths[:32])), "exact": (64, lambda: exact.transform(paths)),
                f"fast ({fast.kind})": (192, lambda: fast.transform(paths*3))}
        if side == 1500: ways["keras, one by one"] = (16, keras_loop(paths[:16]))
        rates, out = take_turns(ways)
        ours, theirs, name = out[f"fast ({fast.kind})"][:64], plain(paths), "" if side == 1500 else f" ({side} px)"
        data = f"ResNet50 with made-up weights; 64 made-up JPEG pictures of {side} x {side} pixels"
        facts = lambda v: dict(cosine=float(cosines(theirs, v).mean()), centred_cosine=float(cosines(theirs, v, centred=True).mean()))
        record("encoders", "image exact vs torch one by one" + name, rates["exact"], rates["torch, one by one"], "pictures/s", data, **facts(out["exact"]))
        record("encoders", "image fast vs torch one by one" + name, rates[f"fast ({fast.kind})"], rates["torch, one by one"], "pictures/s", data, kind=fast.kind, **facts(ours))
        if side == 1500:
            steps = {way: round(rate, 1) for way, rate in rates.items()}
            record("encoders", "image exact vs keras predict", rates["exact"], rates["keras, one by one"], "pictures/s", data, steps=steps)
            record("encoders", "image fast vs keras predict", rates[f"fast ({fast.kind})"], rates["keras, one by one"], "pictures/s", data, kind=fast.kind)
    return steps


KINDS = {"T-shirt": ("t-shirt", "t shirt", "tshirt", "tee"), "tank top": ("tank", "camisole", "cami"), "hoodie": ("hoodie", "sweatshirt", "hooded"), "jacket": ("jacket", "coat", "vest", "blazer"),
         "knitwear": ("sweater", "cardigan", "pullover"), "dress": ("dress", "skirt"), "blouse": ("blouse", "tunic", "button")}
SHADES = {"black": ("black",), "white": ("white", "ivory", "cream"), "blue": ("blue", "navy", "teal", "turquoise"), "red": ("red", "burgundy", "wine"), "pink": ("pink", "rose", "coral"),
          "grey": ("grey", "gray", "charcoal", "heather"), "green": ("green", "olive", "mint"), "purple": ("purple", "lilac", "violet")}


def named(text, words):
    "The one class whose words stand in the text; None where none or several do."
    found = {name for name, any_of in words.items() if re.search(rf"\b({'|'.join(any_of)})s?\b", text.lower())}
    return found.pop() if len(found) == 1 else None


def catalogue(folder):
    "Pictures of a catalogue (items.csv with asin, title, color; pictures/ASIN.jpg), and what its titles and colours say of them."
    import pandas as pd
    items = pd.read_csv(Path(folder)/"items.csv").fillna("")
    paths = [str(Path(folder)/"pictures"/f"{asin}.jpg") for asin in items["asin"]]
    return paths, dict(garment=[named(t, KINDS) for t in items["title"]], colour=[named(c, SHADES) for c in items["color"]])


def drawings(folder, n=2000):
    "Pictures of the built-in shop, and what was drawn."
    rng = np.random.default_rng(0)
    looks = [tuple(map(str, (rng.choice(GARMENTS), rng.choice(list(COLOURS)), rng.choice(["plain", "striped", "checked", "dotted", "floral"])))) for _ in range(n)]
    paths = [str(folder/f"drawn{i}.jpg") for i in range(n)]
    for i, (path, look) in enumerate(zip(paths, looks)): draw_item(*look, "neat", np.random.default_rng(i)).save(path)
    return paths, dict(zip(("garment", "colour", "pattern"), map(list, zip(*looks))))


def classifier_bench(args, folder):
    "Does a classifier notice? The same linear classifier on exact and on fast features, asked what the features can tell."
    sets = {"drawn products (made-up)": drawings(folder)} | ({"catalogue of apparel (real)": catalogue(args.catalogue)} if args.catalogue else {})
    for name, (paths, tasks) in sets.items():
        encoders = {p: image_encoder(f"squeezenet1_1:{args.weights}", precision=p, preprocess=args.preprocess) for p in ("exact", "fast", "int8") if p != "int8" or has_openvino()}
        features = {p: encode(encoder, paths) for p, encoder in encoders.items()}
        for task, labels in tasks.items(): judge_features(name, task, np.array(labels, dtype=object), features, encoders)


def judge_features(name, task, labels, features, encoders):
    "Accuracy of one task with each precision, beside the majority's and the paired difference to exact features."
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    known = np.flatnonzero([x is not None for x in labels] & np.isfinite(features["exact"]).all(1))
    train, test = np.split(np.random.default_rng(0).permutation(known), [len(known)//2])
    judges = {p: make_pipeline(StandardScaler(), RidgeClassifierCV([10, 100, 1000, 10_000])).fit(v[train], labels[train].astype(str)) for p, v in features.items()}
    right = {p: (judge.predict(features[p][test]) == labels[test].astype(str)).astype(float) for p, judge in judges.items()}
    common = max(set(labels[train]), key=list(labels[train]).count)
    for precision in [p for p in right if p != "exact"]:
        gain = compare_paired(right[precision], right["exact"])
        facts = {fact: float(cosines(features["exact"][test], features[precision][test], centred=c).mean()) for fact, c in (("cosine", False), ("centred_cosine", True))}
        record("encoders", f"{task} told by {precision} against exact image features, {name}", right[precision].mean(), right["exact"].mean(), "accuracy",
               f"{name}; SqueezeNet with real weights, linear classifier, {len(test):,} test pictures, {len(set(labels[known]))} classes", kind=encoders[precision].kind,
               majority=round(float((labels[test] == common).mean()), 3), difference=float(gain.gain), low=float(gain.low), high=float(gain.high), **facts)


def draw(texts, pictures):
    "The figure of all steps."
    import matplotlib.pyplot as plt
    figure_style()
    fig, axes = plt.subplots(1, 2, figsize=(10, 2.6))
    for ax, steps, what in ((axes[0], {k: v[0] for k, v in texts.items()}, "texts a second (DistilBERT)"), (axes[1], dict(sorted(pictures.items(), key=lambda s: s[1])), "pictures a second (ResNet50, 1,500 px)")):
        bars = ax.barh(list(steps), list(steps.values()), color=PALETTE[0])
        ax.bar_label(bars, fmt=" %.0f"); ax.invert_yaxis(); ax.grid(False, axis="y"); ax.set(xlabel=what, xlim=(0, 1.15*max(steps.values())))
    fig.savefig(RESULTS/"encoders.png", dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", help="SqueezeNet 1.1 weights, for the classifier's accuracy")
    parser.add_argument("--preprocess", default="imagenet", help="imagenet or caffe-bgr, as the weights want it")
    parser.add_argument("--catalogue", help="folder with items.csv (asin, title, color) and pictures/ASIN.jpg, for the same on real pictures")
    parser.add_argument("--only", choices=("text", "pictures", "accuracy"), help="one part")
    args = parser.parse_args()
    check_torch()
    print(machine(), "" if has_openvino() else "(without OpenVINO: pip install mmrec[fast])")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        if args.only in (None, "text"):
            texts, text_steps = text_bench(folder)
            sentence_transformers_bench(texts[:800])
        if args.only in (None, "pictures"): picture_steps = image_bench(folder)
        if args.only is None: draw(text_steps, picture_steps)
        if args.weights and args.only in (None, "accuracy"): classifier_bench(args, folder)
