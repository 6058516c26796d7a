"""What was acked is read after anything; what is promised is taken; what failed never acks."""

from __future__ import annotations

import os
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import record as twin

from pugd.errors import JournalError
from pugd.journal import files, record
from pugd.journal.reader import FlushedPage, Reader
from pugd.journal.writer import ROOM_SLACK_BYTES, Writer

EPOCH = 77
ROOT = Path(__file__).parents[2]

OpenWriter = Callable[..., Writer]


def wait_flushed(writer: Writer, position: int | None = None) -> None:
    """Until flushed has reached `position` (all, if none is given), by the event alone."""
    position = writer.position if position is None else position
    poll = select.poll()
    poll.register(writer.event_fd, select.POLLIN)
    while writer.take_flushed() < position:
        assert poll.poll(20_000), "no event in 20 s"


def payloads(directory: Path, until: int, position: int = 0, epoch: int = EPOCH) -> list[bytes]:
    reader = Reader(directory, epoch=epoch)
    found = []
    while (span := reader.read(position, until, 1 << 20)) is not None:
        found += [bytes(rows) for _, _, rows in record.payloads(span.data, span.position)]
        position = span.end
    reader.close()
    return found


def journal_files(directory: Path) -> list[int]:
    return files.starts(os.listdir(directory))


def test_what_is_appended_is_flushed_and_read(tmp_path: Path, open_writer: OpenWriter) -> None:
    writer = open_writer()
    wanted = [os.urandom(1 + i * 13 % 4000) for i in range(500)]
    for i, rows in enumerate(wanted):
        assert writer.room(len(rows))
        before = writer.position
        end = writer.append(rows, i)
        assert end == writer.position
        assert end - before in (16 + len(rows), 128 + 16 + len(rows))
    wait_flushed(writer)
    assert writer.flushed == writer.position
    assert FlushedPage(tmp_path / "flushed").position == writer.position
    assert payloads(tmp_path / "journal", writer.position) == wanted
    found = writer.statistics()
    assert (found.records, found.rows) == (500, sum(range(500)))
    assert 0 < found.syncs <= 500 + 3 * found.files
    assert found.written_bytes == found.position == found.flushed
    assert found.preallocated


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_is_taken(tmp_path: Path, open_writer: OpenWriter, kind: type) -> None:
    writer = open_writer()
    writer.append(kind(b"rows"), 1)
    wait_flushed(writer)
    assert payloads(tmp_path / "journal", writer.position) == [b"rows"]


def test_the_bytes_are_those_of_the_twin(tmp_path: Path, open_writer: OpenWriter) -> None:
    writer = open_writer()
    writer.append(b"one", 1)
    writer.append(b"two!", 2)
    writer.close()
    header = files.write_header(files.Header(0, EPOCH, "c1"))
    assert (tmp_path / "journal" / files.name(0)).read_bytes() == (
        header + twin.frame(b"one", 1, 128) + twin.frame(b"two!", 2, 128 + 19)
    )


def test_files_roll_one_after_another(tmp_path: Path, open_writer: OpenWriter) -> None:
    writer = open_writer(file_bytes_max=5000)
    wanted = []
    for i in range(200):
        rows = bytes([i]) * (i * 37 % 900 + 1)
        wanted.append(rows)
        assert writer.room(len(rows))
        writer.append(rows, 1)
        if i % 20 == 0:
            wait_flushed(writer)
    wait_flushed(writer)
    writer_position = writer.position
    writer.close()
    directory = tmp_path / "journal"
    starts = journal_files(directory)
    assert len(starts) > 10
    for start, end in zip(starts, [*starts[1:], writer_position], strict=True):
        assert start + (directory / files.name(start)).stat().st_size == end
        assert end - start <= 5000
    assert payloads(directory, writer_position) == wanted
    assert sorted(os.listdir(directory)) == [files.name(start) for start in starts]


def test_a_burst_of_small_files_without_a_pause(tmp_path: Path, open_writer: OpenWriter) -> None:
    writer = open_writer(file_bytes_max=256)
    wanted = []
    for i in range(300):
        while not writer.room(100):
            wait_flushed(writer)
        wanted.append(b"%d" % i * 30)
        writer.append(wanted[-1], 1)
    wait_flushed(writer)
    assert payloads(tmp_path / "journal", writer.position) == wanted


def test_a_large_record_gets_a_file_of_its_own(tmp_path: Path, open_writer: OpenWriter) -> None:
    writer = open_writer(file_bytes_max=10_000)
    wanted = [b"a" * 10, b"b" * 1_000_000, b"c" * 10]
    for rows in wanted:
        assert writer.room(len(rows))
        writer.append(rows, 1)
    wait_flushed(writer)
    assert payloads(tmp_path / "journal", writer.position) == wanted
    first, second, third = [*journal_files(tmp_path / "journal")[:2], writer.position]
    assert second - first == 128 + 26
    assert third - second >= 1_000_000


def test_the_largest_record(tmp_path: Path, open_writer: OpenWriter) -> None:
    writer = open_writer(file_bytes_max=64 << 20)
    rows = bytes(record.LENGTH_MAX)
    assert writer.room(len(rows))
    writer.append(rows, 1)
    assert not writer.room(len(rows))
    wait_flushed(writer)
    assert writer.room(len(rows))
    assert payloads(tmp_path / "journal", writer.position) == [rows]
    with pytest.raises(AssertionError, match="64 MiB"):
        writer.append(rows + b"x", 1)


def test_positions_go_on_over_restarts(tmp_path: Path, open_writer: OpenWriter) -> None:
    wanted = []
    last = 0
    for i in range(5):
        writer = open_writer()
        assert writer.position == writer.flushed == last + 128
        wanted.append(b"%d" % i)
        writer.append(wanted[-1], 1)
        last = writer.position
        writer.close()
        assert FlushedPage(tmp_path / "flushed").position == last
    assert payloads(tmp_path / "journal", last) == wanted
    assert len(journal_files(tmp_path / "journal")) == 5


def test_a_second_process_is_refused(tmp_path: Path, open_writer: OpenWriter) -> None:
    writer = open_writer()
    with pytest.raises(JournalError, match="another process has it open"):
        open_writer()
    writer.append(b"x", 1)
    wait_flushed(writer)
    writer.close()
    open_writer()


def test_files_of_another_epoch_are_refused(tmp_path: Path, open_writer: OpenWriter) -> None:
    open_writer().close()
    with pytest.raises(JournalError, match=r"another data directory.*`collector`"):
        open_writer(epoch=EPOCH + 1)
    open_writer()


def test_a_page_of_another_epoch_is_begun_anew(tmp_path: Path, open_writer: OpenWriter) -> None:
    writer = open_writer()
    writer.append(b"x" * 5000, 1)
    writer.close()
    shutil.rmtree(tmp_path / "journal")
    writer = open_writer(epoch=EPOCH + 1)
    page = FlushedPage(tmp_path / "flushed")
    assert (page.position, page.epoch) == (128, EPOCH + 1)
    assert writer.position == 128


def test_a_position_once_flushed_is_never_used_again(tmp_path: Path, open_writer: OpenWriter) -> None:
    writer = open_writer()
    writer.append(b"x" * 5000, 1)
    end = writer.position
    writer.close()
    shutil.rmtree(tmp_path / "journal")
    writer = open_writer()
    assert writer.position == end + 128


def test_delete_before(tmp_path: Path, open_writer: OpenWriter) -> None:
    writer = open_writer(file_bytes_max=1000)
    for _ in range(10):
        writer.append(b"x" * 800, 1)
        wait_flushed(writer)
    directory = tmp_path / "journal"
    starts = journal_files(directory)
    assert len(starts) == 10
    assert writer.delete_before(starts[3] - 1) == 2
    assert writer.delete_before(starts[3]) == 1
    assert journal_files(directory) == starts[3:]
    assert writer.statistics().oldest == starts[3]
    assert writer.delete_before(writer.position + 10**9) == 6
    assert journal_files(directory) == starts[-1:]
    writer.append(b"y" * 800, 1)
    wait_flushed(writer)
    assert payloads(directory, writer.position, starts[-1]) == [b"x" * 800, b"y" * 800]


def test_room_ends_at_the_bound_and_comes_back(tmp_path: Path, open_writer: OpenWriter) -> None:
    writer = open_writer(file_bytes_max=10_000, bytes_max=50_000)
    taken = 0
    while writer.room(1000):
        writer.append(b"x" * 1000, 1)
        wait_flushed(writer)
        taken += 1
    assert 35 < taken < 50
    assert writer.statistics().refused_bound == 1
    assert writer.statistics().kept_bytes <= 50_000
    assert writer.left == 50_000 - writer.statistics().kept_bytes < 1000 + ROOM_SLACK_BYTES
    writer.delete_before(writer.position)
    assert writer.left > 40_000
    assert writer.room(1000)


def test_room_ends_at_the_reserve(tmp_path: Path, open_writer: OpenWriter) -> None:
    disk = os.statvfs(tmp_path)
    writer = open_writer(reserve_bytes=disk.f_bavail * disk.f_frsize * 2)
    assert not writer.room(1)
    assert writer.statistics().refused_disk == 1
    assert journal_files(tmp_path / "journal") == []
    with pytest.raises(JournalError, match=r"No space.*room"):
        writer.append(b"x", 1)
    assert not writer.statistics().failed
    writer.close()
    assert open_writer().room(1)


def test_room_ends_when_the_disk_does_not_follow(tmp_path: Path, open_writer: OpenWriter) -> None:
    writer = open_writer(pending_bytes_max=100_000)
    assert not writer.room(100_000)
    assert writer.statistics().refused_pending == 1
    assert writer.room(90_000)


def test_spares_of_a_dead_process_are_removed(tmp_path: Path, open_writer: OpenWriter) -> None:
    open_writer().close()
    (tmp_path / "journal" / "spare-0").write_bytes(bytes(100))
    (tmp_path / "journal" / "spare-17").write_bytes(bytes(100))
    open_writer().close()
    assert all(name.endswith(".journal") for name in os.listdir(tmp_path / "journal"))


@given(st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=5), st.data())
@settings(max_examples=40)
def test_a_torn_tail_is_cut(contents: list[bytes], data: st.DataObject) -> None:
    """Cut anywhere, zeros or noise behind: the whole records stay, positions go on behind them."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / "journal"
        directory.mkdir()
        text = files.write_header(files.Header(0, EPOCH, "c1"))
        ends = [len(text)]
        for rows in contents:
            text += twin.frame(rows, 1, len(text))
            ends.append(len(text))
        cut = data.draw(st.integers(128, len(text)))
        noise = data.draw(st.binary(max_size=100))
        path = directory / files.name(0)
        path.write_bytes(text[:cut] + noise + bytes(data.draw(st.integers(0, 5000))))
        whole = 128 + twin.whole(path.read_bytes()[128:], 128)[0]
        assert whole >= max(end for end in ends if end <= cut)
        writer = Writer.open(
            directory, name="c1", epoch=EPOCH, flushed_path=Path(name) / "flushed", bytes_max=1 << 40, reserve_bytes=0
        )
        try:
            assert path.stat().st_size == whole
            assert writer.position == whole + 128
            writer.append(b"next", 1)
            wait_flushed(writer)
            assert payloads(directory, writer.position) == [*contents[: ends.index(whole)], b"next"]
            assert writer.statistics().damages == 0
        finally:
            writer.close()


def test_damage_between_records_is_kept_aside(tmp_path: Path, open_writer: OpenWriter) -> None:
    writer = open_writer()
    ends = [writer.append(bytes([i]) * 20, 1) for i in range(5)]
    writer.close()
    path = tmp_path / "journal" / files.name(0)
    text = bytearray(path.read_bytes())
    text[ends[1] + 20] ^= 4
    path.write_bytes(text)
    writer = open_writer()
    assert writer.position == ends[-1] + 128
    found = writer.statistics()
    assert (found.damages, found.damaged_bytes, found.torn_bytes) == (1, 36, 0)
    assert (tmp_path / "journal" / files.damaged_name(ends[1])).read_bytes() == text[ends[1] : ends[2]]
    assert payloads(tmp_path / "journal", writer.position) == [bytes([i]) * 20 for i in (0, 1, 3, 4)]


def test_positions_that_count_as_stored_are_never_given_again(tmp_path: Path, open_writer: OpenWriter) -> None:
    writer = open_writer()
    ends = [writer.append(bytes([i]) * 20, 1) for i in range(3)]
    writer.close()
    path = tmp_path / "journal" / files.name(0)
    text = bytearray(path.read_bytes())
    text[-1] ^= 1
    path.write_bytes(text)
    (tmp_path / "flushed").unlink()  # as after a power failure: nobody syncs the page
    writer = open_writer(stored=ends[-1])
    assert writer.position == ends[-1] + 128
    assert writer.statistics().damages == 1
    assert payloads(tmp_path / "journal", writer.position) == [bytes([i]) * 20 for i in range(2)]


def test_a_damaged_end_that_was_flushed_is_damage(tmp_path: Path, open_writer: OpenWriter) -> None:
    writer = open_writer()
    ends = [writer.append(bytes([i]) * 20, 1) for i in range(3)]
    writer.close()
    path = tmp_path / "journal" / files.name(0)
    text = bytearray(path.read_bytes())
    text[-1] ^= 1
    path.write_bytes(text)
    for again in range(2):
        writer = open_writer()
        assert writer.position == ends[-1] + 128 * (again + 1)
        assert payloads(tmp_path / "journal", writer.position) == [bytes([i]) * 20 for i in (0, 1)]
        if not again:
            assert writer.statistics().damages == 1
            assert (tmp_path / "journal" / files.damaged_name(ends[1])).read_bytes() == text[ends[1] :]
        writer.close()


@pytest.mark.parametrize("size", [0, 1, 127, 128])
def test_a_last_file_without_a_header(tmp_path: Path, open_writer: OpenWriter, size: int) -> None:
    open_writer().close()
    path = tmp_path / "journal" / files.name(0)
    path.write_bytes(bytes(size))
    writer = open_writer()
    assert writer.position == 128 + 128
    writer.append(b"x", 1)
    wait_flushed(writer)
    assert payloads(tmp_path / "journal", writer.position) == [b"x"]


def test_a_path_that_is_no_directory(tmp_path: Path, open_writer: OpenWriter) -> None:
    (tmp_path / "journal").write_text("")
    with pytest.raises(JournalError, match="journal"):
        open_writer()


def test_appends_under_load(tmp_path: Path, open_writer: OpenWriter) -> None:
    """Appends go on while the thread writes; flushed only grows, stops at record ends, and everything is there."""
    writer = open_writer(file_bytes_max=300_000)
    poll = select.poll()
    poll.register(writer.event_fd, select.POLLIN)
    wanted = []
    ends = {writer.position}
    flushed = writer.flushed
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        for _ in range(20):
            rows = os.urandom(1) * (1 + len(wanted) * 31 % 3000)
            if not writer.room(len(rows)):
                break
            wanted.append(rows)
            begun = writer.position
            end = writer.append(rows, 1)
            ends.add(end)
            ends.add(begun + 128)
        if poll.poll(0):
            now = writer.take_flushed()
            assert flushed <= now <= writer.position
            assert now in ends
            flushed = now
    wait_flushed(writer)
    assert payloads(tmp_path / "journal", writer.position) == wanted
    assert writer.statistics().syncs < len(wanted), "one sync serves several appends"


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process may grow past `size`: writes there fail with EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_failed_write_is_final(tmp_path: Path, open_writer: OpenWriter) -> None:
    writer = open_writer()
    writer.append(b"kept", 1)
    wait_flushed(writer)
    kept = writer.flushed
    with file_size_limit(4096):
        writer.append(b"x" * 10_000, 1)
        poll = select.poll()
        poll.register(writer.event_fd, select.POLLIN)
        assert poll.poll(20_000)
        with pytest.raises(JournalError, match=r"writing.*File too large.*not acked"):
            writer.take_flushed()
    # the disk is well again, and yet nothing is tried again
    for _ in range(3):
        with pytest.raises(JournalError, match="File too large"):
            writer.take_flushed()
        with pytest.raises(JournalError, match="File too large"):
            writer.append(b"y", 1)
        assert not writer.room(1)
    assert writer.flushed == kept == FlushedPage(tmp_path / "flushed").position
    assert writer.statistics().failed
    with pytest.raises(JournalError, match="File too large"):
        writer.close()
    writer = open_writer()
    assert writer.position == kept + 128
    assert payloads(tmp_path / "journal", writer.position) == [b"kept"]


def test_a_file_that_cannot_be_made_is_no_room(tmp_path: Path, open_writer: OpenWriter) -> None:
    writer = open_writer(file_bytes_max=50_000)
    with file_size_limit(10_000):
        assert not writer.room(90_000)
        assert writer.room(5000)
    assert writer.statistics().refused_disk == 1
    assert not writer.statistics().failed
    assert writer.room(90_000)
    writer.append(b"y" * 90_000, 1)
    wait_flushed(writer)


KILLED = """
import os, sys
from pathlib import Path
from pugd.journal.writer import ROOM_SLACK_BYTES, Writer
data = Path(sys.argv[1])
writer = Writer.open(data / "journal", name="c1", epoch=77, flushed_path=data / "flushed", bytes_max=1 << 40,
                     reserve_bytes=0, file_bytes_max=100_000)
number = 0
while True:
    for _ in range(5):
        number += 1
        rows = b"%d " % number * (number * 7 % 200 + 1)
        if writer.room(len(rows)):
            writer.append(rows, 1)
    os.write(1, b"%d\\n" % writer.take_flushed())
"""


def test_kill_nine_loses_nothing_that_was_flushed(tmp_path: Path, open_writer: OpenWriter) -> None:
    for _ in range(4):
        child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
        assert child.stdout is not None
        told = [child.stdout.readline() for _ in range(300)]
        child.kill()
        told += child.stdout.read().splitlines(keepends=True)
        child.wait()
        flushed = int([line for line in told if line.endswith(b"\n")][-1])
        writer = open_writer()
        assert writer.flushed >= flushed
        assert writer.statistics().damages == 0
        end = writer.position
        writer.close()
    reader = Reader(tmp_path / "journal", epoch=EPOCH)
    position, expected = 0, 0
    while (span := reader.read(position, end, 1 << 20)) is not None:
        for _, _, rows in record.payloads(span.data, span.position):
            number = int(rows[: bytes(rows).index(b" ")])
            assert number in (expected + 1, 1)
            expected = number
        position = span.end
    assert reader.statistics().gaps == reader.statistics().damages == 0


FULL_DISK = """
import os, sys, subprocess, select
from pathlib import Path
from pugd.journal.writer import ROOM_SLACK_BYTES, Writer
from pugd.journal.reader import Reader
from pugd.journal import record
data = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(data)], check=True)
writer = Writer.open(data / "journal", name="c1", epoch=77, flushed_path=data / "flushed", bytes_max=1 << 40,
                     reserve_bytes=1 << 20, file_bytes_max=2 << 20)
wanted = []

def append(length):
    wanted.append(os.urandom(length))
    writer.append(wanted[-1], 1)

def flush():
    poll = select.poll()
    poll.register(writer.event_fd, select.POLLIN)
    while writer.take_flushed() < writer.position:
        assert poll.poll(20_000)

def hog():
    with open(data / "hog", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == 28, error

for _ in range(3):
    append(500_000)
flush()
# a promise is kept though the disk fills up to the last byte meanwhile, over the end of the file too
assert writer.room(1_000_000)
hog()
assert os.statvfs(data).f_bavail == 0
for _ in range(10):
    append(100_000)
flush()
assert writer.statistics().files == 2, writer.statistics()
# what is allocated may go on being promised until the next look at the disk, and nothing fails
while writer.room(100_000):
    append(100_000)
flush()
assert writer.statistics().refused_disk == 1
assert not writer.statistics().failed
os.unlink(data / "hog")
writer._checked_at = 0
assert writer.room(100_000)
while writer.room(300_000):
    append(300_000)
flush()
assert not writer.statistics().failed
disk = os.statvfs(data)
assert disk.f_bavail * disk.f_frsize >= 1 << 20, "the reserve was touched"
# restarts on the full disk
for _ in range(3):
    end = writer.position
    writer.close()
    hog()
    writer = Writer.open(data / "journal", name="c1", epoch=77, flushed_path=data / "flushed", bytes_max=1 << 40,
                         reserve_bytes=1 << 20, file_bytes_max=2 << 20)
    assert writer.position == end, "no file can be made, and it opens all the same"
    assert not writer.room(1)
    os.unlink(data / "hog")
reader = Reader(data / "journal", epoch=77)
position, found = 0, []
while (span := reader.read(position, writer.position, 1 << 20)) is not None:
    found += [bytes(rows) for _, _, rows in record.payloads(span.data, span.position)]
    position = span.end
assert found == wanted
assert writer.delete_before(writer.position)
writer._checked_at = 0
assert writer.room(500_000)
append(500_000)
flush()
print("kept", len(found))
"""


def test_a_full_disk_is_met_in_room_and_nowhere_else(tmp_path: Path) -> None:
    """On a 16 MiB file system of its own: as root, else in a user's namespace."""
    disk = tmp_path / "disk"
    disk.mkdir()
    alone = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    ran = subprocess.run(
        [*alone, sys.executable, "-c", textwrap.dedent(FULL_DISK), str(disk)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("kept")
