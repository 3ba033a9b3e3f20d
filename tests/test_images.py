"The picture downloader against a server that does everything a picture host should not."
import gzip, hashlib, io, os, shutil, signal, socket, struct, subprocess, sys, textwrap, threading, time, zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
import numpy as np, pandas as pd, pytest
from fault_server import FaultServer
from PIL import Image
from mmrec.data import images
from mmrec.core import MmrecError
from mmrec.data.images import (ImageClient, ImageError, StatusIndex, _parallel, attach_images, check_bytes, check_images, check_url,
                          contact_sheet, download_images, open_image, open_picture, plot_statuses, rendition, status_counts)

HOST = "https://shop.invalid"
QUICK = dict(timeout=(2, .6), retries=2, max_seconds=4, backoff=.01)


def jpeg(seed=0, side=64, **options):
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype="uint8")
    out = io.BytesIO(); Image.fromarray(pixels).save(out, options.pop("format", "JPEG"), **options)
    return out.getvalue()


def pixel_bomb(side):
    "A PNG of a few hundred kilobytes at most that unpacks to side x side pixels."
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(10**7), 9)) + chunk(b"IEND", b"")


BOMB, SUPERBOMB, ZIP = pixel_bomb(9000), pixel_bomb(60000), gzip.compress(bytes(50_000_000))


class Handler(BaseHTTPRequestHandler):
    protocol_version, disable_nagle_algorithm = "HTTP/1.1", True
    def log_message(self, *args): pass

    def answer(self, body=b"", code=200, length=None, **headers):
        self.send_response(code)
        for name, value in headers.items(): self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", len(body) if length is None else length)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        kind, _, number = self.path.lstrip("/").partition(".")[0].partition("-")
        with self.server.lock:
            seen = self.server.seen[self.path] = self.server.seen.get(self.path, 0) + 1
            self.server.peers.add(self.client_address)
        time.sleep(self.server.delay)
        try: getattr(self, "do_" + kind)(number, seen)
        except (BrokenPipeError, ConnectionResetError): self.close_connection = True

    def do_ok(self, number, seen): self.answer(jpeg(int(number or 0)))
    def do_png(self, number, seen): self.answer(jpeg(format="PNG"))
    def do_missing(self, number, seen): self.answer(b"no", 404)
    def do_gone(self, number, seen): self.answer(b"no", 410)
    def do_forbidden(self, number, seen): self.answer(b"no", 403)
    def do_broken(self, number, seen): self.answer(b"no", 500)
    def do_once(self, number, seen): self.answer(jpeg(), 200) if seen > 1 else self.answer(b"", 503, Retry_After="0")
    def do_busy(self, number, seen): self.answer(jpeg(), 200) if seen > 1 else self.answer(b"", 429, Retry_After="1")
    def do_closed(self, number, seen): self.answer(b"", 429, Retry_After="3600")
    def do_dated(self, number, seen): self.answer(b"", 503, Retry_After="Fri, 31 Dec 2100 23:59:59 GMT")
    def do_html(self, number, seen): self.answer(b"<html>sorry</html>", Content_Type="image/jpeg")
    def do_noise(self, number, seen): self.answer(os.urandom(5000))
    def do_empty(self, number, seen): self.answer(b"")
    def do_pixel(self, number, seen): self.answer(jpeg(side=1, format="PNG"))
    def do_short(self, number, seen): self.answer(jpeg()[:900], length=5000); self.close_connection = True
    def do_cut(self, number, seen): self.answer(jpeg()[:900])
    def do_lie(self, number, seen): self.answer(jpeg(), length=700)
    def do_huge(self, number, seen): self.answer(b"", length=10**12)
    def do_circle(self, number, seen): self.answer(b"", 302, Location=self.path)
    def do_away(self, number, seen): self.answer(b"", 301, Location="/ok-7.jpg")
    def do_file(self, number, seen): self.answer(b"", 302, Location="file:///etc/passwd")
    def do_inside(self, number, seen): self.answer(b"", 302, Location="http://169.254.169.254/latest/meta-data")
    def do_blank(self, number, seen): self.answer(b"", 302, Location=HOST + "/01RmK+J4pJL._AC_.jpg")
    def do_weird(self, number, seen): self.answer(b"", 302, Location="http://[::1/x.jpg")
    def do_gzip(self, number, seen): self.answer(gzip.compress(jpeg()), Content_Encoding="gzip")
    def do_zip(self, number, seen): self.answer(ZIP, Content_Encoding="gzip")
    def do_bomb(self, number, seen): self.answer(BOMB)
    def do_superbomb(self, number, seen): self.answer(SUPERBOMB)
    def do_stall(self, number, seen): self.server.over.wait(5); self.close_connection = True
    def do_drop(self, number, seen): self.connection.shutdown(socket.SHUT_RDWR); self.close_connection = True
    def do_babble(self, number, seen): self.wfile.write(b"HELO pictures\r\n\r\n"); self.close_connection = True

    def do_endless(self, number, seen):
        self.send_response(200); self.end_headers(); self.close_connection = True
        while True: self.wfile.write(bytes(1 << 16))

    def do_drip(self, number, seen): self.drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", bytes(1000))
    def do_driphead(self, number, seen): self.drip(b"", b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a"*1000)
    def drip(self, first, rest):
        self.wfile.write(first)
        for byte in rest:
            if self.server.over.wait(.1): break
            self.wfile.write(bytes([byte]))
        self.close_connection = True

    def do_chunks(self, number, seen):
        data = jpeg()
        self.send_response(200); self.send_header("Transfer-Encoding", "chunked"); self.end_headers()
        for part in (data[:1000], data[1000:]): self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        if number: self.close_connection = True
        else: self.wfile.write(b"0\r\n\r\n")


class Server(ThreadingHTTPServer):
    daemon_threads, request_queue_size = True, 128
    def handle_error(self, *args): pass


@pytest.fixture
def server():
    web = Server(("127.0.0.1", 0), Handler)
    web.seen, web.peers, web.delay, web.lock, web.over = {}, set(), 0, threading.Lock(), threading.Event()
    web.url = f"http://127.0.0.1:{web.server_port}"
    threading.Thread(target=web.serve_forever, kwargs=dict(poll_interval=.01), daemon=True).start()
    yield web
    web.over.set(); web.shutdown(); web.server_close()


def items_of(*names, host=HOST):
    return pd.DataFrame(dict(item=list(names), image_url=[f"{host}/{n}.jpg" if n else "" for n in names]))


def get(server, names, folder, **options):
    return download_images(items_of(*names), folder, mirror={"shop.invalid": server.url}, **{**QUICK, **options})


FAULTS = {"ok": "ok", "png": "ok", "once": "ok", "away": "ok", "gzip": "ok", "chunks": "ok", "busy": "ok",
          "missing": "http 404", "gone": "http 410", "forbidden": "http 403", "broken": "http 500", "dated": "http 503",
          "html": "not an image", "noise": "not an image", "empty": "not an image", "pixel": "placeholder", "blank": "placeholder",
          "short": "truncated", "cut": "truncated", "lie": "truncated", "chunks-cut": "truncated",
          "huge": "too large", "zip": "too large", "bomb": "too large", "superbomb": "too large", "endless": "too large",
          "circle": "too many redirects", "file": "bad url", "weird": "bad url", "inside": "refused address",
          "stall": "timeout", "drip": "timeout", "driphead": "timeout", "drop": "connection error", "babble": "connection error"}


def test_every_fault_has_its_word(server, tmp_path):
    table = get(server, FAULTS, tmp_path)
    assert dict(zip(table.item, table.status)) == FAULTS
    ok = table[table.status == "ok"]
    assert all(Path(p).is_absolute() and Path(p).stat().st_size == n for p, n in zip(ok.path, ok.bytes))
    assert set(ok.width) == set(ok.height) == {64}
    assert set(table.path[table.status != "ok"]) == {""}
    assert (table.reason[table.status != "ok"] != "").all()
    assert not list(tmp_path.glob(".*"))
    assert {p for p in tmp_path.rglob("*") if p.is_file()} == {*map(Path, ok.path), tmp_path/"index.sqlite"}
    assert all(hashlib.sha256(Path(p).read_bytes()).hexdigest() == Path(p).stem and Path(p).parent.name == Path(p).stem[:2] for p in ok.path)


WHOLE = {"plain", "zeros-before-length", "length-twice", "length-empty", "chunked", "chunk-extension", "trailers", "name-utf8", "value-utf8", "value-latin1", "value-bytes", "value-nul", "no-colon", "no-name", "folded",
         "space-in-name", "etag-odd", "etag-folded", "etag-long", "modified-odd", "type-odd", "encoding-odd", "date-far", "cookies", "cookie-odd", "cookie-long", "header-names", "continue"}


def test_no_header_ends_more_than_its_own_picture(tmp_path):
    "Raw answers with every kind of odd header, and answers without an end: each has its word, the good ones between them arrive."
    body, start = jpeg(), time.monotonic()
    with FaultServer(body) as odd:
        names = [n for fault in [*odd.once, *odd.ever] for n in (fault, f"plain/{fault}")]
        items = pd.DataFrame(dict(item=names, image_url=[f"{odd.url}{n}" for n in names]))
        table = download_images(items, tmp_path, allow_private=True, timeout=(1, .5), retries=1, backoff=.01, max_seconds=2, max_bytes=1_000_000)
    assert {n for n, s in zip(table.item, table.status) if s == "ok"} == WHOLE | {n for n in names if n.startswith("plain/")}
    assert time.monotonic() - start < 60
    bad = table[table.status != "ok"].set_index("item")
    assert all(r.isprintable() and len(r) <= 200 for r in table.reason) and all(bad.reason[~bad.index.str.startswith("status-")])
    assert set(bad.status[bad.index.str.startswith("drip-")]) == {"timeout"} and set(bad.status[["flood-continue", "flood-trailers", "flood-body", "bomb-gzip", "length-digits"]]) == {"too large"}
    assert set(bad.status[["length-negative", "length-text", "length-square", "length-two"]]) == {"bad answer"} and bad.status["redirect-bomb"] == "http 302"


def test_addresses_as_data_write_them(server, tmp_path):
    "HTML's &, blanks, letters outside ASCII, a break inside, hosts in other scripts: asked as a browser would, once."
    class Paths(Handler):
        def do_GET(self):
            with self.server.lock: self.server.seen[self.path] = 1
            if self.path.startswith("/to"): return self.answer(b"", 302, **{"Location": {"/to-utf8": "/größe/图 1.jpg".encode().decode("latin1"), "/to-blank": "/red hat.jpg", "/to-amp": "/q?w=1&amp;h=2", "/to-latin1": "/gr\xf6sse"}[self.path]})
            self.answer(jpeg(len(self.path)))
    server.RequestHandlerClass = Paths
    asked = {"/a?w=1&amp;h=2": "/a?w=1&h=2", "/a?w=1&#38;h=3": "/a?w=1&h=3", "/red dress 1.jpg": "/red%20dress%201.jpg", "/red%20dress%202.jpg": "/red%20dress%202.jpg", "/größe.jpg": "/gr%C3%B6%C3%9Fe.jpg", "/100%.jpg": "/100%25.jpg",
             "/line\nbreak.jpg": "/linebreak.jpg", "/x.jpg#main": "/x.jpg", "/to-utf8": "/gr%C3%B6%C3%9Fe/%E5%9B%BE%201.jpg", "/to-blank": "/red%20hat.jpg", "/to-amp": "/q?w=1&h=2", "/to-latin1": "/gr%F6sse"}
    items = pd.DataFrame(dict(item=range(len(asked)), image_url=[HOST + path for path in asked]))
    table = download_images(items, tmp_path, mirror={"shop.invalid": server.url}, **QUICK)
    assert set(table.status) == {"ok"} and set(asked.values()) <= set(server.seen)
    assert not [p for p in server.seen if "amp;" in p or "%25" in p and "100" not in p or "%2520" in p]
    odd = pd.DataFrame(dict(item=range(3), image_url=["http://größe.shop.invalid/a.jpg", "http://xn--gre-6ka8i.shop.invalid/a.jpg", "http://１２７.0.0.1/a.jpg"]))
    assert list(download_images(odd, tmp_path/"hosts", timeout=(.5, .5), retries=0).status)[2] in ("refused address", "bad url")


def test_second_run_asks_only_for_what_may_have_changed(server, tmp_path):
    names = ["ok", "missing", "html", "circle", "blank", "broken", "short", "drop"]
    first = get(server, names, tmp_path)
    server.seen.clear()
    again = get(server, names, tmp_path)
    assert set(server.seen) == {"/broken.jpg", "/short.jpg", "/drop.jpg"}
    pd.testing.assert_frame_equal(first, again)


def test_lost_or_shortened_file_is_fetched_again(server, tmp_path):
    paths = get(server, ["ok-1", "ok-2", "ok-3"], tmp_path).path
    whole = Path(paths[1]).read_bytes()
    Path(paths[0]).unlink(); Path(paths[1]).write_bytes(whole[:100])
    server.seen.clear()
    get(server, ["ok-1", "ok-2", "ok-3"], tmp_path)
    assert set(server.seen) == {"/ok-1.jpg", "/ok-2.jpg"} and Path(paths[1]).read_bytes() == whole


def test_same_url_is_asked_once(server, tmp_path):
    items = pd.DataFrame(dict(item=["a", "b", "c"], image_url=[HOST + "/ok.jpg"]*3))
    table = download_images(items, tmp_path, mirror={"shop.invalid": server.url})
    assert server.seen == {"/ok.jpg": 1} and table.path.nunique() == 1 and (table.status == "ok").all()


def test_lines_are_kept_open(server, tmp_path):
    get(server, [f"ok-{k}" for k in range(40)], tmp_path, workers=4)
    assert len(server.peers) <= 4


def test_awkward_items(server, tmp_path):
    items = pd.DataFrame(dict(
        item=["../../etc/passwd", "a/b", "a_b", "é"*300, "dup", "dup", 17, "nan", "none", "blank", "ftp", "nohost", "port", "v6", "idna", "spaces"],
        image_url=[f"{HOST}/ok-{k}.jpg" for k in range(7)] + [float("nan"), None, "  ", "ftp://x/y.jpg", "http:///x.jpg", "http://x:99999/y.jpg", "http://[bad/x", "http://.shop.example..com/a.jpg", f" {HOST}/ok-9.jpg "]))
    table = download_images(items, tmp_path, mirror={"shop.invalid": server.url}, **QUICK)
    assert list(table.status[:7]) == ["ok"]*7 and list(table.status[7:10]) == ["no url"]*3
    assert list(table.status[10:15]) == ["bad url"]*5 and table.status[15] == "ok"
    assert table.path[table.path != ""].nunique() == 8
    assert all(Path(p).parent.parent == tmp_path for p in table.path[table.path != ""])
    assert list(table.item) == list(items.item)


def test_limit_counts_pictures_that_would_be_asked(server, tmp_path):
    table = get(server, ["", "ok-1", "ok-2", "ok-3"], tmp_path, limit=2)
    assert list(table.status) == ["no url", "ok", "ok", "not asked"]
    assert list(get(server, ["", "ok-1", "ok-2", "ok-3"], tmp_path, limit=None).status) == ["no url", "ok", "ok", "ok"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/a.jpg", "http://localhost/a.jpg", "http://10.1.2.3/a.jpg", "http://[::1]/a.jpg",
                                 "http://[::ffff:127.0.0.1]/a.jpg", "http://169.254.169.254/a.jpg", "http://0.0.0.0/a.jpg", "http://100.64.0.1/a.jpg", "http://[64:ff9b::7f00:1]/a.jpg", "http://[2002:7f00:1::]/a.jpg",
                                 "http://[::10.0.0.1]/a.jpg", "http://[::ffff:0:10.0.0.1]/a.jpg", "http://[fec0::1]/a.jpg", "http://localhost./a.jpg", " http://127.0.0.1/a.jpg", "http://[fe80::1%25eth0]/a.jpg"])
def test_private_addresses_are_refused(url):
    with pytest.raises(ImageError, match="refused address"): check_url(url)
    check_url(url, allow_private=True)


def test_a_name_that_leads_home_is_refused_before_a_word_is_said(server, tmp_path, monkeypatch):
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *a, **k: real("127.0.0.1" if host == "sneaky.example" else host, *a, **k))
    items = items_of("ok", host=f"http://sneaky.example:{server.server_port}")
    assert list(download_images(items, tmp_path, **QUICK).status) == ["refused address"]
    assert not server.seen
    assert list(download_images(items, tmp_path, allow_private=True, **QUICK).status) == ["ok"]


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "::1", "64:ff9b::a00:1", "2002:a00:1::1", "fec0::1", "100.64.0.1"])
def test_a_name_that_stands_for_a_private_address_gets_no_line(address, tmp_path, monkeypatch):
    "Numbers in other notations and names: the address that the system would go to is looked at, and nothing is sent there."
    called = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port, *a, **k: [(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))])
    monkeypatch.setattr(socket.socket, "connect", lambda self, where: called.append(where))
    items = pd.DataFrame(dict(item=list("abc"), image_url=["http://sneaky.example/a.jpg", "https://2130706433.example/a.jpg", "http://0x7f.1.example/a.jpg"]))
    table = download_images(items, tmp_path, retries=0)
    assert set(table.status) == {"refused address"} and all(address in r for r in table.reason) and not called


def test_a_name_that_changes_its_mind_is_asked_once(server, tmp_path, monkeypatch):
    "DNS rebinding: public at the first look, this machine at the second. There is no second look."
    looks = []
    real = socket.getaddrinfo
    def getaddrinfo(host, port, *args, **options):
        if host != "sneaky.example": return real(host, port, *args, **options)
        looks.append(host)
        return real("192.0.2.7" if len(looks) == 1 else "127.0.0.1", port, *args, **options)
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr("mmrec.net.is_public", lambda address: address == "192.0.2.7")
    gone = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, where: gone.append(where[0]) or (_ for _ in ()).throw(OSError("nobody")))
    download_images(items_of("ok", host=f"http://sneaky.example:{server.server_port}"), tmp_path, retries=0)
    assert gone == ["192.0.2.7"] and not server.seen


def test_a_name_with_many_addresses_is_not_tried_for_ever(tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port, *a, **k: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host if host[0].isdigit() else f"8.8.{i//250}.{i % 250}", port)) for i in range(1 if host[0].isdigit() else 1000)])
    def connect(self, where): tried.append(where); time.sleep(.05); raise TimeoutError("timed out")
    monkeypatch.setattr(socket.socket, "connect", connect)
    table = download_images(items_of("ok", host="http://many.example"), tmp_path, retries=1, backoff=.01)
    assert len(tried) == 8 and table.status[0] == "timeout"


def test_both_families_of_addresses_get_their_turn(server, tmp_path, monkeypatch):
    "Ten addresses of IPv6 that lead nowhere do not keep the one of IPv4 from being tried."
    tried = []
    many = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", (f"2606:4700::{k + 1:x}", 80, 0, 0)) for k in range(10)] + [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *a, **k: many if host == "both.example" else [x for x in many if x[4][0] == host])
    monkeypatch.setattr(socket.socket, "connect", lambda self, where: tried.append(where[0]) or (_ for _ in ()).throw(OSError("nobody")))
    download_images(items_of("ok", host="http://both.example"), tmp_path, retries=0)
    assert tried == ["2606:4700::1", "2606:4700::2", "8.8.8.8"]


def test_a_proxy_keeps_the_bounds(tmp_path, monkeypatch):
    with FaultServer(jpeg()) as proxy:
        class Proxy(FaultServer): pass
        monkeypatch.delenv("NO_PROXY", raising=False); monkeypatch.delenv("no_proxy", raising=False)
        for name in ("http_proxy", "https_proxy"): monkeypatch.setenv(name, proxy.url)
        start = time.monotonic()
        client = ImageClient(timeout=(1, .5), retries=0, max_seconds=1)
        proxy.once["http:"] = proxy.once["plain"]
        assert client.get("http://pictures.example/a.jpg")[1] == ".jpg" # the proxy is asked
        proxy.once.pop("http:"); proxy.ever["http:"] = proxy.ever["drip-header"]
        with pytest.raises(ImageError, match="timeout"): client.get("http://other.example/a.jpg")
        assert time.monotonic() - start < 5


def test_total_time_is_bounded_even_when_bytes_keep_coming(server, tmp_path):
    start = time.monotonic()
    table = get(server, ["drip", "driphead"], tmp_path, max_seconds=1, retries=9)
    assert list(table.status) == ["timeout"]*2 and time.monotonic() - start < 30


def test_dead_host_is_given_up(tmp_path, monkeypatch):
    calls = []
    def nobody(host, *args, **kwargs):
        calls.append(host)
        raise socket.gaierror(-3, "Temporary failure in name resolution")
    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    table = download_images(items_of(*[f"ok-{k}" for k in range(2000)]), tmp_path, retries=3, backoff=.01)
    assert set(table.status) <= {"connection error", "host unreachable"} and len(calls) < 100
    assert (table.status == "host unreachable").sum() > 1900
    assert "resol" in table.reason.iloc[-1]


def test_closed_port_is_given_up(tmp_path):
    with socket.socket() as s: s.bind(("127.0.0.1", 0)); port = s.getsockname()[1]
    items = items_of(*[f"ok-{k}" for k in range(300)])
    table = download_images(items, tmp_path, mirror={"shop.invalid": f"http://127.0.0.1:{port}"}, backoff=.01)
    assert (table.status == "host unreachable").sum() > 200


def test_one_bad_stretch_does_not_close_a_host_that_answers(server, tmp_path):
    names = [f"broken-{k}" if 20 <= k < 60 else f"ok-{k}" for k in range(100)]
    assert status_counts(get(server, names, tmp_path)).set_index("status")["items"].to_dict() == {"ok": 60, "http 500": 40}


def test_host_that_asks_for_an_hour_gets_it(server, tmp_path):
    table = get(server, ["closed"] + [f"ok-{k}" for k in range(30)], tmp_path, workers=1)
    assert set(table.status) == {"http 429"} and sum(server.seen.values()) == 1


def test_uninvited_types(server, tmp_path):
    with pytest.raises(MmrecError, match="image_url"): download_images(pd.DataFrame(dict(item=["a"])), tmp_path)
    empty = download_images(pd.DataFrame(dict(item=[], image_url=[])), tmp_path)
    assert len(empty) == 0 and len(status_counts(empty)) == 0
    plot_statuses(empty); contact_sheet(empty)


def test_folder_that_is_a_file(server, tmp_path):
    (tmp_path/"file").write_text("x")
    with pytest.raises(MmrecError, match="file"): get(server, ["ok"], tmp_path/"file")


def test_full_disk_at_the_index(tmp_path):
    with StatusIndex(tmp_path) as index:
        index._db.execute("PRAGMA max_page_count=4")
        with pytest.raises(MmrecError, match="index.sqlite.*disk is full"):
            for k in range(1000): index.add(f"{HOST}/{k}.jpg", status="http 404", reason="x"*200)
    with StatusIndex(tmp_path) as index: assert index.done(f"{HOST}/0.jpg")


def test_full_disk_at_a_picture(server, tmp_path, monkeypatch):
    def full(*paths): raise OSError(28, "No space left on device")
    with monkeypatch.context() as m:
        m.setattr(os, "replace", full)
        with pytest.raises(MmrecError, match="disk is full"): get(server, ["ok-1", "ok-2"], tmp_path, workers=1)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["index.sqlite"]
    assert set(get(server, ["ok-1", "ok-2"], tmp_path).status) == {"ok"}


def test_no_permission(server, nobodys):
    nobodys.chmod(0o500)
    with pytest.raises(MmrecError, match="permission"): get(server, ["ok"], nobodys/"pictures")


def test_index_that_is_damaged_is_named_and_can_be_moved_away(server, tmp_path):
    get(server, ["ok-1", "ok-2"], tmp_path)
    index = tmp_path/"index.sqlite"
    index.write_bytes(b"\xff\xfe" + os.urandom(5000))
    with pytest.raises(MmrecError, match="index.sqlite.*move it away"): get(server, ["ok-1", "ok-2"], tmp_path)
    index.unlink()
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.jpg")}
    assert set(get(server, ["ok-1", "ok-2"], tmp_path).status) == {"ok"}
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.jpg")} == stamps


def test_torn_log_loses_only_what_was_torn(server, tmp_path):
    names = [f"ok-{k}" for k in range(6)]
    copy, live = tmp_path/"copy", tmp_path/"live"
    with StatusIndex(live) as index:
        for name in names: index.add(f"{HOST}/{name}.jpg", status="http 404", reason="Not Found")
        shutil.copytree(live, copy) # as a power failure would leave it: the log not yet taken up, its end torn off
    log = copy/"index.sqlite-wal"
    log.write_bytes(log.read_bytes()[:-2000])
    with StatusIndex(copy) as index: known = [index.done(f"{HOST}/{name}.jpg") for name in names]
    assert known == [True]*5 + [False]


def test_two_runs_do_not_share_a_folder(server, tmp_path):
    with StatusIndex(tmp_path), pytest.raises(MmrecError, match="another download"): get(server, ["ok"], tmp_path)
    assert list(get(server, ["ok"], tmp_path).status) == ["ok"]


CHILD = textwrap.dedent("""
    import sys, pandas as pd
    from mmrec.data.images import download_images
    folder, url, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
    items = pd.DataFrame(dict(item=[f"i{k}" for k in range(n)], image_url=[f"https://shop.invalid/ok-{k}.jpg" for k in range(n)]))
    print("go", flush=True)
    download_images(items, folder, mirror={"shop.invalid": url}, workers=8)
""")


def child(server, folder, n):
    run = subprocess.Popen([sys.executable, "-c", CHILD, str(folder), server.url, str(n)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           env={**os.environ, "MMREC_PROGRESS": "0"}, start_new_session=True)
    assert run.stdout.readline() == b"go\n", run.stderr.read().decode()
    return run


def pictures(folder): return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and not p.name.startswith("index.")}


def rows(folder):
    with StatusIndex(folder) as index: return sorted(index._db.execute("SELECT * FROM pictures"))


def test_kill_at_any_moment_loses_nothing(server, tmp_path):
    n, rng = 500, np.random.default_rng(0)
    assert child(server, tmp_path/"whole", n).wait() == 0
    server.delay = .03
    for moment in rng.uniform(.02, .25, 10):
        run = child(server, tmp_path/"killed", n)
        time.sleep(moment)
        run.kill(); run.communicate()
        assert run.returncode == -signal.SIGKILL # it was still at work
    server.delay = 0
    before, known = len(pictures(tmp_path/"killed")), len(rows(tmp_path/"killed"))
    assert 0 < known < n and before - known <= 10*8 # what was in flight when the axe fell
    server.seen.clear()
    assert child(server, tmp_path/"killed", n).wait() == 0
    assert pictures(tmp_path/"killed") == pictures(tmp_path/"whole") and len(pictures(tmp_path/"whole")) == n
    assert rows(tmp_path/"killed") == rows(tmp_path/"whole")
    assert len(server.seen) == n - known


def test_ctrl_c_is_quick_and_leaves_a_resumable_state(server, tmp_path):
    server.delay = 2
    run = child(server, tmp_path, 40)
    time.sleep(.5)
    os.kill(run.pid, signal.SIGINT)
    assert b"KeyboardInterrupt" in run.communicate(timeout=20)[1] and run.returncode != 0
    server.delay = 0
    assert child(server, tmp_path, 40).wait() == 0 and len(pictures(tmp_path)) == 40


class Counting(Handler):
    "Counts how many requests are being answered at the same time, for each name by which the server was called."
    def do_GET(self):
        host = self.path.split("/")[1]
        with self.server.lock:
            self.server.now[host] = self.server.now.get(host, 0) + 1
            self.server.most[host] = max(self.server.most.get(host, 0), self.server.now[host])
            self.server.at.append(time.monotonic())
        time.sleep(self.server.delay)
        with self.server.lock: self.server.now[host] -= 1
        self.answer(jpeg(len(self.server.at) % 7))


@pytest.fixture
def counting(server):
    server.RequestHandlerClass, server.now, server.most, server.at, server.delay = Counting, {}, {}, [], .03
    return server


def many_hosts(counting, n, hosts="abc"):
    items = pd.DataFrame(dict(item=range(n*len(hosts)), image_url=[f"https://{h}.invalid/{k}.jpg" for h in hosts for k in range(n)]))
    return items, {f"{h}.invalid": f"{counting.url}/{h}" for h in hosts}


def test_a_host_is_never_asked_more_at_once_than_allowed(counting, tmp_path):
    items, mirror = many_hosts(counting, 30)
    table = download_images(items, tmp_path, mirror=mirror, workers=12, per_host=3)
    assert set(table.status) == {"ok"} and set(counting.most) == {"a", "b", "c"} and all(2 <= most <= 3 for most in counting.most.values()) # none beyond its bound, all kept busy
    assert download_images(items, tmp_path/"one", mirror=mirror, workers=12, per_host=1).status.eq("ok").all()


def test_requests_a_second(counting, tmp_path):
    items, mirror = many_hosts(counting, 12, "a")
    download_images(items, tmp_path, mirror=mirror, per_second=20)
    assert len(counting.at) == 12 and max(counting.at) - min(counting.at) > 11/20 - .1


def test_waiting_for_a_turn_does_not_use_up_the_time_of_a_picture(counting, tmp_path):
    items, mirror = many_hosts(counting, 12, "a")
    assert set(download_images(items, tmp_path, mirror=mirror, per_second=8, max_seconds=.6).status) == {"ok"}


@pytest.mark.parametrize("width", [1, 2, 5, None])
def test_every_job_is_done_once_whatever_the_lanes(width):
    jobs = list(range(500))
    done = [job for job, _ in _parallel(lambda job: job, jobs, 8, threading.Event(), lambda job: job % 3 and job % 7, width)]
    assert sorted(done) == jobs


def test_threads_go_home_when_the_caller_stops_early():
    before = threading.active_count()
    found = _parallel(lambda job: job, iter(range(10**9)), 4, threading.Event(), lambda job: 0, 2)
    next(found); found.close()
    for _ in range(200):
        if threading.active_count() <= before: break
        time.sleep(.02)
    assert threading.active_count() <= before


AMAZON = "https://m.media-amazon.com/images/I/"


@pytest.mark.parametrize("asked, got", [
    ("71abc+D-EFL._AC_UL1500_.jpg", "71abc+D-EFL._AC_SL320_.jpg"), ("51j21TNPYfL._AC_.jpg", "51j21TNPYfL._AC_SL320_.jpg"),
    ("71K9hbS-LCL._SL1500_.jpg", "71K9hbS-LCL._SL320_.jpg"), ("417Gq%2BGW-zL.jpg", "417Gq%2BGW-zL._SL320_.jpg"), ("61x._AC_UX679_.png", "61x._AC_SL320_.png"),
    ("61x._AC_UY1000_.jpg?a=1", "61x._AC_SL320_.jpg?a=1")] + [(same, same) for same in (
    "51r._AC_US40_.jpg", "61x._SL320_.jpg", "41h._SR80,60_.jpg", "31h._SX38_SY50_CR0,0,38,50_.jpg", "01RmK+J4pJL._AC_.gif", "B1i._CLa%7C500_AC_UL1500_.png", "x/y._SL1500_.jpg", "")])
def test_renditions_of_amazon(asked, got):
    for host in ("m.media-amazon.com", "images-na.ssl-images-amazon.com", "images-amazon.com", "ecx.images-amazon.com"):
        base = f"https://{host}/images/I/"
        assert rendition(base + asked, 320) == base + got and rendition(base + asked, None) == base + asked
    for host in ("example.org", "media-amazon.com.example.org", "notmedia-amazon.com", "[bad"):
        assert rendition(f"https://{host}/images/I/{asked}", 320) == f"https://{host}/images/I/{asked}"


class Sizes(Handler):
    def do_GET(self):
        with self.server.lock: self.server.seen[self.path] = self.server.seen.get(self.path, 0) + 1
        small = "_SL40_" in self.path
        if small and "old" in self.path: return self.answer(b"", 404)
        if small and "away" in self.path: return self.answer(b"", 500)
        self.answer(jpeg(side=40 if small else 64))


def test_small_renditions_and_the_way_back(server, tmp_path):
    server.RequestHandlerClass = Sizes
    items = pd.DataFrame(dict(item=["new", "old", "away"], image_url=[f"{AMAZON}{n}._AC_UL1500_.jpg" for n in ("new", "old", "away")]))
    options = QUICK | dict(mirror={"m.media-amazon.com": server.url}, retries=0)
    table = download_images(items, tmp_path, side=40, **options)
    assert list(table.status) == ["ok", "ok", "http 500"] and list(table.width) == [40, 64, 0] and list(table.url) == list(items.image_url)
    server.seen.clear()
    download_images(items, tmp_path, side=40, **options)
    assert set(server.seen) == {"/images/I/away._AC_SL40_.jpg"}
    server.seen.clear()
    full = download_images(items, tmp_path, **options)
    assert list(full.width) == [64]*3 and all("_UL1500_" in path for path in server.seen)
    assert list(download_images(items, tmp_path, side=40, **options).width[:2]) == [40, 64]


def test_equal_pictures_are_stored_once(server, tmp_path):
    table = get(server, ["ok-1", "ok-2", "away", "ok-7"], tmp_path)
    assert len(pictures(tmp_path)) == 3 and table.path[2] == table.path[3]


def test_bug_in_a_worker_is_not_swallowed(server, tmp_path, monkeypatch):
    monkeypatch.setattr(ImageClient, "_body", lambda self, answer: 1/0)
    with pytest.raises(ZeroDivisionError): get(server, ["ok"], tmp_path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_every_cut_of_a_picture_is_noticed(kind):
    data = jpeg(format=kind)
    check_bytes(data)
    for share in np.linspace(0, .9, 19):
        with pytest.raises(ImageError): check_bytes(data[:int(share*len(data))])


def test_damaged_bytes_never_crash(tmp_path):
    rng, path = np.random.default_rng(0), tmp_path/"x.jpg"
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"):
        whole = np.frombuffer(jpeg(side=24, format=kind), "uint8")
        for _ in range(60):
            data = whole.copy(); data[rng.integers(0, len(data), 6)] = rng.integers(0, 255, 6)
            path.write_bytes(data.tobytes())
            try: check_bytes(data.tobytes()); assert open_image(path).mode == "RGB"
            except MmrecError: pass


def test_modes_become_rgb(tmp_path):
    def reopened(im, kind="PNG", **options):
        path = tmp_path/f"x.{kind}"; im.save(path, kind, **options)
        return open_image(path)
    red = Image.new("RGB", (8, 4), (255, 0, 0))
    near = lambda im, rgb: im.mode == "RGB" and np.allclose(im.getpixel((1, 1)), rgb, atol=6)
    for mode in ("RGB", "P", "RGBA"): assert near(reopened(red.convert(mode)), (255, 0, 0))
    assert near(reopened(red.convert("CMYK"), "JPEG"), (254, 0, 0))
    assert near(reopened(Image.new("L", (8, 4), 77)), (77, 77, 77)) and near(reopened(Image.new("1", (8, 4), 1)), (255, 255, 255))
    assert near(reopened(Image.new("RGBA", (8, 4), (255, 0, 0, 0))), (255, 255, 255))
    assert near(reopened(Image.new("LA", (8, 4), (0, 128))), (127, 127, 127))
    assert near(reopened(red.convert("P"), transparency=red.convert("P").getpixel((0, 0))), (255, 255, 255))
    grey16 = Image.fromarray(np.full((4, 8), 40000, "uint16"))
    assert near(reopened(grey16), (156, 156, 156)) and near(reopened(grey16, "TIFF"), (156, 156, 156))
    assert near(reopened(Image.fromarray(np.full((4, 8), .5, "float32")), "TIFF"), (128, 128, 128))
    frames = [Image.new("RGB", (8, 4), c) for c in ("red", "blue")]
    assert near(reopened(frames[0], "GIF", save_all=True, append_images=frames[1:]), (255, 0, 0))


def test_inverted_cmyk_of_adobe(tmp_path):
    "Photoshop writes CMYK upside down and says so in a marker: Pillow's own reading, channel by channel, is the independent witness."
    ink = Image.merge("CMYK", [Image.new("L", (16, 16), v) for v in (0, 200, 100, 30)])
    ink.save(tmp_path/"ink.jpg", quality=100)
    data = (tmp_path/"ink.jpg").read_bytes()
    assert b"Adobe" in data # Pillow marks it, hence stores it inverted
    r, g, b = open_image(tmp_path/"ink.jpg").getpixel((8, 8))
    c, m, y, k = 0, 200, 100, 30
    expected = [(255 - v)*(255 - k)/255 for v in (c, m, y)]
    assert np.allclose((r, g, b), expected, atol=4)


def test_first_frame_of_the_animated(tmp_path):
    frames = [Image.new("RGB", (24, 16), c) for c in ("red", "blue", "green")]
    for kind in ("GIF", "WEBP", "PNG"):
        path = tmp_path/f"moving.{kind.lower()}"
        frames[0].save(path, kind, save_all=True, append_images=frames[1:], **(dict(lossless=True) if kind == "WEBP" else {}))
        assert getattr(Image.open(path), "n_frames", 1) == 3
        assert open_image(path).getpixel((3, 3)) == (255, 0, 0) and check_bytes(path.read_bytes())[1:] == (24, 16)


@pytest.mark.parametrize("turn", range(1, 9))
def test_every_exif_turn(tmp_path, turn):
    "A corner that is marked ends up where the standard says: orientation 6, 'right top', is a clockwise quarter turn away."
    upright = np.zeros((12, 20), "uint8"); upright[:6, :10] = 255 # white at the top left
    undo = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: np.transpose,
            6: lambda a: np.rot90(a, 1), 7: lambda a: np.rot90(a, 2).T, 8: lambda a: np.rot90(a, -1)}[turn]
    exif = Image.Exif(); exif[0x112] = turn
    Image.fromarray(np.ascontiguousarray(undo(upright))).save(tmp_path/"t.png", exif=exif)
    assert np.array_equal(np.asarray(open_image(tmp_path/"t.png"))[..., 0], upright)


def test_exif_rotation_and_damaged_exif(tmp_path):
    im = Image.new("RGB", (8, 4)); exif = Image.Exif(); exif[0x112] = 6
    im.save(tmp_path/"a.jpg", exif=exif)
    assert open_image(tmp_path/"a.jpg").size == (4, 8)
    im.save(tmp_path/"b.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert open_image(tmp_path/"b.jpg").size == (8, 4)


def test_open_image_names_the_file(tmp_path):
    (tmp_path/"page.jpg").write_text("<html>")
    (tmp_path/"bomb.png").write_bytes(BOMB)
    with pytest.raises(MmrecError, match="page.jpg.*not an image"): open_image(tmp_path/"page.jpg")
    with pytest.raises(MmrecError, match="bomb.png.*too large"): open_image(tmp_path/"bomb.png")
    with pytest.raises(MmrecError, match="gone.jpg"): open_image(tmp_path/"gone.jpg")


def test_local_pictures(tmp_path):
    (tmp_path/"a.jpg").write_bytes(jpeg()); (tmp_path/"b.jpg").write_bytes(jpeg()[:500]); (tmp_path/"c.jpg").write_bytes(b"hello")
    items = pd.DataFrame(dict(item=list("abcdef"), image_path=[str(tmp_path/f"{c}.jpg") for c in "abcd"] + ["", None]))
    table = check_images(items)
    assert list(table.status) == ["ok", "truncated", "not an image", "no file", "no file", "no file"]
    assert list(attach_images(items, table).image_path) == [str(tmp_path/"a.jpg")] + [""]*5
    assert list(check_images(items, limit=1).status) == ["ok"] + ["not asked"]*3 + ["no file"]*2


# pictures on disk that are no files, or too much

def test_what_is_no_regular_file_is_not_read(tmp_path, monkeypatch):
    os.mkfifo(tmp_path/"pipe.jpg"); (tmp_path/"folder.jpg").mkdir(); (tmp_path/"empty.jpg").touch()
    with open(tmp_path/"large.jpg", "wb") as f: f.truncate(12_000_000_000) # takes no room
    with socket.socket(socket.AF_UNIX) as s: s.bind(str(tmp_path/"line.jpg"))
    (tmp_path/"link.jpg").symlink_to(tmp_path/"pipe.jpg"); (tmp_path/"gone.jpg").symlink_to(tmp_path/"nothing")
    monkeypatch.setattr(images, "open", lambda *a, **k: pytest.fail("opened"), raising=False)
    paths = [str(tmp_path/f"{n}.jpg") for n in ("pipe", "folder", "empty", "large", "line", "link", "gone")] + [p for p in ("/dev/zero", "/dev/full", "/proc/kmsg", "/proc/self/environ") if os.path.exists(p)] + ["a\0b", "x"*5000]
    table = check_images(pd.DataFrame(dict(item=range(len(paths)), image_path=paths)))
    assert list(table.status[:7]) == ["not an image"]*3 + ["too large"] + ["not an image"]*2 + ["no file"] and "ok" not in set(table.status) and all(table.reason)
    for path in paths:
        with pytest.raises(MmrecError): open_image(path)
        with pytest.raises(MmrecError): open_picture(path)


def test_only_pictures_of_the_web_are_opened(tmp_path, monkeypatch):
    "Every other format that Pillow can write here, and EPS, which it would give to Ghostscript."
    called = []
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: called.append(a))
    im, tried = Image.new("RGB", (20, 20), "red"), 0
    for kind in ("EPS", "PDF", "TGA", "PCX", "PPM", "SGI", "ICO", "ICNS", "JPEG2000", "DDS", "IM", "MSP", "SPIDER", "XBM", "BLP", "PSD", "FLI", "WMF"):
        data = io.BytesIO()
        try: im.convert("1" if kind in ("MSP", "XBM") else "F" if kind == "SPIDER" else "P" if kind == "BLP" else "RGB").save(data, kind); data = data.getvalue()
        except (KeyError, OSError, ValueError): data = {"PSD": b"8BPS\0\1", "FLI": bytes(4) + b"\x11\xaf", "WMF": b"\xd7\xcd\xc6\x9a\0\0"}.get(kind, b"") + bytes(200)
        (tmp_path/"x.jpg").write_bytes(data); tried += 1
        for way in (lambda: open_picture(data), lambda: open_image(tmp_path/"x.jpg"), lambda: check_bytes(data)):
            with pytest.raises(ImageError, match="not an image|truncated"): way()
    assert tried == 18 and not called


def test_a_picture_that_is_painted_over_a_thousand_times_is_refused():
    data = jpeg(side=400, progressive=True)
    scan = data[data.rindex(b"\xff\xda"):-2]
    assert open_picture(data).size == (400, 400)
    start = time.monotonic()
    with pytest.raises(ImageError, match="scans of 400 x 400 pixels"): open_picture(data[:-2] + scan*8000 + b"\xff\xd9")
    assert time.monotonic() - start < 5


def test_no_other_room_opens_pictures_by_itself():
    "Pillow is called without a list of formats nowhere in the package."
    folder = Path(images.__file__).parent
    calls = {p.name: p.read_text(encoding="utf8").count("Image.open(") for p in folder.glob("*.py")}
    assert {name: n for name, n in calls.items() if n} == {"images.py": 1}
