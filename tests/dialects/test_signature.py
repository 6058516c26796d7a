"""Signed datagrams: whatever is not exactly as it was signed is refused, and nothing reaches into a neighbour's."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pugd.dialects import datagram, signature
from pugd.dialects.message import Decoded
from pugd.dialects.signature import AWAY_MS_MAX, Part, Signed
from pugd.errors import INVALID_SIGNATURE
from pugd.model import Refusal

NOW = 1_790_000_000_000
SECRET = "sig_secret"


def hmac_sha256(key: bytes, data: bytes) -> str:
    """As RFC 2104 draws it."""
    key = (hashlib.sha256(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
    inner = hashlib.sha256(bytes(one ^ 0x36 for one in key) + data).digest()
    return hashlib.sha256(bytes(one ^ 0x5C for one in key) + inner).hexdigest()


def signing_line(lines: bytes, at: int = NOW, secret: str = SECRET, key: str = "k", **more: Any) -> bytes:
    told = hmac_sha256(secret.encode(), str(at).encode() + b"\n" + lines)
    return json.dumps({"signature": told, "at": at, "writeKey": key, **more}).encode()


def signed(lines: bytes, **more: Any) -> bytes:
    return signing_line(lines, **more) + b"\n" + lines


def together(*datagrams: bytes) -> tuple[bytes, list[int]]:
    """As the edge hands them over."""
    offsets = [0]
    for one in datagrams:
        offsets.append(offsets[-1] + len(one) + 1)
    return b"".join(one + b"\n" for one in datagrams), offsets


def only(one: bytes) -> Signed:
    [part] = signature.parts(*together(one))
    assert part.signed is not None
    return part.signed


def proven(one: bytes, secret: str = SECRET, now: int = NOW) -> str | Refusal:
    return signature.proven(only(one), secret, now)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200), st.integers(0, 2**62), st.binary(max_size=300))
def test_a_signature_is_rfc_2104s(secret: str, at: int, lines: bytes) -> None:
    assert signature.made(secret, at, lines) == hmac_sha256(secret.encode(), b"%d\n" % at + lines)


@given(st.binary(min_size=1, max_size=300))
def test_what_was_signed_is_proven_whatever_bytes_it_is_of(lines: bytes) -> None:
    assert proven(signed(lines)) == hmac_sha256(SECRET.encode(), str(NOW).encode() + b"\n" + lines)


@given(st.binary(min_size=1, max_size=100), st.data())
def test_any_flipped_bit_is_refused(lines: bytes, data: st.DataObject) -> None:
    whole = bytearray(signed(lines))
    bit = data.draw(st.integers(0, len(whole) * 8 - 1))
    whole[bit // 8] ^= 1 << bit % 8
    for part in signature.parts(*together(bytes(whole))):
        # Of the line, but for its JSON's own signs: it signs nothing any more, or for another key.
        if part.signed is not None and part.signed.write_key == "k":
            found = signature.proven(part.signed, SECRET, NOW)
            assert isinstance(found, Refusal), bytes(whole)
            assert found.code == INVALID_SIGNATURE


@given(st.binary(min_size=1, max_size=60), st.integers(-2 * AWAY_MS_MAX, 2 * AWAY_MS_MAX))
def test_it_holds_for_five_minutes(lines: bytes, away: int) -> None:
    found = proven(signed(lines, at=NOW + away))
    assert isinstance(found, str) is (abs(away) <= 5 * 60 * 1000)


def test_another_secret_another_time_or_other_lines_prove_nothing() -> None:
    good = only(signed(b"lines"))
    told = [
        signature.proven(good, SECRET + "x", NOW),
        signature.proven(Signed("k", good.signature, type(good.at)(str(NOW + 1).encode()), good.lines), SECRET, NOW),
        signature.proven(Signed("k", good.signature, good.at, good.lines + b"\n"), SECRET, NOW),
        proven(signing_line(b"")),
        proven(signing_line(b"") + b"\n"),
    ]
    assert [one.code for one in told if isinstance(one, Refusal)] == [INVALID_SIGNATURE] * 5


@pytest.mark.parametrize(
    "more",
    [{"at": str(NOW)}, {"at": float(NOW)}, {"at": None}, {"at": True}, {"at": 10**400}, {"at": -(2**70)}, {"at": {}},
     {"signature": None}, {"signature": 1}, {"signature": []}, {"signature": ""}, {"signature": "é" * 64},
     {"signature": "0" * 64}, {"signature": hmac_sha256(SECRET.encode(), b"%d\nlines" % NOW).upper()},
     {"signature": hmac_sha256(SECRET.encode(), b"%d\nlines" % NOW)[:63]}],
)  # fmt: skip
def test_a_line_that_is_not_as_it_should_be_is_refused_and_told_why(more: dict[str, Any]) -> None:
    line = json.dumps({"signature": "0" * 64, "at": NOW, "writeKey": "k", **more}).encode()
    found = proven(line + b"\nlines")
    assert isinstance(found, Refusal)
    assert found.code == INVALID_SIGNATURE
    assert found.field in ("at", "signature")


@pytest.mark.parametrize(
    "line",
    [b'{"signature":"x","at":1}', b'{"signature":"x","at":1,"writeKey":""}', b'{"signature":"x","at":1,"writeKey":7}',
     b'{"signature":"x","at":1,"writeKey":"k","userId":"u"}', b'{"signature":"x","writeKey":"k","anonymousId":null}',
     b'{"at":1,"writeKey":"k","properties":{"signature":"x"}}', b'["signature"]', b'"signature"', b'{"signature"',
     b'{"signature":"x","at":1,"writeKey":"k","more":"' + b"x" * 4096 + b'"}',
     b'{"signature":' + b"[" * 4000, b'{"signature":"\\ud800","writeKey":"k"}x',
     b'\n{"signature":"x","at":1,"writeKey":"k"}'],
)  # fmt: skip
def test_what_signs_nothing_is_lines(line: bytes) -> None:
    lines, offsets = together(line + b"\nrest", b"other")
    assert signature.parts(lines, offsets) == [Part(lines)]
    assert signature.parts(lines, ()) == [Part(lines)]


def test_members_may_be_in_any_order_and_there_may_be_more_of_them() -> None:
    told = signature.made(SECRET, NOW, b"lines")
    line = f'{{ "writeKey" : "k", "v":[1], "at":{NOW},\t"signature": "{told}" }}\r'.encode()
    assert proven(line + b"\nlines") == told


PIECES = st.one_of(
    st.sampled_from([b"", b"\n", b'{"event":"x"}', b"{", b'"signature"', b'{"a":"signature"}', b'\n{"signature":"',
                     b'{"signature":"x","at":1,"writeKey":"k"}', b'{"signature":"x","at":1,"writeKey":"k","userId":1}',
    ]),
    st.binary(max_size=20),
)  # fmt: skip
DATAGRAMS = st.lists(
    st.one_of(PIECES, st.builds(lambda a, b: a + b"\n" + b, PIECES, PIECES), PIECES.map(signed)), max_size=8
)


@given(DATAGRAMS)
def test_parts_are_what_each_datagram_says_alone(datagrams: list[bytes]) -> None:
    datagrams = [one for one in datagrams if one]
    lines, offsets = together(*datagrams)
    found = signature.parts(lines, offsets)
    assert b"".join(part.lines for part in found) == lines
    alone = [part for one in datagrams for part in signature.parts(*together(one))]
    assert [part for part in found if part.signed] == [part for part in alone if part.signed]
    joined = b"".join(part.lines if part.signed is None else b"" for part in alone)
    assert b"".join(part.lines for part in found if part.signed is None) == joined
    for part in found:
        if part.signed is not None:
            # What it is of is what lies behind the first line feed, to the end of the datagram, and no more.
            assert part.lines.partition(b"\n")[2] == part.signed.lines + b"\n" * (b"\n" in part.lines[:-1])


def names(datagrams: list[tuple[bytes, str]]) -> list[str | None]:
    """The event ids of what was read."""
    found = datagram.decode_signed(datagrams)
    return [message.messageId for one in found if isinstance(one, Decoded) for message in one.messages]


def test_the_same_datagram_names_its_events_alike() -> None:
    lines = b"\n".join([b'{"writeKey":"k"}', b"words", b'{"writeKey":"b","messageId":"own"}', b'{"writeKey":"k"}'])
    expected = ["f" * 32 + "-0", "own", "f" * 32 + "-2"]
    assert names([(lines, "f" * 64)]) == names([(lines, "f" * 64)]) == expected


LINES = st.lists(
    st.sampled_from([
        b'{"writeKey":"k"}', b'{"writeKey":"k","messageId":"own"}', b'{"writeKey":"b"}', b"{}", b"{", b"", b" ", b"\r",
        b"words", b'{"writeKey":"k"},{"writeKey":"k"}', b'{"writeKey":"k","properties":{"a":[', b"]}}",
    ]),
    max_size=3,
).map(b"\n".join)  # fmt: skip


@given(st.lists(LINES, min_size=1, max_size=4))
def test_signed_datagrams_read_together_are_what_each_is_alone(datagrams: list[bytes]) -> None:
    signed = [(lines, f"{number}" * 64) for number, lines in enumerate(datagrams)]
    assert names(signed) == [name for one in signed for name in names([one])]
    refused = [one for one in datagram.decode_signed(signed) if isinstance(one, Refusal)]
    alone = [one for each in signed for one in datagram.decode_signed([each]) if isinstance(one, Refusal)]
    assert refused == alone
