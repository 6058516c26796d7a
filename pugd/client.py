"""A client for Python programs: events are queued at once and sent by a thread, in batches, until they are acked.

    from pugd.client import Client

    pugd = Client("pub_…", "https://events.example.com")
    pugd.identify(user_id="user_1", anonymous_id="visitor-1", traits={"plan": "free"})
    pugd.track("order_completed", user_id="user_1", properties={"value": 416.21, "currency": "USD"})

Needs the standard library alone, and nothing of the daemon. A call that is wrong in itself (no id, no name) raises
ValueError at once; whatever the network or the collector does never reaches the program but through `on_error`. Each
message gets its `messageId` and time when the call is made, so a batch that is sent again is counted once.

    call ──► queue (bounded: beyond it a call returns False) ──► thread: batch ──► POST /v1/batch ──► 200: done
                                                                  ▲                   │ network, 408, 429, 5xx
                                                                  └── wait, again ◄───┤ (Retry-After, else ×2, jitter)
                                             413: halves ◄───────────────────────────┤
                                             on_error, dropped ◄── other 4xx, refused events in a 200

Order: batches leave one after another, so events arrive in the order of their calls.
"""

from __future__ import annotations

import atexit
import base64
import gzip
import http.client
import json
import math
import os
import random
import ssl
import threading
import time
import uuid
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

BATCH_BYTES_MAX = 512 * 1024
"""Of messages in one request, before compression. The collector takes far more; proxies in between may not."""
COMPRESS_BYTES_MIN = 1024
RETRY_S_MIN, RETRY_S_MAX = 0.5, 60.0
RETRY_AFTER_S_MAX = 3600.0
_AGAIN = frozenset((408, 429))
"""And all of 5xx: the same may well be taken later."""

Message = dict[str, Any]


class SendError(Exception):
    """Messages that were not taken, and why; given to `on_error`, never raised."""

    def __init__(self, code: str, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        """The collector's stable code, or 'gave_up': the client was closed before it could send."""
        self.status = status
        """Of HTTP; 200 where only some of a batch were refused; None where nothing was answered."""


class ClientStatistics(NamedTuple):
    """Since the client was made."""

    queued: int
    """Waiting now, those on their way included."""
    acked: int
    refused: int
    """By the collector, for good."""
    dropped: int
    """Never sent: the queue was full, or the client closed."""
    retries: int


class _Queued(NamedTuple):
    message: Message
    data: bytes


OnError = Callable[[SendError, Sequence[Message]], None]


class Client:
    """Sends for one write key. All methods may be called from any thread, and in a child after a fork.

    host              where the collector listens: scheme, host and port; a path is put before `/v1/batch`
    queue_max         messages that may wait; more are dropped, and the call returns False
    batch_max         messages of one request
    flush_interval_s  how long a message waits for company
    timeout_s         for connecting, and for each answer
    on_error          called in the sending thread with what was not taken; what it raises is passed over
    """

    def __init__(
        self,
        write_key: str,
        host: str = "http://127.0.0.1:7080",
        *,
        queue_max: int = 10_000,
        batch_max: int = 100,
        flush_interval_s: float = 0.5,
        timeout_s: float = 15.0,
        on_error: OnError | None = None,
    ) -> None:
        if not write_key:
            raise ValueError("write_key is empty: give the write key of a project")
        where = urlsplit(host if "://" in host else f"http://{host}")
        if where.scheme not in ("http", "https") or not where.hostname:
            raise ValueError(f"host {host!r} is no address: give one such as https://events.example.com")
        if queue_max < 1 or batch_max < 1:
            raise ValueError("queue_max and batch_max must be at least 1")
        self._https = where.scheme == "https"
        self._address = (where.hostname, where.port)
        self._path = where.path.rstrip("/") + "/v1/batch"
        self._authorization = "Basic " + base64.b64encode(f"{write_key}:".encode()).decode()
        self._queue_max, self._batch_max = queue_max, batch_max
        self._flush_interval_s, self._timeout_s = flush_interval_s, timeout_s
        self._on_error = on_error
        self._begin()
        _clients.add(self)

    def _begin(self) -> None:
        """As new; a child after a fork begins so too: what was queued is its parent's to send."""
        self._changed = threading.Condition()
        self._queue: deque[_Queued] = deque()
        self._on_its_way = 0
        self._thread: threading.Thread | None = None
        self._connection: http.client.HTTPConnection | None = None
        self._hurry = False
        self._closed = False
        self._until = math.inf
        """Past this, a closed client gives up."""
        self._acked = self._refused = self._dropped = self._retries = 0

    # -- calls ---------------------------------------------------------------------------------------------------------

    def track(self, event: str, *, properties: Mapping[str, Any] | None = None, **common: Any) -> bool:
        """Something that someone did.

        common   user_id, anonymous_id: at least one; timestamp: when it happened, now by default; context; message_id
        returns  False where the queue is full, or the client closed
        raises   ValueError, TypeError: the call is wrong
        """
        return self._call("track", {"event": _name(event, "event"), "properties": dict(properties or {})}, common)

    def page(self, name: str = "", *, properties: Mapping[str, Any] | None = None, **common: Any) -> bool:
        """A page that someone looked at; as `track`."""
        return self._call("page", {"name": name or None, "properties": dict(properties or {})}, common)

    def screen(self, name: str = "", *, properties: Mapping[str, Any] | None = None, **common: Any) -> bool:
        """A screen of an app; as `track`."""
        return self._call("screen", {"name": name or None, "properties": dict(properties or {})}, common)

    def identify(self, *, traits: Mapping[str, Any] | None = None, **common: Any) -> bool:
        """Who someone is: with both ids, the history of `anonymous_id` joins `user_id`; `traits` are the person's."""
        return self._call("identify", {"traits": dict(traits or {})}, common)

    def alias(self, previous_id: str, **common: Any) -> bool:
        """`previous_id` and `user_id` are one person."""
        return self._call("alias", {"previousId": _name(previous_id, "previous_id")}, common)

    def group(self, group_id: str, *, traits: Mapping[str, Any] | None = None, **common: Any) -> bool:
        """Someone belongs to a group; `traits` are the group's."""
        return self._call("group", {"groupId": _name(group_id, "group_id"), "traits": dict(traits or {})}, common)

    def flush(self, timeout_s: float | None = None) -> bool:
        """Send what is queued now, and wait for it. returns whether nothing is left"""
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            while self._queue or self._on_its_way:
                left = deadline - time.monotonic()
                if left <= 0 or self._thread is None:
                    break
                self._changed.wait(None if left == math.inf else left)
            return not self._queue and not self._on_its_way

    def close(self, timeout_s: float = 10.0) -> bool:
        """Take no more, and send what is queued, for so long at most. What is left then is dropped and told `on_error`.

        returns  whether nothing was left. At the end of the program open clients are closed so, for 5 s.
        """
        with self._changed:
            self._closed = True
            self._until = min(self._until, time.monotonic() + timeout_s)
            self._changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s + self._timeout_s + 1)
        return self.statistics().dropped == 0

    def statistics(self) -> ClientStatistics:
        with self._changed:
            queued = len(self._queue) + self._on_its_way
            return ClientStatistics(queued, self._acked, self._refused, self._dropped, self._retries)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, call: str, said: Message, common: dict[str, Any]) -> bool:
        message = {"type": call, **said, **_common(**common)}
        data = _encode(message)
        with self._changed:
            if self._closed or len(self._queue) + self._on_its_way >= self._queue_max:
                self._dropped += 1
                return False
            self._queue.append(_Queued(message, data))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="pugd-client", daemon=True)
                self._thread.start()
            if len(self._queue) in (1, self._batch_max):
                self._changed.notify_all()
        return True

    # -- the sending thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while batch := self._next():
            if time.monotonic() < self._until:
                self._send(batch)
            else:
                self._give_up(batch, "out of time")
            with self._changed:
                self._on_its_way = 0
                self._changed.notify_all()
        self._disconnect()

    def _next(self) -> list[_Queued]:
        """The next batch, once there is one; empty where the client is closed and nothing is left."""
        with self._changed:
            while not self._queue:
                self._hurry = False
                if self._closed:
                    return []
                self._changed.wait()
            waited_until = time.monotonic() + self._flush_interval_s
            while len(self._queue) < self._batch_max and not (self._closed or self._hurry):
                left = waited_until - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            batch = [self._queue.popleft()]
            size = len(batch[0].data)
            while self._queue and len(batch) < self._batch_max and size + len(self._queue[0].data) < BATCH_BYTES_MAX:
                size += len(self._queue[0].data)
                batch.append(self._queue.popleft())
            self._on_its_way = len(batch)
            return batch

    def _send(self, batch: list[_Queued]) -> None:
        """Until it is acked, refused for good, or given up."""
        pause = RETRY_S_MIN
        while True:
            try:
                status, body, retry_after = self._post(batch)
            except (OSError, http.client.HTTPException) as error:
                self._disconnect()
                status, body, retry_after = None, str(error) or type(error).__name__, None
            if status == 200:
                self._settle(batch, body)
                return
            if status == 413 and len(batch) > 1:
                half = len(batch) // 2
                self._send(batch[:half])
                self._send(batch[half:])
                return
            if status is not None and status < 500 and status not in _AGAIN:
                self._fail(batch, _error(status, body))
                return
            with self._changed:
                self._retries += 1
                wait = pause * random.uniform(0.5, 1.0) if retry_after is None else retry_after  # noqa: S311
                deadline = time.monotonic() + wait
                while (left := min(deadline, self._until) - time.monotonic()) > 0:
                    self._changed.wait(left)
                gave_up = time.monotonic() >= self._until
            if gave_up:
                self._give_up(batch, str(body))
                return
            pause = min(2 * pause, RETRY_S_MAX)

    def _post(self, batch: list[_Queued]) -> tuple[int, Any, float | None]:
        """Status, what was answered (JSON where it is any), and Retry-After in seconds."""
        connection = self._connection
        if connection is None:
            host, port = self._address
            if self._https:
                context = ssl.create_default_context()
                connection = http.client.HTTPSConnection(host, port, timeout=self._timeout_s, context=context)
            else:
                connection = http.client.HTTPConnection(host, port, timeout=self._timeout_s)
            self._connection = connection
        messages = b",".join(queued.data for queued in batch)
        body = b'{"batch":[%b],"sentAt":"%b"}' % (messages, _text(datetime.now(UTC)).encode())
        headers = {"Authorization": self._authorization, "Content-Type": "application/json"}
        if len(body) >= COMPRESS_BYTES_MIN:
            body = gzip.compress(body, 5)
            headers["Content-Encoding"] = "gzip"
        connection.request("POST", self._path, body, headers)
        answer = connection.getresponse()
        said = answer.read(1 << 20)
        if answer.will_close or not answer.isclosed():
            self._disconnect()
        try:
            told: Any = json.loads(said)
        except ValueError:
            told = said[:200].decode(errors="replace")
        after = answer.getheader("Retry-After", "")
        seconds = min(float(after), RETRY_AFTER_S_MAX) if after.isascii() and after.isdecimal() else None
        return answer.status, told, seconds

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _settle(self, batch: list[_Queued], told: Any) -> None:
        """Acked, but for the events that the answer says were refused."""
        refused = told.get("refused", []) if isinstance(told, dict) else []
        bad: list[tuple[_Queued, SendError]] = []
        for one in refused:
            index = one.get("index")
            if isinstance(index, int) and 0 <= index < len(batch):
                bad.append((batch[index], SendError(str(one.get("code", "")), str(one.get("message", "")), 200)))
        with self._changed:
            self._acked += len(batch) - len(bad)
            self._refused += len(bad)
        for queued, error in bad:
            self._tell(error, [queued.message])

    def _fail(self, batch: list[_Queued], error: SendError) -> None:
        with self._changed:
            self._refused += len(batch)
        self._tell(error, [queued.message for queued in batch])

    def _give_up(self, batch: list[_Queued], why: str) -> None:
        """Closed, and out of time."""
        with self._changed:
            left = [*batch, *self._queue]
            self._queue.clear()
            self._dropped += len(left)
        self._tell(SendError("gave_up", f"closed before it could be sent: {why}"), [queued.message for queued in left])

    def _tell(self, error: SendError, messages: list[Message]) -> None:
        if self._on_error is not None:
            try:
                self._on_error(error, messages)
            except Exception:  # noqa: BLE001, S110 — the program's own fault must not end the thread that sends
                pass


# -- messages ----------------------------------------------------------------------------------------------------------


def _common(
    *,
    user_id: str | int | None = None,
    anonymous_id: str | int | None = None,
    timestamp: datetime | None = None,
    context: Mapping[str, Any] | None = None,
    message_id: str | None = None,
) -> Message:
    """What every call has."""
    if not _is_id(user_id) and not _is_id(anonymous_id):
        raise ValueError("user_id or anonymous_id is missing: give at least one of them")
    if timestamp is not None and timestamp.tzinfo is None:
        raise ValueError("timestamp has no time zone: give one such as datetime.now(UTC)")
    said: Message = {
        "messageId": message_id or str(uuid.uuid4()),
        "timestamp": _text(timestamp or datetime.now(UTC)),
        "context": {"library": {"name": "pugd-python", "version": "1"}, **(context or {})},
    }
    if _is_id(user_id):
        said["userId"] = str(user_id)
    if _is_id(anonymous_id):
        said["anonymousId"] = str(anonymous_id)
    return said


def _is_id(value: str | int | None) -> bool:
    return value is not None and value != ""


def _name(value: str, what: str) -> str:
    if not value or not isinstance(value, str):
        raise ValueError(f"{what} is missing: give a text")
    return value


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _encode(message: Message) -> bytes:
    """JSON; what JSON has no word for becomes text, and numbers that are none (NaN, infinity) null."""
    try:
        return json.dumps(message, default=_plain, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        try:
            return json.dumps(_finite(message), default=_plain, allow_nan=False, separators=(",", ":")).encode()
        except RecursionError:
            raise ValueError("properties or traits hold themselves: give plain values") from None


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return _text(value) if value.tzinfo is not None else value.isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, set | frozenset | Mapping):
        return dict(value) if isinstance(value, Mapping) else sorted(value, key=str)
    return str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _error(status: int, told: Any) -> SendError:
    if isinstance(told, dict):
        return SendError(str(told.get("code", "")), str(told.get("message", "")), status)
    return SendError("", str(told), status)


# -- the program's own life --------------------------------------------------------------------------------------------

_clients: weakref.WeakSet[Client] = weakref.WeakSet()
AT_EXIT_S = 5.0


def _close_all() -> None:
    for client in list(_clients):
        client.close(AT_EXIT_S)


def _after_fork() -> None:
    for client in list(_clients):
        client._begin()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
