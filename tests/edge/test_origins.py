"""From where a key may send: what an operator writes, and what browsers say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pugd.edge.origins import allows, normalized


@pytest.mark.parametrize(
    ("written", "compared"),
    [
        ("https://shop.example", "https://shop.example"),
        (" HTTPS://Shop.Example/ ", "https://shop.example"),
        ("https://shop.example:443", "https://shop.example"),
        ("http://shop.example:80", "http://shop.example"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("https://*.shop.example", "https://*.shop.example"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ("null", "null"),
    ],
)
def test_what_is_an_origin(written: str, compared: str) -> None:
    assert normalized(written) == compared
    assert normalized(compared) == compared


@pytest.mark.parametrize(
    "written",
    ["", "*", "shop.example", "https://", "https://shop.example/path", "https://*", "https://a.*.example", "any",
     "https://shop.example, https://other.example", "https://" + "a" * 300],
)  # fmt: skip
def test_what_is_none(written: str) -> None:
    with pytest.raises(ValueError, match="no origin: write https://"):
        normalized(written)


def test_who_may_send() -> None:
    one = ("https://shop.example", "http://localhost:3000", "https://*.shops.example")
    for origin in (
        b"https://shop.example",
        b"HTTPS://SHOP.EXAMPLE",
        b"http://localhost:3000",
        b"https://a.shops.example",
        b"https://a.b.shops.example",
    ):
        assert allows(one, origin), origin
    for origin in (
        b"http://shop.example",
        b"https://shop.example:8443",
        b"https://shop.example.evil.example",
        b"https://evilshop.example",
        b"https://shops.example",
        b"https://.shops.example",
        b"https://evil-shops.example",
        b"http://a.shops.example",
        b"https://a.shops.example:8443",
        b"null",
        b"",
        b"\xff",
    ):
        assert not allows(one, origin), origin
    assert allows(("null",), b"null")


@given(st.binary(max_size=80))
def test_any_bytes_are_judged(origin: bytes) -> None:
    assert not allows(("https://shop.example",), origin) or origin.lower() == b"https://shop.example"
