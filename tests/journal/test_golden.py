"""Bytes that outlive a process: journals written once, whole and damaged, are read for ever as they were."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pugd.journal import files
from pugd.journal.reader import Reader
from pugd.journal.writer import Writer

GOLDEN = Path(__file__).parents[1] / "golden" / "journal"
START, END, EPOCH = 4096, 4361, 77

FIRST = (4096 + 144, (1, 7, "page_view", b'{"a":1}'))
SECOND = (4096 + 166, (1, 8, "scroll", b'{"percent":72}'))
THIRD = (4096 + 208, (2, "trait", None, -5, 1.5))
FOURTH = (4096 + 243, (1, 7, "page_view", b'{"a":1}'))

READ = {
    "whole": [FIRST, SECOND, THIRD, FOURTH],
    "zeros-behind": [FIRST, SECOND, THIRD, FOURTH],
    "bit-flipped-in-the-file-header": [FIRST, SECOND, THIRD, FOURTH],
    "torn-after-the-header": [],
    "torn-in-the-last-header": [FIRST, SECOND, THIRD],
    "torn-in-the-last-payload": [FIRST, SECOND, THIRD],
    "bit-flipped-in-the-second-payload": [FIRST, SECOND, FOURTH],
    "length-out-of-bounds-in-the-second": [FIRST, SECOND, FOURTH],
    "length-one-too-long-in-the-second": [FIRST, SECOND, FOURTH],
    "unknown-kind-in-the-second": [FIRST, SECOND, FOURTH],
    "count-of-rows-changed-in-the-second": [FIRST, SECOND, FOURTH],
    "zeros-for-the-second": [FIRST, SECOND, FOURTH],
    "second-of-another-place": [FIRST, SECOND, FOURTH],
    # every record behind the insertion stands at another place than it was made for
    "five-bytes-inserted-before-the-second": [FIRST, SECOND],
}


@pytest.fixture(params=sorted(path.stem for path in GOLDEN.glob("*.journal")))
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    (tmp_path / "journal").mkdir()
    shutil.copy(GOLDEN / f"{request.param}.journal", tmp_path / "journal" / files.name(START))
    return str(request.param)


def test_every_file_is_expected() -> None:
    assert {path.stem for path in GOLDEN.glob("*.journal")} == set(READ)


def test_a_reader_reads(golden: str, tmp_path: Path) -> None:
    assert list(Reader(tmp_path / "journal", epoch=EPOCH).rows(START, END)) == READ[golden]


def test_a_writer_goes_on_behind(golden: str, tmp_path: Path, open_writer: Callable[..., Writer]) -> None:
    writer = open_writer(file_bytes_max=4096)
    writer.append(b"\x91\x01", 1)
    writer.close()
    found = list(Reader(tmp_path / "journal", epoch=EPOCH).rows(START, writer.position))
    assert found[:-1] == READ[golden]
    assert found[-1] == (writer.position - 2, (1,))


def test_whole_is_written_again_byte_for_byte(tmp_path: Path, open_writer: Callable[..., Writer]) -> None:
    """A Writer that begins where the golden file does writes the golden file."""
    (tmp_path / "journal").mkdir()
    before = files.write_header(files.Header(START - 128, EPOCH, "c1"))
    (tmp_path / "journal" / files.name(START - 128)).write_bytes(before)
    whole = (GOLDEN / "whole.journal").read_bytes()
    writer = open_writer()
    writer.append(whole[144:192], 2)
    writer.append(whole[208:227], 1)
    writer.append(whole[243:265], 1)
    writer.close()
    assert (tmp_path / "journal" / files.name(START)).read_bytes() == whole
