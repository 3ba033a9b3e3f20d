"""A made-up pair of files as large as Amazon Fashion 2023: 2.5 million reviews (1.05 GB) and 826,000 products (1.42 GB).

The words come from the built-in shop; numbers, widths and skew follow the real files, and so do broken lines, repeated lines and a stray rating of 0.
The same seed writes the same bytes.
"""
import argparse, json, string
from pathlib import Path
import numpy as np
from mmrec.core import atomic_path, progress
from mmrec.data.reading import read_records
from mmrec.sim.shop import make_shop

REVIEWS, USERS, ITEMS = 2_500_939, 2_035_490, 826_108
LETTERS = np.frombuffer((string.ascii_uppercase + string.digits).encode(), "S1")


def names(rng, n, length, prefix):
    "n different identifiers."
    made = rng.choice(LETTERS, (n, length)).view(f"S{length}").ravel()
    return [prefix + x.decode() for x in made]


def shuffled_texts(shop, key):
    "JSON-encoded texts of the shop's reviews or titles of its items."
    path = shop.meta_path if key == "features" else shop.reviews_path
    found = (record.get(key) for _, record in read_records(path))
    return [json.dumps(t) for t in found if t]


def write_reviews(path, rng, texts, titles, users, items, n, block=50_000):
    "Reviews: most users once, few items often, five stars most often."
    who, what = users[rng.integers(0, len(users), n)], items[(len(items)*rng.random(n)**3).astype(int)]
    stars = rng.choice([5, 4, 3, 2, 1], n, p=[.59, .14, .10, .06, .11])
    when = rng.integers(1_262_304_000_000, 1_694_000_000_000, n)
    with open(path, "w", encoding="utf8") as f:
        for start in progress(range(0, n, block), "write reviews", unit="block"):
            k = min(block, n - start)
            first, more, title = rng.integers(0, len(texts), k), rng.integers(0, len(texts), k), rng.integers(0, len(titles), k)
            long, luck, vote = rng.random(k) < .32, rng.random(k), rng.geometric(.6, k) - 1
            lines = []
            for j in range(k):
                i = start + j
                text = texts[first[j]] if not long[j] else texts[first[j]][:-1] + " " + texts[more[j]][1:]
                line = (f'{{"rating": {stars[i]}.0, "title": {titles[title[j]]}, "text": {text}, "images": [], "asin": "{what[i]}", "parent_asin": "{what[i]}", '
                        f'"user_id": "{who[i]}", "timestamp": {when[i]}, "helpful_vote": {vote[j]}, "verified_purchase": {"true" if luck[j] < .93 else "false"}}}\n')
                if luck[j] < .0001: line = line[:len(line)//2] + "\n"
                elif luck[j] > .99: lines.append(line)
                elif luck[j] > .98995: line = line.replace('"rating": ', '"rating": 0')
                lines.append(line)
            f.writelines(lines[:k])


def write_items(path, rng, sentences, titles, items, block=20_000):
    "Items: a title, three features, four pictures in three sizes, details."
    with open(path, "w", encoding="utf8") as f:
        for start in progress(range(0, len(items), block), "write items", unit="block"):
            k = min(block, len(items) - start)
            title, pick, pictures = rng.integers(0, len(titles), k), rng.integers(0, len(sentences), (k, 3)), rng.integers(0, 1 << 62, (k, 4))
            lines = []
            for j in range(k):
                base = [f"https://m.media-amazon.com/images/I/{p:011x}"[:47] for p in pictures[j].tolist()]
                images = ", ".join(f'{{"thumb": "{b}._AC_SR38,50_.jpg", "large": "{b}._AC_.jpg", "variant": "PT{v:02d}", "hi_res": "{b}._AC_UL1500_.jpg"}}' for v, b in enumerate(base))
                features = ", ".join(sentences[s] for s in pick[j].tolist())
                lines.append(f'{{"main_category": "AMAZON FASHION", "title": {titles[title[j]]}, "average_rating": 4.1, "rating_number": 7, "features": [{features}], "description": [], '
                             f'"price": null, "images": [{images}], "videos": [], "store": "Shop", "categories": [], "details": {{"Department": "womens", "Date First Available": "March 15, 2019"}}, '
                             f'"parent_asin": "{items[start + j]}", "bought_together": null}}\n')
            f.writelines(lines)


def generate(folder, share=1.0, seed=0):
    "Write the two files under `folder`, unless they are there; their paths."
    folder, rng = Path(folder), np.random.default_rng(seed)
    reviews, items = folder/"Amazon_Fashion.jsonl", folder/"meta_Amazon_Fashion.jsonl"
    if reviews.exists() and items.exists(): return reviews, items
    folder.mkdir(parents=True, exist_ok=True)
    shop = make_shop(folder/"words", 300, 10_000, seed)
    texts, titles = (shuffled_texts(shop, k) for k in ("text", "title"))
    asins, users = np.array(names(rng, int(ITEMS*share), 8, "B0")), np.array(names(rng, int(USERS*share), 27, "A"))
    with atomic_path(reviews) as tmp: write_reviews(tmp, rng, texts, titles, users, asins, int(REVIEWS*share))
    with atomic_path(items) as tmp: write_items(tmp, rng, texts, titles, asins[rng.permutation(len(asins))])
    return reviews, items


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", help="where to write")
    parser.add_argument("--share", type=float, default=1.0, help="of the full size (default 1.0)")
    args = parser.parse_args()
    for path in generate(args.folder, args.share): print(f"{path}: {path.stat().st_size/1e9:.2f} GB")
