"Pictures: the downloader against the loops everybody writes first, and the index of a catalogue of 826,000 items.\n\n    .venv/bin/python bench/downloads.py"
import itertools, json, os, subprocess, sys, tempfile, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np, orjson, pandas as pd, psutil, requests
from mmrec.data.images import PLACEHOLDERS, StatusIndex, download_images
from mmrec.sim.shop import HOST, make_shop
from record import record

os.environ["MMREC_PROGRESS"] = "0"
PICTURES, SLOW, DELAY, ROWS, FILES, RUN = 500, 150, .02, 826_000, 82_600, 2000 # files are shared by ten rows each, or making them would take minutes
SERVER = "import sys; from mmrec.sim.shop import ShopServer\nwith ShopServer(sys.argv[1], delay=float(sys.argv[2])) as s: print(s.url, flush=True); sys.stdin.read()"


def healthy(shop, n):
    "The first `n` items whose picture the host does not spoil."
    items = pd.DataFrame([(r["parent_asin"], next((i["large"] for i in r["images"]), "")) for r in map(json.loads, filter(_readable, open(shop.meta_path, "rb")))], columns=["item", "image_url"])
    name = items["image_url"].str.extract(r"/I/([^.]+)")[0]
    there = {p.stem for p in shop.images_dir.glob("*.jpg")}
    return items[name.isin(there) & ~name.isin([*shop.faults, *PLACEHOLDERS])].drop_duplicates("image_url").head(n)


def _readable(line):
    try: return "parent_asin" in json.loads(line)
    except ValueError: return False


def one_by_one(get, urls, folder):
    "Ask, write, ask the next."
    folder.mkdir()
    for k, url in enumerate(urls): (folder/f"{k}.jpg").write_bytes(get(url, timeout=10).content)


def pooled(urls, folder, workers=16):
    "The same single requests, by a pool of threads."
    folder.mkdir()
    def work(job): (folder/f"{job[0]}.jpg").write_bytes(requests.get(job[1], timeout=10).content)
    with ThreadPoolExecutor(workers) as pool: list(pool.map(work, enumerate(urls)))


def downloads(folder):
    "Pictures a second from a local server in its own process, which takes 20 ms for each answer."
    shop = make_shop(folder/"shop", n_items=800, n_reviews=1000)
    items = healthy(shop, PICTURES)
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(shop.folder), str(DELAY)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        url = server.stdout.readline().strip()
        host = HOST.split("//")[-1]
        urls = [u.replace(f"https://{host}", url) for u in items["image_url"]]
        ways = {"ours": lambda to: download_images(items, to, mirror={host: url}), "loop": lambda to: one_by_one(requests.get, urls[:SLOW], to),
                "session": lambda to: one_by_one(requests.Session().get, urls[:SLOW], to), "pool of 16": lambda to: pooled(urls, to)}
        rates = {name: [] for name in ways}
        for trial in range(3):
            for name, way in ways.items():
                start = time.perf_counter(); got = way(folder/f"{name}{trial}")
                rates[name].append((SLOW if name in ("loop", "session") else len(items))/(time.perf_counter() - start))
                if name == "ours": assert set(got["status"]) == {"ok"}, got["status"].value_counts()
    finally: server.stdin.close(); server.wait()
    rates = {name: float(np.median(r)) for name, r in rates.items()}
    for name, rate in rates.items(): print(f"  {name:<12} {rate:7.1f} pictures/s   ours is {rates['ours']/rate:.1f} times as fast")
    record("data", "downloads vs sequential", rates["ours"], rates["loop"], "pictures/s", f"{len(items)} made-up pictures (the loops: the first {SLOW} of them), local server, {DELAY*1000:g} ms an answer; ours verifies each picture by decoding it",
           session_loop=round(rates["session"], 1), pool_of_16=round(rates["pool of 16"], 1))


def former_open(folder):
    "The way before: read all JSON lines, look at every file of the folder, keep the rows that hold."
    rows = {}
    with open(folder/"index.jsonl", "rb") as lines:
        for line in lines: row = orjson.loads(line); rows[row.pop("url")] = row
    sizes = {f.name: f.stat().st_size for f in os.scandir(folder/"pictures") if f.is_file()}
    return {url: row for url, row in rows.items() if sizes.get(row["file"], -1) == row["bytes"]}


def rss(): return psutil.Process().memory_info().rss/1e6


def index(folder):
    "Open an index of the whole catalogue; then a second run over all items that finds nothing to do."
    (folder/"pictures").mkdir()
    rng = np.random.default_rng(0)
    names = [f"{x:016x}" for x in rng.integers(0, 2**63, ROWS)]
    urls = [f"https://m.media-amazon.com/images/I/7{n[:9]}L._AC_UL1500_.jpg" for n in names]
    with open(folder/"index.jsonl", "wb") as f:
        for n, u in zip(itertools.cycle(names[:FILES]), urls): f.write(orjson.dumps(dict(url=u, status="ok", reason="", file=f"{n}.jpg", bytes=0, width=320, height=320)) + b"\n")
    for n in names[:FILES]: os.close(os.open(folder/"pictures"/f"{n}.jpg", os.O_CREAT | os.O_WRONLY))
    with StatusIndex(folder) as table:
        table._db.execute("BEGIN")
        for n, u in zip(itertools.cycle(names[:FILES]), urls): table.add(u, status="ok", file=f"pictures/{n}.jpg", bytes=0, width=320, height=320)
        table._db.execute("COMMIT")
    items = pd.DataFrame(dict(item=names, image_url=pd.array(urls, dtype="str")))
    del names, urls
    ours = min(_seconds(lambda: _peek(folder, items)) for _ in range(3))
    items.to_parquet(folder/"items.parquet")
    child = subprocess.run([sys.executable, __file__, "again", str(folder)], text=True, stdout=subprocess.PIPE, check=True)
    again, peak, plain = map(float, child.stdout.split())
    theirs = _seconds(lambda: former_open(folder))
    record("data", "picture index at 826,000 rows", ours, theirs, "seconds", "826,000 rows, 82,600 files: opening the index and checking the 2,000 items of a run; the alternative reads JSON lines and looks at every file",
           second_run_seconds=round(again, 1), second_run_peak_mb=round(peak), items_alone_mb=round(plain))
    print(f"  a second run over all {ROWS:,} items, nothing to fetch: {again:.1f} s, {peak:.0f} MB at its peak, of which {plain:.0f} MB were there before")


def _peek(folder, items):
    with StatusIndex(folder) as table: assert all(map(table.done, items["image_url"].sample(RUN, random_state=0)))


def _seconds(work):
    start = time.perf_counter(); work()
    return time.perf_counter() - start


def again(folder):
    "In a process of its own: time and peak memory of a download that finds everything there."
    import resource
    items = pd.read_parquet(Path(folder)/"items.parquet")
    plain, start = rss(), time.perf_counter()
    table = download_images(items, folder, limit=None)
    seconds = time.perf_counter() - start
    assert (table["status"] == "ok").all() and len(table) == ROWS
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024, plain)


if __name__ == "__main__":
    if sys.argv[1:2] == ["again"]: again(sys.argv[2]); sys.exit()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder)/"index").mkdir()
        if "index" not in sys.argv: downloads(Path(folder))
        index(Path(folder)/"index")
