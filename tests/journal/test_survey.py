"""What a survey says of a journal: whole ones, and each damage by its name."""

from __future__ import annotations

import os
from pathlib import Path

import journals
import pytest
from reference import record as twin

from pugd.errors import JournalError
from pugd.journal import files
from pugd.journal.survey import Survey, lines, position_at, survey

EPOCH = 77


def lay(directory: Path, records: list[list[bytes]]) -> tuple[list[int], int]:
    """A file for each list of rows, a record for each row. returns the files' starts, and the end."""
    directory.mkdir(exist_ok=True)
    starts, at = [], 0
    for rows in records:
        starts.append(at)
        text = files.write_header(files.Header(at, EPOCH, "c1"))
        for row in rows:
            text += twin.frame(row, 1, at + len(text))
        (directory / files.name(at)).write_bytes(text)
        at += len(text)
    return starts, at


def found(directory: Path, stored: int = 0, flushed: int = 0) -> Survey:
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    result = survey(directory, epoch=EPOCH, stored=stored, flushed=flushed)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before, "a survey changes nothing"
    assert list(lines(result))[-1] == f"the journal is {'whole' if result.whole else 'NOT whole'}"
    return result


@pytest.fixture
def three(tmp_path: Path) -> tuple[Path, list[int], int]:
    rows = [journals.event(n) for n in range(12)]
    starts, end = lay(tmp_path / "journal", [rows[:4], rows[4:8], rows[8:]])
    return tmp_path / "journal", starts, end


def test_a_whole_journal(three):
    directory, starts, end = three
    result = found(directory, starts[1] + 5, end)
    assert result.whole
    assert (result.oldest, result.end) == (0, end)
    assert [(file.start, file.records, file.rows, file.header) for file in result.files] == [
        (start, 4, 4, "whole") for start in starts
    ]
    assert result.files[0].received_first_ms == result.files[2].received_last_ms == journals.NOW
    assert result.deletable == [files.name(0)]
    (directory / "spare-3").write_bytes(bytes(500))
    with (directory / files.name(starts[2])).open("ab") as file:
        file.write(bytes(700))  # blocks allocated ahead
    assert found(directory, 0, end).whole


def test_an_empty_one_and_none(tmp_path):
    (tmp_path / "journal").mkdir()
    assert found(tmp_path / "journal").whole
    with pytest.raises(JournalError, match="listing"):
        survey(tmp_path / "nothing", epoch=EPOCH, stored=0, flushed=0)


def test_a_torn_tail_is_no_fault_unless_it_was_acked(three):
    directory, starts, end = three
    path = directory / files.name(starts[2])
    os.truncate(path, path.stat().st_size - 10)
    tail = len(twin.frame(journals.event(11), 1, 0))
    result = found(directory, 0, end - tail)
    assert result.whole
    assert result.files[2].torn_bytes == tail - 10
    result = found(directory, 0, end)
    assert not result.whole
    assert (result.lost[0].begin, result.lost[-1].end) == (end - tail, end)


def test_bits_flipped_in_the_middle(three):
    directory, starts, end = three
    path = directory / files.name(starts[1])
    data = bytearray(path.read_bytes())
    length = len(twin.frame(journals.event(4), 1, 0))
    data[files.HEADER_BYTES + length + 20] ^= 4
    path.write_bytes(data)
    result = found(directory, 0, end)
    begin = starts[1] + files.HEADER_BYTES + length
    assert [(one.begin, one.end, one.there) for one in result.lost] == [(begin, begin + length, True)]
    assert result.files[1].records == 3
    assert "has yet to come to it" in "\n".join(lines(result))
    assert "has been past it" in "\n".join(lines(found(directory, end, end)))


def test_a_missing_file_a_foreign_one_and_what_is_not_ours(three):
    directory, starts, end = three
    (directory / files.name(starts[1])).unlink()
    result = found(directory, 0, end)
    assert [(one.begin, one.end, one.there) for one in result.lost] == [(starts[1], starts[2], False)]
    foreign = files.write_header(files.Header(starts[1], EPOCH + 1, "c2")) + bytes(40)
    (directory / files.name(starts[1])).write_bytes(foreign)
    assert [file.header for file in found(directory, 0, end).files] == ["whole", "foreign", "whole"]
    (directory / files.name(starts[1])).write_bytes(b"x" * 200)
    assert found(directory, 0, end).files[1].header == "damaged"
    (directory / "core.123").touch()
    (directory / files.damaged_name(17)).touch()
    result = found(directory, 0, end)
    assert result.unknown == ["core.123"]
    assert result.damaged == [files.damaged_name(17)]


def test_a_flushed_end_that_is_not_there(three):
    directory, starts, end = three
    (directory / files.name(starts[2])).unlink()
    result = found(directory, 0, end)
    assert (result.lost[-1].begin, result.lost[-1].end, result.lost[-1].there) == (starts[2], end, False)


def test_a_time_is_found_by_file(tmp_path):
    # the rows of journals are all received at NOW
    starts, end = lay(tmp_path / "journal", [[journals.event(1)], [journals.merge(1)], [journals.trait(1)]])
    result = found(tmp_path / "journal", 0, end)
    assert [file.received_first_ms for file in result.files] == [journals.NOW, 0, journals.NOW]
    assert position_at(result, 0) == 0
    assert position_at(result, journals.NOW) == 0
    assert position_at(result, journals.NOW + 1) == starts[2]
