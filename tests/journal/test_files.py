"""Names sort as positions do; a header is read back, and never when a bit of it differs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pugd.journal import files

positions = st.integers(0, 2**63 - 1)
headers = st.builds(
    files.Header,
    start=positions,
    epoch=positions,
    collector=st.text(max_size=95).filter(lambda name: len(name.encode()) <= 95).map(lambda name: name.rstrip("\0")),
)


@given(st.sets(positions, max_size=8))
def test_names_sort_as_positions(starts: set[int]) -> None:
    names = sorted(files.name(start) for start in starts)
    assert files.starts([*names, "damaged-00000000000000000001", "spare-1", "1.journal", "x"]) == sorted(starts)
    assert [files.name(start) for start in sorted(starts)] == names


@given(headers)
def test_a_header_is_read_back(header: files.Header) -> None:
    data = files.write_header(header)
    assert len(data) == files.HEADER_BYTES
    assert files.read_header(data, header.start) == header
    assert files.read_header(data + b"records", header.start) == header
    assert files.read_header(data, header.start + 1) is None
    assert files.read_header(data[:-1], header.start) is None
    assert files.read_header(bytes(128), header.start) is None


@given(headers, st.integers(0, 128 * 8 - 1))
def test_a_damaged_header_is_none(header: files.Header, bit: int) -> None:
    data = bytearray(files.write_header(header))
    data[bit // 8] ^= 1 << bit % 8
    assert files.read_header(bytes(data), header.start) is None


@given(st.sets(st.integers(0, 60)), st.integers(0, 60))
def test_holder_and_deletable(starts: set[int], position: int) -> None:
    ordered = sorted(starts)
    index = files.holder(ordered, position)
    before = [start for start in ordered if start <= position]
    assert (None if index is None else ordered[index]) == (before[-1] if before else None)
    for place, start in enumerate(ordered):
        whole_before = place + 1 < len(ordered) and ordered[place + 1] <= position
        assert (start in files.deletable(ordered, position)) == whole_before


def test_a_collector_name_too_long_is_our_fault() -> None:
    with pytest.raises(AssertionError, match="95"):
        files.write_header(files.Header(0, 0, "x" * 96))
