"""What was whole before damage is read, after it too, at its own position; nothing false, nothing past `until`, no end
of the reading whatever lies there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import record as twin

from pugd.errors import JournalError
from pugd.journal import files, record
from pugd.journal.reader import FlushedPage, Reader, Span
from pugd.journal.writer import Writer

EPOCH = 77


def lay(
    directory: Path, contents: list[list[bytes]], *, start: int = 0, spare: int = 0
) -> tuple[dict[int, bytes], int]:
    """Journal files with these payloads, one list a file. returns {position of a record: payload} and the end."""
    laid = {}
    for payloads in contents:
        text = files.write_header(files.Header(start, EPOCH, "c1"))
        for payload in payloads:
            laid[start + len(text)] = payload
            text += twin.frame(payload, 1, start + len(text))
        (directory / files.name(start)).write_bytes(text + bytes(spare))
        start += len(text)
    return laid, start


def read_all(reader: Reader, position: int, until: int, bytes_max: int = 1 << 20) -> tuple[dict[int, bytes], int]:
    """Everything that is read, as (position of a record: payload), and the position reached."""
    found: dict[int, bytes] = {}
    while (span := reader.read(position, until, bytes_max)) is not None:
        assert span.end > position
        assert span.end <= until
        assert span.position >= position
        assert span.end == span.position + len(span.data)
        before = len(found)
        for at, _, payload in record.payloads(span.data, span.position):
            found[at - 16] = bytes(payload)
        assert span.rows == len(found) - before
        position = span.end
    return found, position


contents = st.lists(st.lists(st.binary(min_size=1, max_size=120), max_size=5), min_size=1, max_size=4)


@given(contents, st.integers(0, 5000), st.integers(0, 400), st.integers(1, 300))
@settings(max_examples=60)
def test_everything_is_read(contents: list[list[bytes]], start: int, spare: int, bytes_max: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        laid, end = lay(Path(name), contents, start=start, spare=spare)
        reader = Reader(Path(name), epoch=EPOCH)
        assert read_all(reader, start, end, bytes_max) == (laid, end)
        assert reader.statistics().gaps == reader.statistics().damages == 0
        # from any record's position, to any record's end
        bounds = [*laid, end]
        for place, position in enumerate(bounds[:-1]):
            assert read_all(reader, position, end, bytes_max)[0] == {p: laid[p] for p in bounds[place:-1]}
            assert read_all(reader, start, position)[0] == {p: laid[p] for p in bounds[:place]}
        assert reader.statistics().gaps == reader.statistics().damages == 0
        reader.close()


@given(contents, st.data())
@settings(max_examples=150)
def test_damage(contents: list[list[bytes]], data: st.DataObject) -> None:
    """Flip, cut, blank or overwrite anywhere: every record that is still whole is read, and no other."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        laid, end = lay(directory, contents)
        starts = files.starts(os.listdir(directory))
        hurt = data.draw(st.sampled_from(starts))
        path = directory / files.name(hurt)
        text = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, len(text) - 1))
        kind = data.draw(st.sampled_from(["flip", "cut", "blank", "noise", "gone", "insert"]))
        if kind == "flip":
            text[at] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "cut":
            del text[at:]
        elif kind == "blank":
            length = min(data.draw(st.integers(1, 200)), len(text) - at)
            text[at : at + length] = bytes(length)
        elif kind == "noise":
            noise = data.draw(st.binary(min_size=1, max_size=200))
            text[at : at + len(noise)] = noise[: len(text) - at]
        elif kind == "insert":
            text[at:at] = b"\1\0\0\0"
        path.write_bytes(text)
        if kind == "gone":
            path.unlink()
        whole = {
            position: payload
            for position, payload in laid.items()
            if not hurt <= position < next((s for s in starts if s > hurt), end)
            or (
                kind != "gone"
                and text[position - hurt : position - hurt + 16 + len(payload)] == twin.frame(payload, 1, position)
            )
        }
        reader = Reader(directory, epoch=EPOCH)
        assert read_all(reader, 0, end, data.draw(st.integers(1, 400))) == (whole, end)
        found = reader.statistics()
        if len(whole) < len(laid):
            assert found.gaps + found.damages
        assert read_all(reader, 0, end) == (whole, end)
        assert reader.statistics() == found
        reader.close()


def test_a_missing_file_is_counted_and_passed_over(tmp_path: Path) -> None:
    laid, end = lay(tmp_path, [[b"one"], [b"two"], [b"three"]])
    starts = files.starts(os.listdir(tmp_path))
    (tmp_path / files.name(starts[1])).unlink()
    reader = Reader(tmp_path, epoch=EPOCH)
    found, reached = read_all(reader, 0, end)
    assert list(found.values()) == [b"one", b"three"]
    assert reached == end
    assert (reader.statistics().gaps, reader.statistics().gap_bytes) == (1, starts[2] - starts[1])
    (tmp_path / files.name(starts[0])).unlink()
    fresh = Reader(tmp_path, epoch=EPOCH)
    assert read_all(fresh, 0, end) == ({p: d for p, d in laid.items() if d == b"three"}, end)
    assert (fresh.statistics().gaps, fresh.statistics().gap_bytes) == (1, starts[2])


def test_damaged_bytes_are_kept(tmp_path: Path) -> None:
    laid, end = lay(tmp_path, [[b"one", b"two", b"three"]])
    path = tmp_path / files.name(0)
    text = bytearray(path.read_bytes())
    second = list(laid)[1]
    text[second + 16] ^= 1
    path.write_bytes(text)
    reader = Reader(tmp_path, epoch=EPOCH)
    assert list(read_all(reader, 0, end)[0].values()) == [b"one", b"three"]
    assert (tmp_path / files.damaged_name(second)).read_bytes() == text[second : second + 19]
    assert (reader.statistics().damages, reader.statistics().damaged_bytes) == (1, 19)


def test_a_file_of_another_epoch_is_passed_over(tmp_path: Path) -> None:
    _, end = lay(tmp_path, [[b"one"], [b"two"]])
    reader = Reader(tmp_path, epoch=EPOCH + 1)
    assert read_all(reader, 0, end) == ({}, end)
    assert reader.statistics().foreign_files == 2


def test_nothing_is_given_out_past_until(tmp_path: Path) -> None:
    laid, end = lay(tmp_path, [[b"one", b"two"]])
    reader = Reader(tmp_path, epoch=EPOCH)
    first, second = laid
    for until in range(end + 1):
        found, reached = read_all(reader, 0, until)
        assert list(found) == [p for p, d in laid.items() if p + 16 + len(d) <= until]
        # inside a record it waits for more, and loses nothing
        assert reached == (until if until <= first else first if until < second else second if until < end else end)
    assert reader.statistics().damages == reader.statistics().gaps == 0


def test_a_tail_is_followed_without_looking_at_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    laid, end = lay(tmp_path, [[b"one"], [b"two", b"three"]], spare=1000)
    reader = Reader(tmp_path, epoch=EPOCH)
    two = list(laid)[1]
    _, reached = read_all(reader, 0, two)
    calls = []
    monkeypatch.setattr(os, "listdir", lambda path: calls.append(path) or [])
    monkeypatch.setattr(os, "open", lambda *arguments: calls.append(arguments) or -1)
    assert reader.read(reached, two, 1000) is None
    span = reader.read(two, end, 1000)
    assert isinstance(span, Span)
    assert span.rows == 2
    assert not calls


@pytest.mark.parametrize("spare", [0, 1000])
@pytest.mark.parametrize("later", [[[b"two"]], [[b"two"], [b"three", b"four"]], [[], [b"three"]]])
def test_files_that_begin_where_the_reader_has_come_to(tmp_path: Path, later: list[list[bytes]], spare: int) -> None:
    """The collector restarts, or its file is full, just when everything had been read."""
    laid, end = lay(tmp_path, [[b"one"]], spare=spare)
    reader = Reader(tmp_path, epoch=EPOCH)
    assert read_all(reader, 0, end) == (laid, end)
    assert reader.read(end, end, 1000) is None
    more, last = lay(tmp_path, later, start=end, spare=spare)
    assert read_all(reader, end, last) == (more, last)
    assert reader.statistics().gaps == reader.statistics().damages == 0


def test_a_record_longer_than_asked_for(tmp_path: Path) -> None:
    laid, end = lay(tmp_path, [[b"x" * 5000, b"y" * 5000]])
    reader = Reader(tmp_path, epoch=EPOCH)
    span = reader.read(0, end, 1)
    assert span is not None
    assert (span.position, span.rows) == (128, 1)
    assert read_all(reader, 0, end, 1)[0] == laid


def test_rows(tmp_path: Path) -> None:
    rows = [[1, "a"], [2, b"\0", None, [1.5]], [3]]
    encoded = [msgspec.msgpack.encode(row) for row in rows]
    text = files.write_header(files.Header(0, EPOCH, "c1"))
    text += twin.frame(encoded[0] + encoded[1], 2, 128)
    text += twin.frame(encoded[2], 1, len(text))
    (tmp_path / files.name(0)).write_bytes(text)
    found = list(Reader(tmp_path, epoch=EPOCH).rows(0, len(text)))
    assert [list(row) for _, row in found] == rows
    for (position, _), one in zip(found, encoded, strict=True):
        assert text[position : position + len(one)] == one


def test_the_page_is_read(tmp_path: Path, open_writer: Callable[..., Writer]) -> None:
    with pytest.raises(JournalError, match="flushed"):
        FlushedPage(tmp_path / "flushed")
    writer = open_writer()
    page = FlushedPage(tmp_path / "flushed")
    assert (page.position, page.epoch) == (writer.flushed, EPOCH) == (128, EPOCH)
    page.close()


def test_a_missing_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="nowhere"):
        Reader(tmp_path / "nowhere", epoch=EPOCH).read(0, 1, 1)
