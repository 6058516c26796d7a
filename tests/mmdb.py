"""Writes files in MaxMind's format, small ones. Source: the format's specification, version 2.0.

    search tree │ 16 zero bytes │ data │ marker │ metadata

A node is two records of `record_bits` each, for the next bit of an address: a number below the count of nodes is
another node, that number itself is nothing, and what is beyond it is data.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Mapping
from typing import Any

MARKER = b"\xab\xcd\xefMaxMind.com"

CITY: dict[str, dict[str, Any]] = {
    "81.2.69.0/24": {
        "country": {"iso_code": "GB", "names": {"en": "United Kingdom"}},
        "subdivisions": [{"iso_code": "ENG", "names": {"en": "England"}}],
        "city": {"names": {"de": "London (de)", "en": "London"}},
    },
    "2a02:6b80::/32": {
        "country": {"iso_code": "AT"},
        "subdivisions": [{"iso_code": "6"}],
        "city": {"names": {"en": "Graz"}},
    },
    "8.8.0.0/16": {"country": {"iso_code": "US"}},
}
"""Networks of London, of Graz, and of a country alone."""
LONDON, GRAZ, USA = "81.2.69.142", "2a02:6b80:1::7", "8.8.8.8"


def written(
    networks: Mapping[str, Any],
    *,
    version: int = 6,
    record_bits: int = 24,
    kind: str = "Test-City",
) -> bytes:
    """A file in which each network has its record, and a narrower network wins over a wider one.

    `version`  of IP: IPv4 networks lie under ::/96 of a tree of version 6
    """
    nodes: list[list[Any]] = [[None, None]]
    bits = 128 if version == 6 else 32
    for network, record in sorted(
        ((ipaddress.ip_network(text), record) for text, record in networks.items()), key=lambda one: one[0].prefixlen
    ):
        length = network.prefixlen + (96 if version == 6 and network.version == 4 else 0)
        assert network.version == 4 or version == 6, "a tree of version 4 has no IPv6"
        assert length, "a network of everything has no node to stand at"
        address, at = int(network.network_address), 0
        for depth in range(length):
            side = address >> (bits - 1 - depth) & 1
            if depth == length - 1:
                nodes[at][side] = (record,)
            elif isinstance(below := nodes[at][side], int):
                at = below
            else:  # nothing, or data of a wider network, which now holds on both sides
                nodes.append([below, below])
                nodes[at][side] = at = len(nodes) - 1
    data = bytearray()
    places: dict[int, int] = {}

    def number(record: Any) -> int:
        if record is None:
            return len(nodes)
        if isinstance(record, int):
            return record
        if id(record[0]) not in places:
            places[id(record[0])] = len(data)
            data.extend(encoded(record[0]))
        return len(nodes) + 16 + places[id(record[0])]

    tree = bytearray()
    for node in nodes:
        left, right = (number(record) for record in node)
        if record_bits == 28:
            middle = (left >> 24 & 0xF) << 4 | right >> 24 & 0xF
            tree += left.to_bytes(4, "big")[1:] + bytes([middle]) + right.to_bytes(4, "big")[1:]
        else:
            tree += left.to_bytes(record_bits // 8, "big") + right.to_bytes(record_bits // 8, "big")
    about = {
        "binary_format_major_version": _unsigned(U16, 2), "binary_format_minor_version": _unsigned(U16, 0),
        "build_epoch": _unsigned(U64, 1_790_000_000), "database_type": kind, "description": {"en": "test"},
        "ip_version": _unsigned(U16, version), "languages": ["en"], "node_count": _unsigned(U32, len(nodes)),
        "record_size": _unsigned(U16, record_bits),
    }  # fmt: skip
    return bytes(tree) + bytes(16) + bytes(data) + MARKER + encoded(about)


def encoded(value: Any) -> bytes:
    """A value of the data section. `bytes` are one already."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, bool):
        return _control(14, int(value))
    if isinstance(value, dict):
        return _control(7, len(value)) + b"".join(encoded(key) + encoded(one) for key, one in value.items())
    if isinstance(value, list):
        return _control(11, len(value)) + b"".join(map(encoded, value))
    if isinstance(value, str):
        return _control(2, len(value.encode())) + value.encode()
    if isinstance(value, float):
        return _control(3, 8) + struct.pack(">d", value)
    assert isinstance(value, int), f"there is no {type(value)} in such files"
    if value < 0:
        return _control(8, 4) + struct.pack(">i", value)
    return _unsigned(U32 if value < 1 << 32 else U64, value)


U16, U32, U64 = 5, 6, 9


def _unsigned(kind: int, value: int) -> bytes:
    """A whole number of one kind: readers in C want those of the metadata as the specification has them."""
    raw = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return _control(kind, len(raw)) + raw


def _control(kind: int, size: int) -> bytes:
    """The byte, or bytes, before a value: of which kind it is, and how large."""
    first, beyond = kind << 5 if kind < 8 else 0, b""
    if size >= 65_821:
        first, beyond = first | 31, (size - 65_821).to_bytes(3, "big")
    elif size >= 285:
        first, beyond = first | 30, (size - 285).to_bytes(2, "big")
    elif size >= 29:
        first, beyond = first | 29, bytes([size - 29])
    else:
        first |= size
    return bytes([first]) + (bytes([kind - 7]) if kind >= 8 else b"") + beyond
