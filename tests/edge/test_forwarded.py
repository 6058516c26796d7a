"""Whom a request is from, behind proxies or not."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pugd.edge import forwarded
from pugd.edge.forwarded import Clients

TRUSTED = ("127.0.0.0/8", "::1", "10.0.0.0/8", "2001:db8::/32")


def told(peer: str, forwarded_for: bytes | None = None, header: bytes | None = None) -> str:
    return Clients(TRUSTED).of(peer, forwarded_for, header)


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("81.2.69.142", None, "81.2.69.142"),
        ("81.2.69.142", b"8.8.8.8", "81.2.69.142"),  # who is no proxy of ours says nothing of others
        ("10.0.0.7", None, "10.0.0.7"),
        ("10.0.0.7", b"81.2.69.142", "81.2.69.142"),
        ("10.0.0.7", b"8.8.8.8, 81.2.69.142", "81.2.69.142"),  # the right one was told by our proxy
        ("10.0.0.7", b"81.2.69.142, 10.9.9.9", "81.2.69.142"),
        ("10.0.0.7", b" 81.2.69.142\t,, ,10.9.9.9,", "81.2.69.142"),
        ("10.0.0.7", b"10.1.1.1, 10.9.9.9", "10.1.1.1"),
        ("10.0.0.7", b"", "10.0.0.7"),
        ("10.0.0.7", b"8.8.8.8, unknown", ""),  # nothing left of it is vouched for
        ("10.0.0.7", b"8.8.8.8, unknown, 10.9.9.9", ""),
        ("10.0.0.7", b"8.8.8.8, 81.2.69.142\xff", ""),
        ("10.0.0.7", b"81.2.69.142:5678", "81.2.69.142"),
        ("10.0.0.7", b"[2a02:6b80::7]:5678", "2a02:6b80::7"),
        ("10.0.0.7", b"[2a02:6b80::7]", "2a02:6b80::7"),
        ("10.0.0.7", b"2a02:6b80::7", "2a02:6b80::7"),
        ("::ffff:10.0.0.7", b"::ffff:81.2.69.142", "81.2.69.142"),
        ("2001:db8::1", b"81.2.69.142", "81.2.69.142"),
        ("", b"81.2.69.142", "81.2.69.142"),  # a Unix socket
        ("", None, "127.0.0.1"),
        ("no address", b"81.2.69.142", ""),
    ],
)
def test_the_right_most_that_is_no_proxy_of_ours(peer: str, forwarded_for: bytes | None, client: str) -> None:
    assert told(peer, forwarded_for) == client


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (b"for=81.2.69.142", "81.2.69.142"),
        (b"For=81.2.69.142;proto=https;by=10.0.0.1", "81.2.69.142"),
        (b'proto=https; FOR = "[2a02:6b80::7]:4711"', "2a02:6b80::7"),
        (b'for="81.2.69.142:80"', "81.2.69.142"),
        (b"for=8.8.8.8, for=81.2.69.142, for=10.1.1.1", "81.2.69.142"),
        (b'for="8.8.8.8, for=81.2.69.142', "81.2.69.142"),  # what a client leaves open, our proxy's part ends
        (b"for=_hidden", ""),
        (b"for=unknown", ""),
        (b"by=81.2.69.142", ""),
        (b"proto=https", ""),
        (b"before=81.2.69.142", ""),
    ],
)
def test_the_newer_header_is_read_where_the_older_one_is_not_there(header: bytes, client: str) -> None:
    assert told("10.0.0.7", None, header) == client
    assert told("10.0.0.7", b"8.8.4.4", header) == "8.8.4.4"


def test_without_trusted_proxies_nobody_is_believed() -> None:
    assert Clients(()).of("127.0.0.1", b"8.8.8.8", b"for=8.8.8.8") == "127.0.0.1"


HOPS = [f"81.2.69.{number}" for number in range(3)] + [f"10.0.0.{number}" for number in range(3)]


@given(st.sampled_from(HOPS), st.lists(st.sampled_from(HOPS), max_size=30))
def test_as_a_plain_walk_tells_it(peer: str, hops: list[str]) -> None:
    trusted = ipaddress.ip_network("10.0.0.0/8")
    chain = [*hops, peer]
    behind = len(chain) - 1
    while behind and ipaddress.ip_address(chain[behind]) in trusted:
        behind -= 1
    looked_through = len(chain) - 1 - behind
    expected = chain[behind] if looked_through < forwarded.HOPS_MAX or len(hops) <= forwarded.HOPS_MAX else ""
    if looked_through == forwarded.HOPS_MAX < len(hops):
        expected = ""
    header = ", ".join(hops).encode() if hops else None
    assert told(peer, header) == expected


@given(st.binary(max_size=300) | st.text('0123456789abcdef.:,[]"=; for', max_size=200).map(str.encode), st.booleans())
def test_nothing_that_is_sent_raises(header: bytes, newer: bool) -> None:
    client = told("10.0.0.7", None if newer else header, header if newer else None)
    assert client == "" or ipaddress.ip_address(client)


def test_long_headers_cost_little_and_are_not_remembered() -> None:
    clients = Clients(TRUSTED)
    for header in (b"10.0.0.1," * 15_000, b"," * 130_000, b"1" * 130_000, b"for=" * 30_000, b'for="' + b" " * 100_000):
        assert clients.of("10.0.0.7", header, None) in ("", "10.0.0.7", "10.0.0.1")
        assert clients.of("10.0.0.7", None, header) in ("", "10.0.0.7")
    assert clients._known == {}


def test_few_clients_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarded, "CACHE_MAX", 10)
    clients = Clients(TRUSTED)
    for number in range(100):
        assert clients.of("10.0.0.7", b"81.2.69.%d" % number, None) == f"81.2.69.{number}"
        assert len(clients._known) <= 10
