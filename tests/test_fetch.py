"The fetcher against a host that does everything a host of large files should not."
import errno, gzip, hashlib, json, os, re, signal, socket, struct, subprocess, sys, textwrap, threading, time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
import pytest, requests
from fault_server import FaultServer
from mmrec import net
from mmrec.data import fetch
from mmrec.core import MmrecError, file_sha256
from mmrec.data.fetch import (CATEGORIES, HOSTS, PARTS, FetchClient, FetchError, Partial, addresses, check_file, fetch_dataset, fetch_file,
                         file_lock, read_manifest, resolve_category)
from mmrec.net import is_public, retry_after

KEYS = ("rating", "user_id", "parent_asin")
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "*" # all hosts here are on this machine


def records(n=3000, **more):
    "JSON lines that do not compress to nothing."
    lines = (json.dumps(dict(rating=float(i % 5 + 1), user_id=f"U{i}", parent_asin=f"P{i % 97}", text=hashlib.sha256(str(i).encode()).hexdigest()*2) | more) for i in range(n))
    return "\n".join(lines).encode() + b"\n"


PLAIN = records()
PACKED = gzip.compress(PLAIN, mtime=0)
OTHER = gzip.compress(PLAIN, mtime=7) # another version of the same size: the stamp in its head differs
ITEMS = gzip.compress(b"".join(json.dumps(dict(parent_asin=f"P{i}", title=f"Hat {i}")).encode() + b"\n" for i in range(97)), mtime=0)
NAME = "a.jsonl.gz"


class Handler(BaseHTTPRequestHandler):
    "Answer each request by the next word of the server's script; the last word stays."
    protocol_version = "HTTP/1.1"
    def log_message(self, *args): pass

    def head(self, status, length=None, **headers):
        self.send_response(status)
        if length is not None: self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            if value is not None: self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def whole(self, status, body=b"", **headers):
        self.head(status, len(body), **headers); self.wfile.write(body)

    def do_GET(self):
        s = self.server
        with s.lock:
            i = len(s.asked)
            s.asked.append((self.path, self.headers.get("Range")))
            s.conditions.append(self.headers.get("If-Range"))
        word, _, arg = s.script[min(i, len(s.script) - 1)].partition(":")
        self.close_connection = True
        data = s.files.get(self.path.rpartition("/")[2])
        if data is None: return self.whole(404, b"<h1>Not Found</h1>")
        if callable(data): data = data(i)
        getattr(self, "do_" + word)(data, arg)

    def rest(self, data, honest=True, etag='"v1"', mark=True, place=None, total=None, length=True):
        "Send the head of an answer to a (range) request; the bytes that are wanted."
        asked, condition = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")), self.headers.get("If-Range")
        start = int(asked[1]) if asked and honest and condition in (None, etag) else 0
        if start >= len(data): self.whole(416, Content_Range=f"bytes */{len(data)}"); return None
        body = data[start:] if place is None else data[place:]
        span = f"bytes {start if place is None else place}-{len(data) - 1}/{total or len(data)}" if start else None
        self.head(206 if start else 200, len(body) if length else None, ETag=etag if mark else None, Content_Range=span)
        return body

    def send(self, body, pieces=20):
        step, self.server.sent = max(1, len(body)//pieces), self.server.sent + len(body)
        for i in range(0, len(body), step): self.wfile.write(body[i:i + step]); self.server.closing.wait(self.server.pause)

    def part(self, body, share): self.send(body[:int(len(body)*float(share))]) if body else None

    def do_ok(self, data, arg): self.part(self.rest(data), 1)
    def do_drop(self, data, arg): self.part(self.rest(data), arg)
    def do_norange(self, data, arg): self.part(self.rest(data, honest=False), arg)
    def do_nomark(self, data, arg): self.part(self.rest(data, mark=False), arg)
    def do_weak(self, data, arg): self.part(self.rest(data, etag='W/"v1"'), arg)
    def do_version(self, data, arg): self.part(self.rest(data, etag=f'"{arg}"'), 1)
    def do_markless(self, data, arg): # ignores If-Range, and names no mark
        start = int(self.headers["Range"][6:-1]); self.head(206, len(data) - start, Content_Range=f"bytes {start}-{len(data) - 1}/{len(data)}"); self.send(data[start:])
    def do_careless(self, data, arg): # ignores If-Range: the rest of another version, under its own mark
        start = int(self.headers["Range"][6:-1]); self.head(206, len(data) - start, ETag='"v2"', Content_Range=f"bytes {start}-{len(data) - 1}/{len(data)}"); self.send(data[start:])
    def do_elsewhere(self, data, arg): self.part(self.rest(data, place=7), 1)
    def do_othersize(self, data, arg): self.part(self.rest(data, total=len(data) + 5), 1)
    def do_reset(self, data, arg):
        self.part(self.rest(data), .5)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    def do_mute(self, data, arg): pass # hangs up without a word
    def do_long(self, data, arg): # announces more than there is
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked: return self.rest(data)
        self.head(200, len(data) + 1000, ETag='"v1"'); self.send(data)
    def do_longnorange(self, data, arg): self.head(200, len(data) + 1000, ETag='"v1"'); self.send(data)
    def do_cut(self, data, arg): self.head(200, len(data)//2); self.send(data)
    def do_more(self, data, arg): self.part((self.rest(data, length=False) or b"") + b"more than that", 1)
    def do_nolength(self, data, arg): self.part(self.rest(data, length=False), arg)
    def do_chunked(self, data, arg):
        self.head(200, Transfer_Encoding="chunked", ETag='"v1"')
        for i in range(0, len(data), 1 << 14):
            piece = data[i:i + (1 << 14)]
            if arg and i > len(data)*float(arg): return
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")
    def do_encoded(self, data, arg): self.whole(200, data, Content_Encoding="gzip", ETag='"v1"')
    def do_html(self, data, arg): self.whole(200, b"<!doctype html><title>Sign in</title>", Content_Type="application/gzip")
    def do_json(self, data, arg): self.whole(200, b'{"error": "quota exceeded"}', Content_Type="application/json")
    def do_empty(self, data, arg): self.whole(200)
    def do_damage(self, data, arg): self.whole(200, data[:-6] + bytes([data[-6] ^ 1]) + data[-5:])
    def do_truncated(self, data, arg): self.whole(200, data[:-100])
    def do_circle(self, data, arg): self.whole(302, Location=self.path)
    def do_hop(self, data, arg): self.whole(302, Location="elsewhere/" + NAME, X_Linked_ETag=f'"{arg}"' if arg else None)
    def do_ftp(self, data, arg): self.whole(302, Location="ftp://host/a")
    def do_broken(self, data, arg): self.whole(302, Location="http://[::1/a")
    def do_stall(self, data, arg): self.part(self.rest(data), .5); self.server.closing.wait(20)
    def do_silent(self, data, arg): self.server.closing.wait(20)
    def do_drip(self, data, arg):
        for byte in self.rest(data):
            if self.server.closing.wait(.01): return
            self.wfile.write(bytes([byte])); self.server.sent += 1
    def do_status(self, data, arg):
        status, _, wait = arg.partition(",")
        self.whole(int(status), b"<h1>No</h1>", Retry_After=(formatdate(time.time() + 3, usegmt=True) if wait == "date" else wait) or None)


shutil_usage = type(__import__("shutil").disk_usage("/"))


class Host:
    "`with Host('drop:.3', 'ok') as host: host.url`"
    def __init__(self, *script, files=None, pause=0.0):
        self.server = s = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        s.daemon_threads, s.block_on_close, s.handle_error = True, False, lambda *args: None
        s.script, s.files, s.pause, s.asked, s.conditions, s.sent = script or ("ok",), {NAME: PACKED} if files is None else files, pause, [], [], 0
        s.lock, s.closing, self.base = threading.Lock(), threading.Event(), f"http://127.0.0.1:{s.server_port}/"
        self.url, self.asked = self.base + NAME, s.asked
        threading.Thread(target=s.serve_forever, args=(.02,), daemon=True).start()
    ranges = property(lambda self: [r for _, r in self.asked])
    sent = property(lambda self: self.server.sent)
    def __enter__(self): return self
    def __exit__(self, *error): self.server.closing.set(); self.server.shutdown(); self.server.server_close()


class Quick(FetchClient):
    "A client that does not sleep but remembers for how long it should have, and what it said."
    def __init__(self, **more):
        self.slept, self.said = [], []
        super().__init__(**dict(timeout=(2, .5), retries=3, backoff=1.0, window=.4, say=self.said.append, sleep=self.slept.append) | more)


@pytest.fixture
def path(tmp_path): return tmp_path/"raw"/NAME


def left(folder):
    "What lies in a folder apart from locks."
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(".lock")) if folder.exists() else []


# ---- faults that a fetch survives

@pytest.mark.parametrize("script, requests, share", [
    (["ok"], 1, 1), (["drop:.3", "drop:.5", "ok"], 3, 1), (["drop:.2"]*8 + ["ok"], 9, 1), (["reset", "ok"], 2, None), (["mute", "mute", "ok"], 3, 1),
    (["norange:.5", "norange:1"], 2, 1.5), (["nomark:.5", "nomark:1"], 2, 1.5), (["weak:.5", "weak:1"], 2, 1.5), (["chunked"], 1, None),
    (["chunked:.5", "ok"], 2, None), (["nolength:1"], 1, 1), (["stall", "ok"], 2, 1), (["silent", "ok"], 2, 1), (["long"], 2, 1),
    (["drop:.5", "elsewhere", "ok"], 3, None), (["drop:.5", "othersize", "ok"], 3, None), (["encoded"], 1, None), (["hop", "ok"], 2, 1),
    (["drop:.5", "status:416", "ok"], 3, 1.5), (["status:503", "ok"], 2, 1), (["status:429", "status:500", "status:502", "ok"], 4, 1)], ids=lambda x: "+".join(x)[:40] if isinstance(x, list) else None)
def test_survives(path, script, requests, share):
    with Host(*script) as host:
        got = Quick().fetch(host.url, path, KEYS)
        assert path.read_bytes() == PACKED and len(host.asked) == requests
        if share: assert host.sent == pytest.approx(share*len(PACKED), abs=10)
    assert got["records"] == 3000 and got["sha256"] == hashlib.sha256(PACKED).hexdigest() and got["bytes"] == len(PACKED) and got["url"] == host.url
    assert left(path.parent) == [NAME]


def test_resume_asks_for_exactly_the_missing_bytes(path):
    with Host("drop:.25", "drop:.5", "ok") as host:
        client = Quick(); client.fetch(host.url, path, KEYS)
        first = int(len(PACKED)*.25); second = first + int((len(PACKED) - first)*.5)
        assert host.ranges == [None, f"bytes={first}-", f"bytes={second}-"]
    assert all("the line broke" in line and "kB kept" in line or "MB kept" in line for line in client.said) and len(client.slept) == 2


@pytest.mark.parametrize("answer", ["elsewhere", "othersize", "status:416"])
def test_an_answer_that_does_not_fit_means_starting_over(path, answer):
    with Host("drop:.5", answer, "ok") as host:
        client = Quick(); client.fetch(host.url, path, KEYS)
        assert host.ranges == [None, f"bytes={len(PACKED)//2}-", None] and path.read_bytes() == PACKED
    assert "another piece than it was asked for" in client.said[1]


def test_a_slow_drip_counts_as_a_stall(path):
    with Host("drip", "ok") as host:
        client = Quick(min_speed=5000); client.fetch(host.url, path, KEYS)
        assert path.read_bytes() == PACKED and len(host.asked) == 2
    assert "slower than 5000 bytes a second" in client.said[0]


def test_two_versions_are_never_joined(path):
    with Host("drop:.5", "version:v2", files={NAME: lambda i: PACKED if i == 0 else OTHER}) as host: # honours If-Range
        Quick().fetch(host.url, path, KEYS)
        assert len(OTHER) == len(PACKED) and path.read_bytes() == OTHER and host.ranges[1] and host.server.conditions == [None, '"v1"']
    with Host("drop:.5", "careless", "version:v2", files={NAME: lambda i: PACKED if i == 0 else OTHER}) as host: # ignores it
        Quick().fetch(host.url, path, KEYS)
        assert path.read_bytes() == OTHER and host.ranges[1] and host.ranges[2] is None


@pytest.mark.parametrize("other", [OTHER, gzip.compress(records(3000, color="red"), mtime=0), PACKED[:9000] + OTHER[9000:]], ids=["stamp", "content", "middle"])
def test_a_rest_without_a_mark_is_not_joined(path, other):
    with Host("drop:.5", "markless", "version:v2", files={NAME: lambda i: PACKED if i == 0 else other}) as host:
        client = Quick()
        try: client.fetch(host.url, path, KEYS); assert path.read_bytes() == other
        except FetchError as e: assert "wrong file" in str(e) # the third is damaged
        assert host.ranges[1] and host.ranges[2] is None
    assert "does not say that the file is still the same: starting over" in client.said[1]


@pytest.mark.parametrize("note", [dict(size="5"), dict(size=-1), dict(size=True), dict(mark=["a"]), dict(mark=5), dict(sha256=[1]), dict(etag={})], ids=str)
def test_an_odd_note_means_starting_over(path, note):
    with Host("ok") as host:
        part = Partial(path, host.url); path.parent.mkdir()
        part.begin(size=len(PACKED), mark='"v1"', sha256="", etag='"v1"'); part.data.write_bytes(PACKED[:1000])
        part.note.write_text(json.dumps(part.about | note))
        Quick().fetch(host.url, path, KEYS)
        assert host.ranges == [None] and path.read_bytes() == PACKED


def test_bytes_of_another_address_are_not_gone_on_with(path):
    with Host("drop:.5") as one, Host("ok") as two:
        with pytest.raises(FetchError): Quick(retries=0).fetch(one.url, path, KEYS)
        assert Partial(path, one.url).have == len(PACKED)//2
        Quick().fetch(two.url, path, KEYS)
        assert two.ranges == [None] and path.read_bytes() == PACKED


def test_a_torn_note_means_starting_over(path):
    with Host("drop:.5", "ok") as host:
        with pytest.raises(FetchError): Quick(retries=0).fetch(host.url, path, KEYS)
        Partial(path, host.url).note.write_text('{"url": "htt')
        Quick().fetch(host.url, path, KEYS)
        assert host.ranges == [None, None] and path.read_bytes() == PACKED


def test_all_bytes_there_but_not_renamed_asks_nothing(path):
    with Host("ok") as host:
        part = Partial(path, host.url); path.parent.mkdir()
        part.begin(size=len(PACKED), mark='"v1"', sha256="", etag='"v1"'); part.data.write_bytes(PACKED)
        Quick().fetch(host.url, path, KEYS)
        assert host.asked == [] and path.read_bytes() == PACKED
        part.begin(size=None, mark='"v1"', sha256="", etag='"v1"'); part.data.write_bytes(PACKED) # size unknown: 416 tells
        Quick().fetch(host.url, path, KEYS)
        assert host.ranges == [f"bytes={len(PACKED)}-"] and path.read_bytes() == PACKED
        part.begin(size=len(PACKED), mark='"v1"', sha256="", etag='"v1"'); part.data.write_bytes(PACKED + b"x") # too much: start over
        Quick().fetch(host.url, path, KEYS)
        assert host.ranges[1:] == [None] and path.read_bytes() == PACKED


# ---- odd headers, and what never ends

WHOLE = {"plain", "zeros-before-length", "length-twice", "length-empty", "chunked", "chunk-extension", "trailers", "name-utf8", "value-utf8", "value-latin1", "value-bytes", "value-nul", "no-colon", "no-name", "folded",
         "space-in-name", "etag-odd", "etag-folded", "etag-long", "modified-odd", "type-odd", "encoding-odd", "date-far", "cookies", "cookie-odd", "cookie-long", "header-names", "continue", "gzip-lie"}


def test_no_header_ends_more_than_its_own_file(tmp_path):
    "Each fault ends in a whole file or in a `FetchError` of one plain line, within bounds of time; the others go on."
    def tried(fault):
        client, start = Quick(timeout=(.5, .5), retries=1, window=.3, max_bytes=2_000_000), time.monotonic()
        try: client.fetch(server.url + f"{fault}/{NAME}", tmp_path/fault/NAME, KEYS); said = ""
        except FetchError as e: said = str(e)
        return fault, said, time.monotonic() - start, client.slept
    with FaultServer(PACKED) as server, ThreadPoolExecutor(24) as pool: found = list(pool.map(tried, [*server.once, *server.ever]))
    assert {fault for fault, said, *_ in found if not said} == WHOLE
    assert all((tmp_path/fault/NAME).read_bytes() == PACKED for fault in WHOLE)
    assert all(said.isprintable() and len(said) < 400 for _, said, *_ in found)
    assert max(spent for *_, spent, _ in found) < 30 and all(wait <= 120 for *_, slept in found for wait in slept)
    said = {fault: said for fault, said, *_ in found}
    assert "too large" in said["length-digits"] and "bad answer" in said["length-negative"] and "asks to wait 999999999 s" in said["retry-digits"]
    for fault in ("drip-header", "drip-continue", "drip-trailers", "drip-chunk-size"): assert re.search("is over|no answer|slower|stalled", said[fault]), said[fault]
    for fault in ("flood-continue", "flood-trailers"): assert "without an end" in said[fault]


def test_one_odd_host_leaves_the_file_to_the_next(tmp_path):
    with FaultServer(PACKED) as odd, Host("ok") as good:
        for fault in ("retry-square", "location-bracket", "flood-headers", "length-text", "range-odd"):
            client = Quick(timeout=(.5, .5), retries=0)
            path = fetch_file([f"{odd.url}{fault}/{NAME}", good.url], tmp_path/fault, KEYS, client)
            assert path.read_bytes() == PACKED and len(client.said) == 1


def test_a_line_that_breaks_is_not_gone_on_with_under_an_odd_mark(path):
    for mark in ('"a\r\n b"', '"' + "e"*300 + '"', "\x01"):
        with Host("ok") as host:
            part = Partial(path, host.url); path.parent.mkdir(exist_ok=True)
            part.begin(size=len(PACKED), mark=fetch._mark(type("Answer", (), dict(headers=dict(ETag=mark)))), sha256="", etag="")
            part.data.write_bytes(PACKED[:1000])
            assert part.wanted() == {}
            Quick().fetch(host.url, path, KEYS)
            path.unlink()


@pytest.mark.parametrize("said, seconds", [("7", 7), ("0", 0), ("²", 0), ("٣", 0), ("-1", 0), ("1e9", 0), ("inf", 0), ("nan", 0), ("9"*400, 999999999), ("Fri, 31 Dec 10000 23:59:59 GMT", 0), ("Fri, 99 Foo 2100", 0),
                                           ("Fri, 31 Dec 0000 00:00:00 GMT", 0), ("Thu, 01 Jan 1970 00:00:00 -9999", 0), (" 3 ", 3), ("x"*100_000, 0)], ids=lambda x: str(x)[:20])
def test_retry_after_of_any_kind(said, seconds):
    assert retry_after(type("Answer", (), dict(headers={"Retry-After": said}))) == seconds


@pytest.mark.parametrize("address", ["10.0.0.1", "172.16.0.1", "192.168.1.1", "127.0.0.2", "0.0.0.0", "0.1.2.3", "169.254.169.254", "100.64.0.1", "100.127.255.254", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.1",
    "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "feff::1", "fc00::1", "fd12::1", "ff02::1", "ff0e::1", "2001:db8::1", "3fff::1", "100::1", "5f00::1",
    "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::10.0.0.1", "::127.0.0.1", "::8.8.8.8", "::ffff:0:10.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::10.0.0.1", "64:ff9b:1:ffff::1",
    "2002:a00:1::", "2002:7f00:1::1", "2002:c0a8:101::", "2002:a9fe:a9fe::", "2001:0:4136:e378:8000:63bf:f5ff:fffe", "2001::1", "2a00:1450::5efe:10.0.0.1", "2a00:1450::200:5efe:192.168.0.1", "4000::1", "1::1"])
def test_not_of_the_open_internet(address): assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "142.250.1.1", "2606:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"])
def test_of_the_open_internet(address): assert is_public(address)


def test_a_redirect_does_not_lead_from_the_open_internet_home(path, monkeypatch):
    "The first host counts as public here; the second is what it is."
    with Host("hop", "ok") as host:
        real = net.is_public
        monkeypatch.setattr(net, "is_public", lambda address: real(address) or len(host.asked) == 1 and not monkeypatch.setattr(net, "is_public", real))
        with pytest.raises(FetchError, match="refused address.*127.0.0.1"): Quick().fetch(host.url, path, KEYS)
        assert len(host.asked) == 1


def test_a_file_without_a_length_leaves_room_on_the_disk(path, monkeypatch):
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda folder: shutil_usage(10**9, 9*10**8, 10**8))
    with Host("nolength:1") as host, pytest.raises(MmrecError, match="more is to come, 100.0 MB are free"): Quick().fetch(host.url, path, KEYS)


def test_a_bomb_is_not_unpacked_to_its_end(tmp_path):
    (tmp_path/"a.jsonl.gz").write_bytes(gzip.compress(b"\n"*400_000_000, 6))
    start = time.monotonic()
    with pytest.raises(FetchError, match="more than 500 times its size"): check_file(tmp_path/"a.jsonl.gz")
    assert time.monotonic() - start < 20


# ---- faults for which the host is left

@pytest.mark.parametrize("script, words, requests", [
    (["html"], "not the data: begins with b'<!doctype html>", 1), (["json"], "not the data: begins with b'{\"error\"", 1), (["empty"], "not the data: empty", 1),
    (["circle"], "redirects in a circle: more than 5", 6), (["ftp"], "not an address of the web", 1), (["broken"], "broken address", 1),
    (["status:404"], "http 404", 1), (["status:403"], "http 403", 1), (["status:410"], "http 410", 1), (["status:501"], "http 501", 1), (["status:404,9"], "http 404", 1),
    (["status:503,9000"], "asks to wait 9000 s", 1), (["status:503"], "http 503", 4), (["cut"], "a wrong file: the compressed file ends early", 1),
    (["damage"], "a wrong file: the compressed file is damaged (CRC check failed", 1), (["truncated"], "a wrong file: the compressed file ends early", 1),
    (["longnorange"], "the line broke", None), (["drop:.5", "more"], "sends more than the", 2), (["mute"], "closed connection", 4), (["silent"], "no answer in 0.5 s", 4)],
    ids=lambda x: "+".join(x)[:40] if isinstance(x, list) else None)
def test_refused(path, script, words, requests):
    with Host(*script) as host:
        with pytest.raises(FetchError, match=re.escape(words)): Quick().fetch(host.url, path, KEYS)
        assert requests is None or len(host.asked) == requests
        assert len(host.asked) <= 9 # bounded, whatever the host does
    assert NAME not in left(path.parent)
    if "wrong" in words or "not the data" in words: assert left(path.parent) == []


def test_progress_refills_the_attempts_but_crumbs_do_not(path):
    with Host(*["drop:.001"]*50) as host:
        with pytest.raises(FetchError): Quick().fetch(host.url, path, KEYS)
        assert len(host.asked) < 20


@pytest.mark.parametrize("wait, seconds", [("7", 7), ("date", 3)])
def test_retry_after_is_honoured(path, wait, seconds):
    with Host(f"status:503,{wait}", "ok") as host:
        client = Quick(backoff=.1); client.fetch(host.url, path, KEYS)
    assert client.slept[0] == pytest.approx(seconds, abs=1.5)


def test_pauses_double_with_chance_and_end_at_a_minute(path):
    with Host("status:500") as host:
        client = Quick(retries=9)
        with pytest.raises(FetchError): client.fetch(host.url, path, KEYS)
    assert len(client.slept) == 9
    for i, wait in enumerate(client.slept): assert min(60, 2**i)*.5 <= wait <= min(60, 2**i)
    assert len({wait/min(60, 2**i) for i, wait in enumerate(client.slept)}) > 5 # no two classmates come back in step


@pytest.mark.parametrize("url", ["http://no-such-host.invalid/a.jsonl.gz", "http://127.0.0.1:9/a.jsonl.gz"])
def test_an_unreachable_host_gets_one_second_chance(path, url):
    client = Quick()
    with pytest.raises(FetchError): client.fetch(url, path, KEYS)
    assert len(client.slept) == 1


@pytest.mark.parametrize("words, tries", [("[SSL: CERTIFICATE_VERIFY_FAILED] certificate has expired", 0), ("[SSL: UNEXPECTED_EOF_WHILE_READING] EOF", 1)])
def test_a_wrong_certificate_is_not_asked_twice(path, monkeypatch, words, tries):
    def fail(*args, **kwargs): raise requests.exceptions.SSLError(words)
    client = Quick(); monkeypatch.setattr(client.session, "get", fail)
    with pytest.raises(FetchError, match=words[6:20]): client.fetch("https://host/a.jsonl.gz", path, KEYS)
    assert len(client.slept) == tries


@pytest.mark.parametrize("url", ["file:///etc/hosts", "ftp://host/a.jsonl.gz", "a.jsonl.gz", "http://[::1/a"])
def test_only_the_web(path, url):
    with pytest.raises(FetchError): Quick().fetch(url, path, KEYS)
    assert left(path.parent) == []


@pytest.mark.parametrize("script", [["ok"], ["chunked"]])
def test_max_bytes(path, script):
    with Host(*script) as host:
        with pytest.raises(FetchError, match="too large"): Quick(max_bytes=50_000).fetch(host.url, path, KEYS)
        assert left(path.parent) == []
        Quick(max_bytes=len(PACKED)).fetch(host.url, path, KEYS)


def test_a_sha256_named_by_the_host_is_compared(path):
    with Host("hop:" + hashlib.sha256(PACKED).hexdigest(), "ok") as host: Quick().fetch(host.url, path, KEYS)
    with Host("hop:" + "0"*64, "ok") as host:
        with pytest.raises(FetchError, match="SHA-256 is not the one that the host names"): Quick().fetch(host.url, path.with_name("b.jsonl.gz"), KEYS)


# ---- the check

@pytest.mark.parametrize("data, words", [
    (PLAIN[:-9], "ends in the middle of a record"), (b"", "0 of the first 0 lines"), (b"<html>\n"*50, "0 of the first 20 lines"), (b'{"error": "quota"}', "0 of the first 1 lines"),
    (b"[1]\n"*50, "0 of the first 20"), (PLAIN + b"\0"*5000, "ends in the middle"), (PLAIN + b"garbage\n"*30, "0 of the last 20 lines"), (PLAIN.replace(b"rating", b"overall"), "with rating, user_id")])
def test_wrong_plain_files(tmp_path, data, words):
    (tmp_path/"a.jsonl").write_bytes(data)
    with pytest.raises(FetchError, match=re.escape(words)): check_file(tmp_path/"a.jsonl", KEYS)


def test_good_files_of_every_shape(tmp_path):
    for name, data, n in (("a.jsonl", PLAIN, 3000), ("b.jsonl", PLAIN[:-1], 3000), ("c.jsonl", PLAIN.replace(b"\n", b"\r\n"), 3000), ("d.jsonl", records(1), 1),
                          ("e.jsonl.gz", gzip.compress(PLAIN[:5000]) + gzip.compress(PLAIN[5000:]), 3000), ("f.jsonl", records(8, text="x"*900_000), 8),
                          ("g.jsonl", b'{"torn\n' + PLAIN + b'{"torn\n', 3002), ("h.jsonl.gz", gzip.compress(records(20_000)), 20_000)):
        (tmp_path/name).write_bytes(data)
        assert check_file(tmp_path/name, KEYS) == dict(bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), records=n), name


def test_a_file_with_the_wrong_name(tmp_path):
    for name, data in (("a.jsonl.gz", PLAIN), ("a.jsonl", PACKED)):
        (tmp_path/name).write_bytes(data)
        with pytest.raises(FetchError): check_file(tmp_path/name, KEYS)


# ---- from host to host, and the manifest

def test_hosts_in_turn_and_nothing_the_second_time(tmp_path):
    with Host("html") as one, Host("status:404") as two, Host("damage") as three, Host("drop:.5", "ok") as four, Host("ok") as never:
        hosts, client = (one, two, three, four, never), Quick()
        path = fetch_file([h.url for h in hosts], tmp_path, KEYS, client)
        asked = [len(h.asked) for h in hosts]
        assert path.read_bytes() == PACKED and asked == [1, 1, 1, 2, 0]
        assert fetch_file([h.url for h in hosts], tmp_path, KEYS, client) == path
        assert fetch_file([h.url for h in hosts], tmp_path, KEYS, client, verify=True) == path
        assert [len(h.asked) for h in hosts] == asked
    entry = read_manifest(tmp_path)["files"][NAME]
    assert entry["url"] == four.url and entry["etag"] == '"v1"' and entry["records"] == 3000 and entry["sha256"] == file_sha256(path) and entry["fetched"][:2] == "20"
    assert left(tmp_path) == [NAME, "manifest.json"]


def test_the_second_call_takes_no_lock_and_writes_nothing(tmp_path, monkeypatch):
    with Host("ok") as host:
        path = fetch_file([host.url], tmp_path, KEYS, Quick())
        def refuse(*args, **kwargs): raise PermissionError(errno.EACCES, "Permission denied")
        monkeypatch.setattr(fetch, "file_lock", refuse); monkeypatch.setattr(fetch, "write_json", refuse)
        assert fetch_file([host.url], tmp_path, KEYS, Quick()) == path


def test_a_host_whose_file_has_begun_to_arrive_is_asked_first(tmp_path):
    with Host("status:404") as one, Host("drop:.5", "ok") as two:
        with pytest.raises(MmrecError): fetch_file([one.url, two.url], tmp_path, KEYS, Quick(retries=0))
        fetch_file([one.url, two.url], tmp_path, KEYS, Quick())
        assert len(one.asked) == 1 and two.ranges == [None, f"bytes={len(PACKED)//2}-"]


def test_each_host_names_its_own_file_and_no_part_stays(tmp_path):
    with Host("drop:.5") as packed, Host("ok", files={"a.jsonl": PLAIN}) as plain:
        path = fetch_file([packed.url, plain.base + "a.jsonl"], tmp_path, KEYS, Quick(retries=1))
        assert path == tmp_path/"a.jsonl" and path.read_bytes() == PLAIN
        assert left(tmp_path) == ["a.jsonl", "manifest.json"]
        assert fetch_file([packed.url, plain.base + "a.jsonl"], tmp_path, KEYS, Quick()) == path


def test_one_line_when_no_host_can_be_reached(tmp_path):
    with Host("status:404") as host:
        with pytest.raises(MmrecError) as e:
            fetch_file([host.url, "http://no-such-host.invalid/a.jsonl.gz"], tmp_path/"with space", KEYS, Quick(), otherwise="; or else")
    line = str(e.value)
    assert "\n" not in line and "127.0.0.1: http 404" in line and "no-such-host.invalid: " in line and line.endswith("; or else")
    assert f"curl -fL -C - --create-dirs -o '{tmp_path}/with space/{NAME}' {host.url}" in line and not (tmp_path/"with space"/NAME).exists()


def test_a_file_put_there_by_hand_is_adopted(tmp_path):
    (tmp_path/NAME).write_bytes(PACKED)
    with Host("ok") as host:
        client = Quick()
        assert fetch_file([host.url], tmp_path, KEYS, client) == tmp_path/NAME and host.asked == []
    assert "found here, checked and listed (3,000 records)" in client.said[0] and read_manifest(tmp_path)["files"][NAME]["url"] is None


def test_an_unpacked_file_will_do(tmp_path):
    (tmp_path/"a.jsonl").write_bytes(PLAIN)
    with Host("ok") as host: assert fetch_file([host.url], tmp_path, KEYS, Quick()) == tmp_path/"a.jsonl" and host.asked == []


def test_a_broken_file_put_there_by_hand_is_named_and_left_alone(tmp_path):
    (tmp_path/NAME).write_bytes(PACKED[:-50])
    with Host("ok") as host:
        with pytest.raises(MmrecError, match="ends early.*delete it and run again"): fetch_file([host.url], tmp_path, KEYS, Quick())
        assert host.asked == [] and (tmp_path/NAME).read_bytes() == PACKED[:-50]


def test_a_changed_file(tmp_path):
    with Host("ok") as host:
        path = fetch_file([host.url], tmp_path, KEYS, Quick())
        os.utime(path, ns=(1, 1)) # touched: read again, still the same
        client = Quick(); fetch_file([host.url], tmp_path, KEYS, client)
        assert client.said == [] and read_manifest(tmp_path)["files"][NAME]["url"] == host.url
        path.write_bytes(OTHER) # another good file under the same name
        with pytest.raises(MmrecError, match="SHA-256 differs"): fetch_file([host.url], tmp_path, KEYS, Quick(), verify=True)
        fetch_file([host.url], tmp_path, KEYS, client)
        assert "found here" in client.said[0] and read_manifest(tmp_path)["files"][NAME]["url"] is None
        data = bytearray(path.read_bytes()); data[-6] ^= 1; keep = path.stat(); path.write_bytes(data)
        os.utime(path, ns=(keep.st_atime_ns, keep.st_mtime_ns)) # a bit that rotted: only verify sees it
        assert fetch_file([host.url], tmp_path, KEYS, Quick()) == path
        with pytest.raises(MmrecError, match="damaged"): fetch_file([host.url], tmp_path, KEYS, Quick(), verify=True)
        path.unlink(); fetch_file([host.url], tmp_path, KEYS, Quick()); assert path.read_bytes() == PACKED


@pytest.mark.parametrize("text", ["{", "[]", '{"files": []}', '{"files": {}}'])
def test_a_strange_manifest(tmp_path, text):
    (tmp_path/"manifest.json").write_text(text)
    with pytest.raises(MmrecError, match="manifest.json.*run again"): fetch_file(["http://127.0.0.1:9/a.jsonl.gz"], tmp_path, KEYS, Quick())


# ---- the operating system says no

def test_too_little_room_is_said_before_the_bytes_come(path, monkeypatch):
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda folder: type("Usage", (), dict(free=1000)))
    with Host("ok", "html") as host:
        with pytest.raises(MmrecError, match="1.0 kB are free — free some space"): fetch_file([host.url, host.url], path.parent, KEYS, Quick())
        assert len(host.asked) == 1 # a full disk is no matter for the next host


def test_a_disk_that_fills_up_keeps_what_came(path, monkeypatch):
    with Host("drop:.5", "ok") as host:
        with pytest.raises(FetchError): Quick(retries=0).fetch(host.url, path, KEYS)
        with monkeypatch.context() as m:
            def full(*args): raise OSError(errno.ENOSPC, "No space left on device")
            m.setattr(FetchClient, "_store", full)
            with pytest.raises(MmrecError, match="the disk is full"): fetch_file([host.url], path.parent, KEYS, Quick())
        fetch_file([host.url], path.parent, KEYS, Quick())
        assert path.read_bytes() == PACKED and host.ranges[-1] == f"bytes={len(PACKED)//2}-"


def test_no_permission(path, monkeypatch):
    def refuse(*args, **kwargs): raise PermissionError(errno.EACCES, "Permission denied")
    monkeypatch.setattr(Path, "touch", refuse)
    with Host("ok") as host, pytest.raises(MmrecError, match="no permission: choose another folder"): fetch_file([host.url], path.parent, KEYS, Quick())


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path/"raw").write_text("")
    with Host("ok") as host, pytest.raises(MmrecError, match="raw"): fetch_file([host.url], tmp_path/"raw", KEYS, Quick())


# ---- processes

CODE = """
    import sys
    from mmrec.data.fetch import FetchClient, fetch_dataset
    if limit := int(sys.argv[3]):
        import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try: print(*fetch_dataset("books", sys.argv[2], hosts=[sys.argv[1]], client=FetchClient(timeout=(2, 5), backoff=.01)).values())
    except KeyboardInterrupt: sys.exit(130)
    except Exception as e: sys.exit(f"{type(e).__name__}: {e}")
"""


def start(host, folder, limit=0):
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(CODE), host.base, str(folder), str(limit)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def books(*script, pause=0.0):
    return Host(*script, files={"Books.jsonl.gz": PACKED, "meta_Books.jsonl.gz": ITEMS}, pause=pause)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_or_interrupted_and_run_again(tmp_path, how):
    with books(pause=.05) as host:
        process, part = start(host, tmp_path), tmp_path/".Books.jsonl.gz.part"
        while not (part.exists() and part.stat().st_size > 20_000): assert process.poll() is None; time.sleep(.01)
        process.send_signal(how)
        said, error = process.communicate(timeout=20)
        have = part.stat().st_size
        assert 0 < have < len(PACKED) and not (tmp_path/"Books.jsonl.gz").exists()
        if how == signal.SIGINT: assert process.returncode == 130 and "are kept: run again to go on" in said
        host.server.pause = 0
        paths = fetch_dataset("books", tmp_path, hosts=[host.base], client=Quick())
        assert paths["reviews"].read_bytes() == PACKED and paths["items"].read_bytes() == ITEMS
        assert host.ranges[:2] == [None, f"bytes={have}-"]


def test_two_processes_fetch_once(tmp_path):
    with books(pause=.03) as host:
        processes = [start(host, tmp_path) for _ in range(2)]
        done = [p.communicate(timeout=40) for p in processes]
        assert [p.returncode for p in processes] == [0, 0], done
        assert sorted(p for p, _ in host.asked) == ["/raw/meta_categories/meta_Books.jsonl.gz", "/raw/review_categories/Books.jsonl.gz"]
    assert done[0][0].splitlines()[-1] == done[1][0].splitlines()[-1] and sorted(read_manifest(tmp_path)["files"]) == ["Books.jsonl.gz", "meta_Books.jsonl.gz"]
    assert (tmp_path/"Books.jsonl.gz").read_bytes() == PACKED


def test_a_file_system_that_takes_no_more(tmp_path):
    with books() as host:
        process = start(host, tmp_path, limit=50_000)
        _, error = process.communicate(timeout=20)
        assert process.returncode == 1 and len(error.strip().splitlines()) == 1 and "larger than the system allows" in error
        fetch_dataset("books", tmp_path, hosts=[host.base], client=Quick())
        assert host.ranges[1] == "bytes=50000-" and (tmp_path/"Books.jsonl.gz").read_bytes() == PACKED


def test_manifest_entries_of_many_threads_are_all_kept(tmp_path):
    files = {f"{i}.jsonl.gz": ITEMS for i in range(8)}
    with Host("ok", files=files) as host:
        threads = [threading.Thread(target=fetch_file, args=([host.base + name], tmp_path, (), Quick())) for name in files]
        for t in threads: t.start()
        for t in threads: t.join()
    assert sorted(read_manifest(tmp_path)["files"]) == sorted(files)


def test_a_lock_is_free_again_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError):
        with file_lock(tmp_path/"lock"): 1/0
    with file_lock(tmp_path/"lock"): pass


# ---- the data sets

def test_dataset_terms_once_and_every_part(tmp_path):
    with books() as host:
        client = Quick(); paths = fetch_dataset("Books", tmp_path, hosts=[host.base], client=client)
        assert client.said == [fetch.TERMS[2023]] and list(paths) == ["reviews", "items"]
        client = Quick(); fetch_dataset("books", tmp_path, hosts=[host.base], client=client)
        assert client.said == [] and len(host.asked) == 2 and "amazon-2023" in read_manifest(tmp_path)["terms"]


def test_the_year_2018(tmp_path):
    line = json.dumps(dict(overall=5.0, reviewerID="A", asin="B", reviewText="Good.", unixReviewTime=1)).encode() + b"\n"
    files = {"AMAZON_FASHION.json.gz": gzip.compress(line*50), "AMAZON_FASHION_5.json.gz": gzip.compress(line*9), "meta_AMAZON_FASHION.json.gz": gzip.compress(b'{"asin": "B"}\n'*3)}
    with Host("ok", files=files) as host:
        client = Quick(); paths = fetch_dataset("amazon-fashion", tmp_path, year=2018, parts=("reviews", "items", "reviews5"), hosts=[host.base], client=client)
        assert {k: p.name for k, p in paths.items()} == dict(reviews="AMAZON_FASHION.json.gz", items="meta_AMAZON_FASHION.json.gz", reviews5="AMAZON_FASHION_5.json.gz")
        assert [p for p, _ in host.asked] == ["/categoryFiles/AMAZON_FASHION.json.gz", "/metaFiles2/meta_AMAZON_FASHION.json.gz", "/categoryFilesSmall/AMAZON_FASHION_5.json.gz"]
        assert client.said[0] == fetch.TERMS[2018]
    with Host("ok", files={"Gift_Cards.json.gz": PACKED}) as host, pytest.raises(MmrecError, match="a wrong file: 0 of the first 20 lines are records with overall"):
        fetch_dataset("gift cards", tmp_path, year=2018, parts=("reviews",), hosts=[host.base], client=Quick()) # records of the wrong year


def test_only_one_part_and_a_plain_mirror(tmp_path):
    with Host("ok", files={"meta_Books.jsonl": gzip.decompress(ITEMS)}) as host:
        paths = fetch_dataset("books", tmp_path, parts=("items",), hosts=[(host.base, "")], client=Quick())
        assert paths == dict(items=tmp_path/"meta_Books.jsonl") and host.asked[0][0] == "/raw/meta_categories/meta_Books.jsonl"


@pytest.mark.parametrize("typed, year, name", [("amazon-fashion", 2023, "Amazon_Fashion"), ("FASHION", 2018, "AMAZON_FASHION"), ("cds and vinyl", 2023, "CDs_and_Vinyl"),
                                               ("Movies & TV", 2018, "Movies_and_TV"), (" gift_cards ", 2018, "Gift_Cards")])
def test_spellings(typed, year, name): assert resolve_category(typed, year) == name


@pytest.mark.parametrize("typed, year, words", [("amazon-fashon", 2023, "did you mean Amazon_Fashion"), ("luxury beauty", 2023, "no category 'luxury beauty' in 2023"),
                                                ("beauty", 2023, "All_Beauty or Beauty_and_Personal_Care"), ("qqqq", 2023, "mmrec fetch --list --year 2023"), ("", 2023, "no category"), ("books", 2014, "choose 2023 or 2018")])
def test_wrong_names_get_a_suggestion(tmp_path, typed, year, words):
    with pytest.raises(MmrecError, match=re.escape(words)): fetch_dataset(typed, tmp_path/"raw", year=year)
    assert not (tmp_path/"raw").exists()


def test_every_category_has_an_address_at_every_host():
    for year, names in CATEGORIES.items():
        assert len({n.lower() for n in names}) == len(names)
        for name in names:
            for part in PARTS[year]:
                urls = addresses(name, part, year)
                assert len(urls) == len(HOSTS[year]) and all(name in u and u.startswith("http") for u in urls)
    assert addresses("amazon-fashion", "reviews")[0] == "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/raw/review_categories/Amazon_Fashion.jsonl.gz"
    assert addresses("amazon-fashion", "items")[2] == "https://huggingface.co/datasets/McAuley-Lab/Amazon-Reviews-2023/resolve/main/raw/meta_categories/meta_Amazon_Fashion.jsonl"
    with pytest.raises(MmrecError, match="choose among reviews, items"): addresses("books", "pictures")
