"""An HTTP proxy that does to a request what networks and servers do to it; the next of FAULTS that is drawn, or none.

reset-before    the connection is reset before the server sees the request
reset-after     … after the server has answered: the reply is lost
stall           nothing comes back for a while, then the connection ends; the server has done it meanwhile
half            half of the reply, then the connection is reset
busy            503, and the server sees nothing
later           … which says when to come again; not among FAULTS, and neither is slow
slow            the answer takes a while
gateway         502, although the server has done it
twice           the server sees the request twice, at once; one of the replies comes back
read-only       the error of a server that may not be written to
full            the error of a server whose disk is full
memory          the error of a server short of memory
"""

from __future__ import annotations

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAULTS = ("reset-before", "reset-after", "stall", "half", "busy", "gateway", "twice", "read-only", "full", "memory")
ERRORS = {
    "read-only": (242, "Table is in readonly mode"),
    "full": (243, "Cannot reserve 1.00 MiB, not enough space"),
    "memory": (241, "Memory limit (total) exceeded"),
}
STALL_S = 1.5
SLOW_S = 0.7
LATER_S = 1


class Proxy:
    """In front of 127.0.0.1:`port`. Faults hit inserts with `odds`, other requests, of which a recovery takes many, a
    tenth as often."""

    def __init__(self, port: int, seed: int, odds: float) -> None:
        self.upstream = port
        self.draw = random.Random(seed)
        self.odds = odds
        self.lock = threading.Lock()
        self.met: Counter[str] = Counter()
        """Faults of inserts."""
        self.spared = 0
        """Requests that nothing happens to, from now on."""

        class Bound(Handler):
            proxy = self

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def fault(self, insert: bool) -> str:
        with self.lock:
            if self.spared or self.draw.random() >= (self.odds if insert else self.odds / 10):
                self.spared = max(0, self.spared - 1)
                return ""
            # Each in its turn, so that a short run meets all of them.
            fault = FAULTS[sum(self.met.values()) % len(FAULTS)] if insert else self.draw.choice(FAULTS)
            if insert:
                self.met[fault] += 1
                # Mostly whoever was hit comes right at once; else its pauses would be most of the test.
                self.spared = self.draw.choice((0, 12, 12, 12))
            return fault

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy
    own: tuple[str, ...] = ("transfer-encoding", "content-length", "host")
    """Headers of a request that the proxy says itself."""

    def log_message(self, *_: object) -> None:
        """Silence."""

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        body = self.body()
        insert = b"insert into" in body[:500].lower() or "insert%20into" in self.path.lower().replace("+", "%20")
        fault = self.proxy.fault(insert)
        if fault == "reset-before":
            self.reset()
            return
        if fault == "busy":
            self.answer(503, {}, b"busy")
            return
        if fault == "later":
            self.answer(503, {"Retry-After": str(LATER_S)}, b"later")
            return
        if fault in ERRORS:
            code, text = ERRORS[fault]
            said = f"Code: {code}. DB::Exception: {text}".encode()
            self.answer(500, {"X-ClickHouse-Exception-Code": str(code)}, said)
            return
        if fault == "twice":
            other = threading.Thread(target=self.forward, args=(body,), daemon=True)
            other.start()
        try:
            status, headers, said = self.forward(body)
        except (OSError, http.client.HTTPException):
            self.reset()
            return
        if fault == "twice":
            other.join(30)
        if fault == "reset-after":
            self.reset()
        elif fault == "stall":
            time.sleep(STALL_S)
            self.reset()
        elif fault == "slow":
            time.sleep(SLOW_S)
            self.answer(status, headers, said)
        elif fault == "gateway":
            self.answer(502, {}, b"bad gateway")
        elif fault == "half":
            self.answer(status, headers, said, cut=True)
        else:
            self.answer(status, headers, said)

    def forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.proxy.upstream, timeout=60)
        try:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in self.own}
            headers["Content-Length"] = str(len(body))
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while length := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(length))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def answer(self, status: int, headers: dict[str, str], body: bytes, *, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "date", "server", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        if cut and not body:
            # Half of a reply without a body is half of its head.
            self._headers_buffer = [b"".join(self._headers_buffer)[:60]]
            self.flush_headers()
        else:
            self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.wfile.flush()
            self.reset()
