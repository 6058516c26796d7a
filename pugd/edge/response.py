"""An HTTP/1.1 answer as the bytes that go on the wire.

Answers are made once where they are constant and sent many times, so they hold only what is true for every asker:
status, length, type, body. What one asker needs besides (CORS for its Origin, `Connection`, no body for HEAD) the edge
splices in behind the status line as it sends: nobody else has to think of it, and no answer can lack it.

Errors are JSON with a string `code` and `message`: client libraries read both, and without them some take the answer
for a broken network and send again.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

import msgspec

from pugd.errors import INVALID_REQUEST
from pugd.model import Refusal

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
RETRY_AFTER_S: Final = 2
"""The least a refused client is told to wait; the most is three times that, so that not all come back at once."""

_PHRASES: Final = {int(status): status.phrase for status in HTTPStatus}


class Refused(msgspec.Struct, frozen=True):
    """A request that goes no further: the status and the reason it is answered with."""

    status: int
    refusal: Refusal
    headers: tuple[tuple[str, str], ...] = ()

    def response(self) -> bytes:
        """What is sent."""
        return refusal_response(self.status, self.refusal, headers=self.headers)


def refused(status: int, code: str, message: str, field: str | None = None) -> Refused:
    """A Refused in one call."""
    return Refused(status, Refusal(code, message, field))


def invalid(message: str, status: int = 400) -> Refused:
    """What is not HTTP as RFC 9112 writes it, or beyond a bound."""
    return refused(status, INVALID_REQUEST, message)


JSON: Final = "application/json"


def response(
    status: int,
    body: bytes = b"",
    *,
    content_type: str = JSON,
    headers: Iterable[tuple[str, str]] = (),
) -> bytes:
    """The bytes of an answer; keep them where they are constant.

    A 1xx, 204 or 304 has neither body nor length. No bytes are no JSON, but may be of another type: an empty message of
    protobuf is none, and its client insists on the type. Header values are ours or checked: a line end in one is our
    fault.
    """
    lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, 'Unknown')}"]
    if status >= 200 and status not in (204, 304):
        if body or content_type != JSON:
            lines.append(f"Content-Type: {content_type}")
        lines.append(f"Content-Length: {len(body)}")
    else:
        assert not body, f"an answer {status} has no body"
    for name, value in headers:
        assert not set(name + value) & set("\r\n\0"), f"header {name!r} would split the answer"
        lines.append(f"{name}: {value}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def refusal_response(status: int, refusal: Refusal, *, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """A refusal of a whole request: `{"code", "message"}`, with `field` where there is one; 429 and 503 say when to
    come back."""
    said = {"code": refusal.code, "message": refusal.message}
    if refusal.field is not None:
        said["field"] = refusal.field
    lines = list(headers)
    if status in (429, 503):
        lines.append(("Retry-After", str(retry_after_s())))
    return response(status, msgspec.json.encode(said), headers=lines)


def retry_after_s() -> int:
    """Whole seconds, the only form that every client library reads, and not the same for all."""
    return random.randint(RETRY_AFTER_S, 3 * RETRY_AFTER_S)  # noqa: S311 - spreads load, guards nothing


def spliced(answer: bytes, extra: bytes) -> bytes:
    """`answer` with the header lines `extra` (each with its line end) behind its status line."""
    end = answer.index(b"\r\n") + 2
    return answer[:end] + extra + answer[end:]


def without_body(answer: bytes) -> bytes:
    """What HEAD is answered with: the length stays, the body goes."""
    return answer[: answer.index(b"\r\n\r\n") + 4]
