"""ClickHouse's HTTP interface, in small, over the real embedded engine, in a process of its own.

    python clickhouse_front.py DIRECTORY      prints `port N`, serves until its standard input ends

It lets the real HTTP client talk to the real engine where no ClickHouse server is installed. What it does as a server
does: query and settings in the URL, the body or a form, `param_…`, `database`, plain and chunked bodies, INSERT …
FORMAT Native with the data in the body, errors as status, `X-ClickHouse-Exception-Code` and text, users by Basic auth.
A request has a session of its own (a connection of the engine), so requests run side by side.

What the engine cannot tell, it keeps itself: which query ids are running (`system.processes` is answered from here, and
`kill query` ends an insert that is held). `POST /front?next=…` spoils the next insert: `lose-before` and `lose-after`
close the connection without an answer, before or after it ran; `hold` keeps it running before it runs, until killed;
`busy` answers 503, `parts` the error of too many parts, `memory` that of too little memory.
"""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import chdb

PASSWORD = os.environ.get("FRONT_PASSWORD", "")
SETTINGS = os.environ.get("FRONT_SETTINGS", "")
"""`name = value, …`: of every user, as a server's profile has them."""
TRANSPORT = {
    *(
        "query",
        "database",
        "query_id",
        "user",
        "password",
        "compress",
        "decompress",
        "wait_end_of_query",
        "buffer_size",
    ),
    *("session_id", "session_timeout", "session_check", "quota_key", "role", "client_protocol_version"),
    *("send_progress_in_http_headers", "http_headers_progress_interval_ms", "enable_http_compression"),
    *("cancel_http_readonly_queries_on_client_close", "default_format"),
}
STATUS = {62: 400, 47: 400, 117: 400, 60: 404, 81: 404, 516: 403, 497: 403, 159: 408}
CODES = {"parts": (252, "Too many parts (3000)"), "memory": (241, "Memory limit exceeded")}
INSERT = re.compile(r"\s*insert\s+into\s+(?P<target>.+?)\s+format\s+(?P<format>\w+)\s*$", re.IGNORECASE | re.DOTALL)


class Front:
    """The engine, and what this process knows of its requests."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = str(directory / "clickhouse")
        self.keep = chdb.connect(self.path)  # the engine stops with its last connection
        self.running: dict[str, threading.Event] = {}
        self.next = ""
        self.inserts: list[str] = []

    def run(self, sql: str, values: dict[str, str], body: bytes) -> bytes:
        session = chdb.connect(self.path)
        try:
            if SETTINGS:
                session.query(f"set {SETTINGS}")
            if values.get("database") not in (None, "__default__"):
                name = values["database"].replace("`", "``")
                session.query(f"use `{name}`")
            for name, value in values.items():
                if name not in TRANSPORT and not name.startswith("param_"):
                    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
                    session.query(f"set {name} = '{quoted}'")
            parameters = {name[6:]: value for name, value in values.items() if name.startswith("param_")}
            if match := INSERT.match(sql):
                return self.insert(session, match["target"], match["format"], body)
            sql += body.decode()
            if "system.processes" in sql:
                ids = ", ".join(f"'{name}'" for name in self.running) or "''"
                sql = sql.replace("system.processes", f"(select arrayJoin([{ids}]) as query_id, currentUser() as user)")
            if sql.lower().startswith("kill query"):
                for name, killed in list(self.running.items()):
                    if name.startswith(parameters.get("prefix", "\0")):
                        killed.set()
                return b""
            form = re.search(r"\bformat\s+(\w+)\s*$", sql, re.IGNORECASE)
            return session.query(sql, form[1] if form else "TabSeparated", params=parameters).bytes() or b""
        finally:
            session.close()

    def insert(self, session: Any, target: str, form: str, body: bytes) -> bytes:
        with tempfile.NamedTemporaryFile(dir=self.directory) as file:
            file.write(body)
            file.flush()
            session.query(f"insert into {target} from infile '{file.name}' format {form}")
        return b""


def fields(body: bytes, boundary: bytes) -> dict[str, str]:
    """A form's fields: how clients send a query whose parameters are too long for a URL."""
    found = {}
    for part in body.split(b"--" + boundary)[1:-1]:
        head, _, value = part.strip(b"\r\n").partition(b"\r\n\r\n")
        if name := re.search(rb'name="([^"]*)"', head):
            found[name[1].decode()] = value.decode()
    return found


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    front: Front

    def log_message(self, *_: object) -> None:
        """Silence."""

    def do_GET(self) -> None:
        if self.path == "/ping":
            self.answer(200, b"Ok.\n")
        else:
            self.do_POST()

    def do_POST(self) -> None:
        body = self.body()
        url = urlsplit(self.path)
        values = dict(parse_qsl(url.query, keep_blank_values=True))
        if url.path == "/front":
            self.front.next = values.get("next", "")
            self.answer(200, json.dumps({"inserts": self.front.inserts, "running": list(self.front.running)}).encode())
            return
        if PASSWORD and self.password() != PASSWORD:
            self.refuse(516, "default: Authentication failed")
            return
        if form := re.search(r"multipart/form-data; *boundary=(\S+)", self.headers.get("Content-Type", "")):
            values |= fields(body, form[1].strip('"').encode())
            body = b""
        sql = values.get("query", "")
        if not sql:
            head, _, rest = body.partition(b"\n")
            sql, body = (head.decode(), rest) if INSERT.match(head.decode("utf-8", "replace")) else (body.decode(), b"")
        self.execute(sql, values, body)

    def execute(self, sql: str, values: dict[str, str], body: bytes) -> None:
        name, killed, spoil = values.get("query_id", ""), threading.Event(), ""
        if INSERT.match(sql):
            spoil, self.front.next = self.front.next, ""
            self.front.inserts.append(name)
        if spoil == "busy":
            self.answer(503, b"busy")
            return
        if spoil in CODES:
            self.refuse(*CODES[spoil])
            return
        if spoil == "lose-before":
            self.lose()
            return
        if name:
            self.front.running[name] = killed
        try:
            if spoil == "hold":
                self.lose()  # the asker's connection is gone, the server works on
                killed.wait(60)
                return
            result = self.front.run(sql, values, body)
        except Exception as error:  # noqa: BLE001 — whatever the engine says goes back to the asker
            text = str(error)
            found = re.search(r"Code: (\d+)", text)
            self.refuse(int(found[1]) if found else 1001, text)
            return
        finally:
            self.front.running.pop(name, None)
        if spoil == "lose-after":
            self.lose()
            return
        self.answer(200, result, {"X-ClickHouse-Query-Id": name, "X-ClickHouse-Summary": "{}"})

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while length := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(length))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def password(self) -> str:
        given = self.headers.get("Authorization", "")
        return base64.b64decode(given[6:]).decode().partition(":")[2] if given.startswith("Basic ") else ""

    def lose(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def refuse(self, code: int, text: str) -> None:
        self.answer(STATUS.get(code, 500), text.encode(), {"X-ClickHouse-Exception-Code": str(code)})

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("X-ClickHouse-Timezone", "UTC")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    Handler.front = Front(Path(sys.argv[1]))
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2]) if len(sys.argv) > 2 else 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"port {server.server_address[1]}", flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
