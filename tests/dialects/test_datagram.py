"""Lines of datagrams, read together, say what each says alone."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pugd.dialects import datagram
from pugd.dialects.segment import Decoded


def line(**fields: object) -> bytes:
    return json.dumps({"writeKey": "wk", "event": "x", "userId": "u", **fields}, separators=(",", ":")).encode()


def events(lines: bytes) -> list[tuple[str | None, str | None, bytes]]:
    """(key, event, properties) of all that was read."""
    return [
        (decoded.write_key, message.event, bytes(message.properties))
        for decoded in datagram.decode(lines)
        if isinstance(decoded, Decoded)
        for message in decoded.messages
    ]


def test_a_line_without_a_type_is_a_track() -> None:
    (decoded,) = datagram.decode(line() + b"\n" + line(type="page", name="p") + b"\n")
    assert isinstance(decoded, Decoded)
    assert [message.type for message in decoded.messages] == ["track", "page"]


def test_nobody_swallows_anothers_event() -> None:
    """Three datagrams: the first opens an array, the last closes it and brings two events more to even the count."""
    opening = line(writeKey="evil")[:-1] + b',"properties":{"a":[{}'
    closing = b"{}]}}," + line(writeKey="evil") + b"," + line(writeKey="evil")
    victim = line(writeKey="good", event="kept")
    found = events(b"\n".join([opening, victim, closing]) + b"\n")
    assert found == [("good", "kept", b"")]


PARTS = st.sampled_from(
    [line(), line(writeKey="other"), line(event="y", properties={"a": [1]}), b"{}", b"[", b"]", b"1", b"words", b'"a"',
     line() + b"," + line(), line()[:-1], b',"properties":{"a":[{}', b"]}}", b"{}]}}", b" " + line(), line() + b" ",
     b""]
)  # fmt: skip


@given(st.lists(PARTS, max_size=6))
def test_together_lines_say_what_they_say_alone(parts: list[bytes]) -> None:
    alone = [event for part in parts for event in events(part + b"\n")]
    assert events(b"".join(part + b"\n" for part in parts)) == alone


@pytest.mark.parametrize("text", [b"", b"\n", b"\n \n", b"  \n\n"])
def test_nothing_is_nothing(text: bytes) -> None:
    assert datagram.decode(text) == []
