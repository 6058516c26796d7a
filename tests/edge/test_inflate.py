"""Inflation: what was compressed comes back, what is damaged is refused, and a bomb costs no more than the bound."""

from __future__ import annotations

import gzip
import random
import sys
import tracemalloc
import zlib

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pugd.edge.inflate import RATIO_MAX, inflate
from pugd.edge.response import Refused

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAX = 32 << 20


def bare(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


FORMS = {b"gzip": gzip.compress, b"x-gzip": gzip.compress, b"deflate": zlib.compress}
FORMS |= {b"br": brotli.compress, b"zstd": zstd.compress}


@given(st.binary(max_size=2000), st.sampled_from(sorted(FORMS)))
def test_what_was_compressed_comes_back(data: bytes, encoding: bytes) -> None:
    assert inflate(FORMS[encoding](data), encoding, MAX) == data
    assert inflate(bare(data), b"deflate", MAX) == data
    assert inflate(gzip.compress(data), None, MAX) == data
    assert inflate(zstd.compress(data), None, MAX) == data
    assert inflate(zstd.compress(data), b"gzip", MAX) == data
    assert inflate(gzip.compress(data), b"br", MAX) == data
    assert inflate(gzip.compress(data) + gzip.compress(b"more"), b"gzip", MAX) == data + b"more"


def test_plain_bodies_are_handed_back_as_they_are() -> None:
    for data in (b"", b"{}", b"[1]", b"data=abc", b"\x1f"):
        assert inflate(data, None, MAX) is data
        assert inflate(data, b"identity", MAX) is data
    for data in (b'{"said":"gzip, but is not"}', b"[1]", b"data=e30"):
        for encoding in FORMS:
            assert inflate(data, encoding, MAX) is data


def test_megabytes() -> None:
    data = random.Random(1).randbytes(5120) * 1000
    for encoding, compress in FORMS.items():
        assert inflate(compress(data), encoding, MAX) == data
        assert inflate(compress(data), encoding, len(data)) == data
        refused = inflate(compress(data), encoding, len(data) - 1)
        assert isinstance(refused, Refused)
        assert (refused.status, refused.refusal.code) == (413, "too_large")


@pytest.mark.parametrize("members", [1, 40])
def test_a_bomb_costs_no_more_than_the_bound(members: int) -> None:
    bomb = gzip.compress(b"\0" * (200_000_000 // members), 9) * members
    assert len(bomb) < 300_000
    tracemalloc.start()
    refused = inflate(bomb, b"gzip", 4 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(refused, Refused)
    assert refused.status == 413
    assert peak < 12 << 20


@pytest.mark.parametrize("encoding", [b"br", b"zstd"])
def test_what_grows_more_than_deflate_could_ends_early(encoding: bytes) -> None:
    bomb = FORMS[encoding](b"[" + b" " * 200_000_000)
    most = max(1 << 20, RATIO_MAX * len(bomb))
    assert most < 100_000_000
    tracemalloc.start()
    refused = inflate(bomb, encoding, 1 << 30)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(refused, Refused)
    assert refused.status == 413
    assert peak < most + (4 << 20)
    small = b"[" + b" " * 1_000_000
    assert inflate(FORMS[encoding](small), encoding, MAX) == small


def test_a_window_that_no_browser_may_ask_for() -> None:
    data = random.Random(2).randbytes(100)
    wide = zstd.compress(data * 10, options={zstd.CompressionParameter.window_log: 27})
    stream = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
    wide = stream.compress(data) + stream.flush()
    assert isinstance(inflate(wide, b"zstd", MAX), Refused)


def test_a_bomb_of_empty_members_ends() -> None:
    assert inflate(gzip.compress(b"") * 20_000, b"gzip", MAX) == b""


def test_damaged_and_cut_short() -> None:
    whole = gzip.compress(b"hello" * 100)
    for data in (whole[:-1], whole[: len(whole) // 2], b"\x1f\x8b", whole[:10] + b"\xff" * 20, whole[:-5] + b"12345"):
        for encoding in (b"gzip", None):
            refused = inflate(data, encoding, MAX)
            assert isinstance(refused, Refused)
            assert (refused.status, refused.refusal.code) == (400, "invalid_request")
    assert isinstance(inflate(b"", b"gzip", MAX), Refused)
    for encoding, compress in FORMS.items():
        assert isinstance(inflate(b"not compressed", encoding, MAX), Refused)
        assert isinstance(inflate(compress(b"hello" * 100)[:-3], encoding, MAX), Refused)


@pytest.mark.parametrize("encoding", [b"compress", b"gzip, gzip", b"\xff"])
def test_other_encodings_are_415_and_name_what_is_taken(encoding: bytes) -> None:
    refused = inflate(b"{}", encoding, MAX)
    assert isinstance(refused, Refused)
    assert (refused.status, refused.refusal.code) == (415, "unsupported_encoding")
    assert "gzip" in refused.refusal.message


@given(st.binary(max_size=300), st.sampled_from([b"gzip", b"deflate", b"br", b"zstd", None]))
def test_any_bytes(data: bytes, encoding: bytes | None) -> None:
    for given_bytes in (data, b"\x1f\x8b" + data, b"\x1f\x8b\x08\0\0\0\0\0\0\0" + data, b"\x28\xb5\x2f\xfd" + data):
        found = inflate(given_bytes, encoding, 1000)
        assert isinstance(found, Refused) or len(found) <= 1000 or found is given_bytes
