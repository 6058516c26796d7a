"""Chunked bodies: decoded as h11 decodes them, however they are cut; see test_refused_requests for what is refused."""

from __future__ import annotations

import h11
from hypothesis import given
from hypothesis import strategies as st

from pugd.edge.chunked import CHUNKS_COUNT_MAX, ChunkedBody
from pugd.edge.response import Refused

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
PIECES = st.one_of(
    st.sampled_from(
        [b"0", b"1", b"2", b"a", b"F", b"\r\n", b"\r", b"\n", b";", b"a=b", b'"', b" ", b"x", b"A: b", b":"]
    ),
    st.binary(max_size=3),
)


def by_h11(data: bytes) -> tuple[bytes, bytes] | None:
    """The body and what follows it; None where it is refused or not whole."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(HEAD + data)
    body = b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return None
        if isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return body, connection.trailing_data[0]
        elif event is h11.NEED_DATA:
            return None


def decode(data: bytes, cuts: list[int], bytes_max: int = 10_000) -> tuple[bytes, bytes] | Refused | None:
    decoder = ChunkedBody(bytes_max)
    at = 0
    for cut in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        if cut <= at:
            continue
        taken = decoder.take(data, at, cut)
        if isinstance(taken, Refused):
            return taken
        if decoder.done:
            return bytes(decoder.body), data[taken:]
        assert taken == cut
        at = taken
    return None


CUTS = st.lists(st.integers(0, 500), max_size=20)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A body, and one of its chunked forms."""
    chunks = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=5))
    extensions = st.sampled_from([b"", b";a", b";a=b", b';a="b;c\\" "', b";a;b=1"])
    text = b""
    for chunk in chunks:
        text += b"%0*x" % (draw(st.integers(1, 4)), len(chunk)) + draw(extensions) + b"\r\n" + chunk + b"\r\n"
    text += b"0" + draw(extensions) + b"\r\n" + draw(st.sampled_from([b"", b"A: b\r\n", b"A:\r\nB: c\r\n"])) + b"\r\n"
    return b"".join(chunks), text


@given(bodies(), st.binary(max_size=20), CUTS)
def test_decodes_every_form_however_cut(pair: tuple[bytes, bytes], behind: bytes, cuts: list[int]) -> None:
    body, text = pair
    assert decode(text + behind, cuts) == (body, behind)
    assert by_h11(text) == (body, b"")


@given(st.lists(PIECES, max_size=15).map(b"".join), CUTS)
def test_never_more_lenient_than_h11_and_cuts_make_no_difference(data: bytes, cuts: list[int]) -> None:
    whole = decode(data, [])
    assert decode(data, cuts) == whole or (isinstance(whole, Refused) and isinstance(decode(data, cuts), Refused))
    if isinstance(whole, tuple):
        assert by_h11(data) == whole


def test_bounds() -> None:
    assert decode(b"3e8\r\n" + b"x" * 1000 + b"\r\n0\r\n\r\n", [], 1000) == (b"x" * 1000, b"")
    refused = decode(b"3e8\r\n" + b"x" * 1000 + b"\r\n1\r\nx\r\n0\r\n\r\n", [], 1000)
    assert isinstance(refused, Refused)
    assert refused.status == 413
    many = decode(b"1\r\nx\r\n" * (CHUNKS_COUNT_MAX + 1), [], 1 << 30)
    assert isinstance(many, Refused)
    assert many.status == 413
    padded = decode((b"1;" + b"a" * 1000 + b"\r\nx\r\n") * 1000, [], 1000)
    assert isinstance(padded, Refused)
    assert padded.status == 413
