"""Forms: whatever a client put into `data=` comes out, as it was, and nothing else happens to it."""

from __future__ import annotations

import base64
import json
import tracemalloc
from urllib.parse import parse_qsl, quote, unquote_to_bytes, urlencode

from hypothesis import given
from hypothesis import strategies as st

from pugd.edge.form import FIELDS_MAX, field, is_form, opened, unquoted

VALUES = st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)
EVENTS = st.dictionaries(st.text(), VALUES) | st.lists(VALUES)


@given(EVENTS, st.dictionaries(st.sampled_from(["verbose", "ip", "api_key"]), st.text(max_size=40)))
def test_every_way_to_put_events_into_a_form(events: object, more: dict[str, str]) -> None:
    text = json.dumps(events, ensure_ascii=False).encode("utf-8", "surrogatepass")
    packed = base64.b64encode(text)
    beside = {name: value for name, value in more.items() if not any("\ud800" <= one <= "\udfff" for one in value)}
    tail = ("&" + urlencode(beside)).encode() if beside else b""
    for data in (
        quote(text),
        urlencode({"": text})[1:],
        packed,
        packed.replace(b"+", b" "),
        packed.rstrip(b"="),
        quote(packed, safe=""),
        quote(packed),
        base64.urlsafe_b64encode(text),
    ):
        form = b"data=" + (data if isinstance(data, bytes) else data.encode()) + tail
        assert is_form(form)
        assert opened(form) == (text, beside)
        if beside:
            assert opened(tail[1:] + b"&" + form.partition(b"&")[0]) == (text, beside)


def test_what_is_neither_stays() -> None:
    assert opened(b"data=lz.string!*") == (b"lz.string!*", {})
    assert opened(b"verbose=1") == (b"", {"verbose": "1"})
    assert opened(b"data=A") == (b"A", {})
    assert opened(b"") == (b"", {"": ""})
    assert not is_form(b'{"data=":1}')
    assert len(opened(b"data=&" + b"&".join(b"a%d=" % i for i in range(1000)))[1]) <= FIELDS_MAX


@given(st.binary(max_size=60) | st.text("%0aF+=\n\r _%", max_size=40).map(str.encode))
def test_percent_signs_as_the_standard_library_reads_them(value: bytes) -> None:
    assert unquoted(value) == unquote_to_bytes(value)


@given(st.binary(max_size=80))
def test_any_bytes(form: bytes) -> None:
    data, fields = opened(b"data=" + form)
    assert len(data) <= len(form)
    assert all(isinstance(name, str) for name in fields)


@given(st.text("ab%3=&+ü", max_size=30))
def test_a_field_of_a_query(query: str) -> None:
    wanted = dict(reversed(parse_qsl(query, keep_blank_values=True, separator="&")))
    for name in "ab":
        found = field(query.encode(), name.encode())
        if found is not None:
            assert found == wanted[name]


def test_thirty_megabytes_of_percent_signs_are_few_copies() -> None:
    form = b"data=" + b"%7B" * 10_000_000
    tracemalloc.start()
    data, _ = opened(form)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert data == b"{" * 10_000_000
    assert peak < 5 * len(form)
