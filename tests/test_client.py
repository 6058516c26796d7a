"""pugd.client against a collector that does as told: late, broken, overloaded, picky. The real one: tests/live."""

from __future__ import annotations

import gzip
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID

import pytest

from pugd.client import Client, SendError

Answer = tuple[int, dict[str, str], bytes]
OK: Answer = (200, {}, b'{"success":true}')
PATIENCE_S = 30


class Collector:
    """Answers the n-th request as `script` says, every later one with OK; a None is a connection that breaks."""

    def __init__(self) -> None:
        self.script: list[Answer | Callable[[list[dict[str, Any]]], Answer] | None] = []
        self.batches: list[list[dict[str, Any]]] = []
        self.heads: list[dict[str, str]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers["Content-Encoding"] == "gzip":
                    body = gzip.decompress(body)
                batch = json.loads(body)["batch"]
                collector.batches.append(batch)
                collector.heads.append({**dict(self.headers), "path": self.path})
                answer = collector.script.pop(0) if collector.script else OK
                if callable(answer):
                    answer = answer(batch)
                if answer is None:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return
                status, headers, data = answer
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.host = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def ids(self) -> list[list[str]]:
        return [[message["messageId"] for message in batch] for batch in self.batches]


@pytest.fixture
def collector() -> Iterator[Collector]:
    one = Collector()
    yield one
    one.server.shutdown()
    one.server.server_close()


def sent(client: Client, count: int, **common: Any) -> list[str]:
    ids = [f"m{number}" for number in range(count)]
    for one in ids:
        assert client.track("e", user_id="u", message_id=one, **common)
    return ids


def test_messages_are_what_the_collector_reads(collector: Collector) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, 678_900, tzinfo=timezone(timedelta(hours=2)))
    with Client("wk", collector.host) as client:
        client.track("order", user_id=7, anonymous_id="a", properties={"value": 1.5}, timestamp=at, message_id="1")
        client.page("Home", anonymous_id="a", context={"locale": "de"})
        client.screen(anonymous_id="a")
        client.identify(user_id="u", traits={"plan": "pro"})
        client.alias("a", user_id="u")
        client.group("g", user_id="u", traits={"size": 3})
        assert client.flush(PATIENCE_S)
    (batch,) = collector.batches
    assert [message["type"] for message in batch] == ["track", "page", "screen", "identify", "alias", "group"]
    assert batch[0] == {
        "type": "track", "event": "order", "properties": {"value": 1.5}, "messageId": "1", "userId": "7",
        "anonymousId": "a", "timestamp": "2026-01-02T01:04:05.678Z",
        "context": {"library": {"name": "pugd-python", "version": "1"}},
    }  # fmt: skip
    assert batch[1]["name"] == "Home"
    assert batch[1]["context"]["locale"] == "de"
    assert batch[3]["traits"] == {"plan": "pro"}
    assert (batch[4]["previousId"], batch[5]["groupId"]) == ("a", "g")
    assert len({message["messageId"] for message in batch}) == 6
    assert collector.heads[0]["path"] == "/v1/batch"
    assert collector.heads[0]["Authorization"] == "Basic d2s6"


def test_wrong_calls_are_told_at_once() -> None:
    client = Client("wk")
    for wrong in (
        lambda: client.track("e"),
        lambda: client.track("", user_id="u"),
        lambda: client.track("e", user_id=""),
        lambda: client.track("e", user_id="u", timestamp=datetime(2026, 1, 1)),
        lambda: client.alias("", user_id="u"),
        lambda: Client(""),
        lambda: Client("wk", "ftp://x"),
        lambda: Client("wk", queue_max=0),
    ):
        with pytest.raises(ValueError, match=r"missing|empty|no address|at least|time zone"):
            wrong()
    with pytest.raises(TypeError):
        client.track("e", userid="u")
    around: list[object] = []
    around.append(around)
    with pytest.raises(ValueError, match="hold themselves"):
        client.track("e", user_id="u", properties={"a": around})
    assert client.statistics().queued == 0
    assert client.flush(0.1)


def test_values_that_json_has_no_word_for_become_text_or_null(collector: Collector) -> None:
    odd = {
        "nan": float("nan"), "all": [float("inf"), 1], "when": datetime(2026, 1, 1, tzinfo=UTC),
        "day": date(2026, 1, 2), "id": UUID(int=1), "set": {"b", "a"}, "object": object,
    }  # fmt: skip
    with Client("wk", collector.host) as client:
        client.track("e", user_id="u", properties=odd)
    said = collector.batches[0][0]["properties"]
    assert (said["nan"], said["all"], said["when"], said["day"]) == (
        None,
        [None, 1],
        "2026-01-01T00:00:00.000Z",
        "2026-01-02",
    )
    assert (said["id"], sorted(said["set"]), said["object"]) == (str(UUID(int=1)), ["a", "b"], "<class 'object'>")


@pytest.mark.parametrize(
    "trouble",
    [
        (503, {"Retry-After": "0"}, b'{"code":"unavailable","message":"later"}'),
        (429, {"Retry-After": "0"}, b"{}"),
        (500, {}, b"<html>"),
        None,
    ],
)
def test_what_may_be_taken_later_is_sent_again_the_same(collector: Collector, trouble: Answer | None) -> None:
    collector.script = [trouble, trouble]
    with Client("wk", collector.host) as client:
        ids = sent(client, 3)
        assert client.flush(PATIENCE_S)
        assert client.statistics()[1:] == (3, 0, 0, 2)
    assert collector.ids == [ids] * 3


def test_retry_after_is_kept_to_and_a_close_ends_the_wait(collector: Collector) -> None:
    told: list[tuple[str, int]] = []
    collector.script = [(503, {"Retry-After": "600"}, b"{}")]
    client = Client("wk", collector.host, on_error=lambda error, left: told.append((error.code, len(left))))
    sent(client, 5)
    assert not client.flush(0.5)
    assert not client.close(0.2)
    assert len(collector.batches) == 1
    assert told == [("gave_up", 5)]
    assert client.statistics() == (0, 0, 0, 5, 1)
    assert not client.track("e", user_id="u")


def test_what_is_refused_for_good_is_told_and_dropped(collector: Collector) -> None:
    refused = (
        b'{"success":true,"accepted":2,"refused":[{"index":1,"code":"invalid_id","message":"too long","field":"x"}]}'
    )
    told: list[tuple[int | None, str, list[str]]] = []

    def on_error(error: SendError, messages: Any) -> None:
        told.append((error.status, error.code, [message["messageId"] for message in messages]))
        raise RuntimeError("the program's own fault")

    collector.script = [(200, {}, refused), (401, {}, b'{"code":"invalid_key","message":"no"}'), (400, {}, b"text")]
    with Client("wk", collector.host, on_error=on_error) as client:
        for _ in range(3):
            sent(client, 3)
            assert client.flush(PATIENCE_S)
        assert client.statistics()[1:4] == (2, 7, 0)
    all_ids = ["m0", "m1", "m2"]
    assert told == [(200, "invalid_id", ["m1"]), (401, "invalid_key", all_ids), (400, "", all_ids)]


def test_a_batch_that_is_too_large_for_somebody_is_halved(collector: Collector) -> None:
    told: list[list[Any]] = []

    def picky(batch: list[dict[str, Any]]) -> Answer:
        return (413, {}, b"{}") if len(batch) > 2 or any("big" in message["properties"] for message in batch) else OK

    collector.script = [picky] * 20
    with Client("wk", collector.host, on_error=lambda _, messages: told.append(list(messages))) as client:
        sent(client, 4)
        client.track("e", user_id="u", properties={"big": 1}, message_id="big")
        assert client.flush(PATIENCE_S)
        assert client.statistics()[1:3] == (4, 1)
    assert [[message["messageId"] for message in messages] for messages in told] == [["big"]]


def test_batches_are_bounded_in_messages_and_bytes_and_keep_their_order(collector: Collector) -> None:
    with Client("wk", collector.host, batch_max=10, flush_interval_s=60) as client:
        ids = sent(client, 25)
        assert client.flush(PATIENCE_S)
        assert [len(batch) for batch in collector.ids] == [10, 10, 5]
        assert [one for batch in collector.ids for one in batch] == ids
        for number in range(4):
            client.track("e", user_id="u", properties={"text": "x" * 200_000}, message_id=f"l{number}")
        assert client.flush(PATIENCE_S)
    assert [len(batch) for batch in collector.ids[3:]] == [2, 2]


def test_a_full_queue_refuses_and_never_waits() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: refused at once
        client = Client("wk", f"http://127.0.0.1:{nobody.getsockname()[1]}", queue_max=5, flush_interval_s=0)
        taken = [client.track("e", user_id="u") for _ in range(9)]
        assert taken == [True] * 5 + [False] * 4
        assert client.statistics().dropped == 4
        assert not client.close(0.1)
        assert client.statistics().dropped == 9


def test_a_child_after_a_fork_sends_its_own_and_nothing_of_its_parent(collector: Collector) -> None:
    client = Client("wk", collector.host, flush_interval_s=60)
    client.track("e", user_id="parent", message_id="parent")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            client.track("e", user_id="child", message_id="child")
            code = 0 if client.close(PATIENCE_S) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert collector.ids == [["child"]]
    assert client.close(PATIENCE_S)
    assert collector.ids == [["child"], ["parent"]]


def test_a_program_that_ends_sends_what_it_said(collector: Collector) -> None:
    """And needs nothing but the standard library: -S -I hides every installed package."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[2]); from pugd.client import Client;"
        "Client('wk', sys.argv[1], flush_interval_s=60).track('e', user_id='u', message_id='last')"
    )
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    subprocess.run([sys.executable, "-I", "-S", "-c", program, collector.host, root], check=True, timeout=PATIENCE_S)
    assert collector.ids == [["last"]]
