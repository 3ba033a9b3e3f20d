"A host that does with headers and marks between pieces what no host should: each fault a path, each answer made by hand."
import contextlib, gzip, socket, threading, zlib

HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
OK = HEAD + b"Content-Length: %d\r\n\r\n"


def chunk(data): return b"%x\r\n%s\r\n" % (len(data), data)


def answers(body):
    "Fault to the bytes of an answer, whose body would be `body`."
    n, cut = len(body), max(1, len(body)//2)
    length = lambda value: HEAD + b"Content-Length: " + value + b"\r\n\r\n" + body
    busy = lambda after: b"HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 0\r\nRetry-After: " + after + b"\r\n\r\n"
    to = lambda where, status=b"302 Found": b"HTTP/1.1 " + status + b"\r\nConnection: close\r\nContent-Length: 0\r\n" + where + b"\r\n"
    more = lambda *lines: HEAD + b"Content-Length: %d\r\n" % n + b"".join(l + b"\r\n" for l in lines) + b"\r\n" + body
    pieces = lambda *rest: HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(rest)
    packed = lambda name, data: HEAD + b"Content-Encoding: " + name + b"\r\nContent-Length: %d\r\n\r\n" % len(data) + data
    zeros = bytes(30_000_000)
    return {
        "plain": OK % n + body, "zeros-before-length": length(b"000%d" % n), "length-twice": length(b"%d, %d" % (n, n)),
        "retry-square": busy("²".encode("latin1")), "retry-square-utf8": busy("²".encode()), "retry-far": busy(b"Fri, 31 Dec 100000000000000000000 23:59:59 GMT"),
        "retry-negative": busy(b"-5"), "retry-digits": busy(b"9"*5000), "retry-nan": busy(b"nan"), "retry-empty": busy(b""), "retry-zone": busy(b"Fri, 31 Dec 2100 23:59:59 +99999999"),
        "length-digits": length(b"9"*5000), "length-negative": length(b"-5"), "length-text": length(b"many"), "length-square": length("²".encode("latin1")),
        "length-two": length(b"5, 6"), "length-hex": length(b"0x10"), "length-float": length(b"1e3"), "length-empty": length(b""),
        "chunk-negative": pieces(b"-5\r\n", body), "chunk-minus-one": pieces(b"-1\r\n", body), "chunk-text": pieces(b"many\r\n", body), "chunk-huge": pieces(b"f"*200 + b"\r\n", body),
        "chunk-digits": pieces(b"0"*70_000 + b"5\r\n", body), "chunk-cut": pieces(chunk(body[:cut])), "chunk-underscore": pieces(b"1_0\r\n", body), "chunk-long-line": pieces(b"5;" + b"x"*3_000_000),
        "chunked": pieces(chunk(body[:cut]), chunk(body[cut:]), b"0\r\n\r\n"), "chunk-extension": pieces(b"%x;name=value\r\n" % n, body, b"\r\n0\r\n\r\n"), "trailers": pieces(chunk(body), b"0\r\nX-After: yes\r\n\r\n"),
        "name-utf8": more("Größe: 5".encode()), "value-utf8": more("X-Where: 图".encode()), "value-latin1": more(b"X-Where: gr\xf6\xdfe"), "value-bytes": more(b"X-Odd: " + bytes(range(128, 256))),
        "value-nul": more(b"X-Odd: a\0b"), "no-colon": more(b"this is no header"), "no-name": more(b": value"), "folded": more(b"X-Long: a", b"  b", b"\tc"), "space-in-name": more(b"X Odd : 1"),
        "etag-odd": more(b'ETag: "a\xff\x01b"'), "etag-folded": more(b'ETag: "a', b' b"'), "etag-long": more(b'ETag: "' + b"e"*60_000 + b'"'), "modified-odd": more(b"Last-Modified: \xff\xfe"),
        "type-odd": more(b"Content-Type: ;;;=\xff"), "encoding-odd": more(b"Content-Encoding: \xff, gzip-not"), "date-far": more(b"Date: Fri, 31 Dec 100000000000000000000 23:59:59 GMT"),
        "cookies": more(*[b"Set-Cookie: c%d=%s; Max-Age=%s; Expires=Fri, 99 Foo 99999999999999 99:99:99 GMT; Version=x" % (i, b"v"*50, b"9"*400) for i in range(90)]),
        "cookie-odd": more("Set-Cookie: größe=图; domain=.com; path=//..; max-age=²".encode()), "cookie-long": more(b"Set-Cookie: a=" + b"b"*60_000),
        "headers-many": more(*[b"X-%d: %d" % (i, i) for i in range(5000)]), "header-long": more(b"X-Long: " + b"a"*200_000), "header-names": more(b"a"*60_000 + b": 1"),
        "no-location": to(b""), "location-empty": to(b"Location: \r\n"), "location-latin1": to(b"Location: /gr\xf6\xdfe\r\n"), "location-utf8": to("Location: /图 plain\r\n".encode()), "location-port": to(b"Location: http://127.0.0.1:99999/\r\n"),
        "location-bracket": to(b"Location: http://[::1/\r\n"), "location-nul": to(b"Location: /a\0b\r\n"), "location-long": to(b"Location: /" + b"a"*60_000 + b"\r\n"), "location-twice": to(b"Location: /a\r\nLocation: /b\r\n"),
        "location-script": to(b"Location: javascript:alert(1)\r\n"), "location-data": to(b"Location: data:image/gif;base64,R0lGOD\r\n"), "location-host": to(b"Location: http://\xff\xfe/\r\n"), "location-label": to(b"Location: http://" + b"a"*70 + b".example/\r\n"),
        "redirect-bomb": b"HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: /no-location\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(zeros),
        "status-text": b"HTTP/1.1 OK fine\r\n\r\n", "status-999": to(b"", b"999 What"), "status-0": to(b"", b"000 Zero"), "status-digits": to(b"", b"2"*5000), "status-square": to(b"", "²00 OK".encode("latin1")), "status-escape": to(b"", b"404 \x1b[2J\x1b]0;gone\x07"),
        "version-odd": b"HTTP/9.9 200 OK\r\n\r\n", "not-http": b"SSH-2.0-OpenSSH_9.2\r\n", "nothing": b"", "half-a-head": HEAD[:30], "nul": bytes(5000), "switch": to(b"Upgrade: websocket\r\n", b"101 Switching"),
        "early": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK % n + body, "continue": b"HTTP/1.1 100 Continue\r\n\r\n"*3 + OK % n + body,
        "bomb-gzip": packed(b"gzip", gzip.compress(zeros)), "bomb-deflate": packed(b"deflate", zlib.compress(zeros)), "bomb-twice": packed(b"gzip, gzip", gzip.compress(gzip.compress(zeros))),
        "gzip-torn": packed(b"gzip", gzip.compress(body)[:-20]), "gzip-lie": packed(b"gzip", body), "range-nobody-asked": b"HTTP/1.1 206 Partial Content\r\nConnection: close\r\nContent-Range: bytes 0-4/5\r\nContent-Length: 5\r\n\r\n" + body[:5],
        "range-odd": b"HTTP/1.1 206 Partial Content\r\nConnection: close\r\nContent-Range: bytes \xb2-%s/*\r\nContent-Length: 5\r\n\r\n" % (b"9"*5000) + body[:5]}


def endless(body):
    "Fault to (first bytes, what is sent for ever, seconds between)."
    slow, drip = .1, dict(first=HEAD + b"Content-Length: 1000000\r\n\r\n")
    return {
        "drip-status": (b"HTTP/1.1 2", b"0", slow), "drip-header": (HEAD + b"X-Slow: ", b"a", slow), "drip-headers": (HEAD, b"A: b\r\n", slow), "drip-continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n", slow),
        "drip-body": (drip["first"] + body[:5], b"a", slow), "drip-chunk-size": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0", slow), "drip-chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(body[:5]), b"1\r\na\r\n", slow),
        "drip-trailers": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(body) + b"0\r\n", b"A: b\r\n", slow), "stall": (HEAD, b"", 30),
        "flood-continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"*500, 0), "flood-early": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"*500, 0), "flood-header": (HEAD + b"X-Long: ", b"a"*(1 << 16), 0), "flood-headers": (HEAD, b"A: b\r\n"*5000, 0),
        "flood-status": (b"HTTP/1.1 200 ", b"a"*(1 << 16), 0), "flood-chunk-size": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0"*(1 << 16), 0), "flood-extension": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5;", b"a"*(1 << 16), 0),
        "flood-trailers": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(body) + b"0\r\n", b"A: b\r\n"*5000, 0), "flood-body": (HEAD + b"\r\n" + body[:50], body + bytes(1 << 16), 0),
        "flood-chunk-negative": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n" + body[:50], bytes(1 << 16), 0)}


class FaultServer:
    "`with FaultServer(body) as server: server.url + 'retry-square'`; what follows the fault's name after a slash is ignored."
    def __init__(self, body):
        self.once, self.ever, self.closing, self.asked = answers(body), endless(body), threading.Event(), {}
        self.server = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self.server.getsockname()[1]}/"

    def __enter__(self): threading.Thread(target=self.serve, daemon=True).start(); return self
    def __exit__(self, *error): self.closing.set(); self.server.close()

    def serve(self):
        with contextlib.suppress(OSError):
            while True: threading.Thread(target=self.one, args=(self.server.accept()[0],), daemon=True).start()

    def one(self, line):
        with contextlib.suppress(OSError), line:
            line.settimeout(30)
            asked = b""
            while b"\r\n\r\n" not in asked and (piece := line.recv(1 << 16)): asked += piece
            fault = asked.split(b" ")[1].decode("latin1").strip("/").split("/")[0].split(".")[0].split("?")[0]
            self.asked[fault] = self.asked.get(fault, 0) + 1
            if fault in self.once: line.sendall(self.once[fault])
            elif fault in self.ever: self.for_ever(line, *self.ever[fault])
            else: line.sendall(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            with contextlib.suppress(OSError): line.shutdown(socket.SHUT_WR); line.settimeout(.2); line.recv(1)

    def for_ever(self, line, first, again, pause):
        line.sendall(first)
        while not self.closing.wait(pause): line.sendall(again)
