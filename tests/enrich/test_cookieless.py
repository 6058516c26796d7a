"""Salts live for their days and are then nowhere; ids of the day tell visitors apart, and nothing else does."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from base64 import urlsafe_b64decode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pugd import errors
from pugd.enrich import cookieless
from pugd.enrich.cookieless import DAY_MS, EARLY_MS, SALT_BYTES, Salts, Visitor
from pugd.model import COOKIELESS, Refusal

DAY = 20_784
NOON = DAY * DAY_MS + DAY_MS // 2
TODAY, YESTERDAY = "2026-11-27", "2026-11-26"
ADDRESS, AGENT, HOST = "203.0.113.9", "Mozilla/5.0 (X11)", "shop.example"


def opened(directory: Path, now: int = NOON) -> Salts:
    salts = Salts(directory / "salts")
    renew(salts, now)
    return salts


def renew(salts: Salts, now: int) -> None:
    salts.renew(now, salts.stored(now))


def who(
    salts: Salts, now: int = NOON, project: int = 1, address: str = ADDRESS, agent: str = AGENT, host: str = HOST,
    at: int | None = None, said: str | None = None,
) -> str:  # fmt: skip
    found = Visitor(salts, project, address, agent, now)(now if at is None else at, said, "", host)
    assert isinstance(found, str), found
    return found


def files(directory: Path) -> list[str]:
    return sorted(os.listdir(directory / "salts"))


def found_in(directory: Path, secret: bytes) -> list[Path]:
    """Files anywhere below that hold these bytes."""
    return [path for path in directory.rglob("*") if path.is_file() and secret in path.read_bytes()]


def test_a_visitor_has_one_id_a_day_and_whoever_differs_in_anything_another(tmp_path: Path) -> None:
    salts = opened(tmp_path)
    mine = who(salts)
    assert mine == who(salts) == who(salts, NOON + 1000) == who(salts, NOON + DAY_MS, at=NOON)
    (tmp_path / "other").mkdir()
    others = [
        who(salts, project=2), who(salts, address="203.0.113.10"), who(salts, agent="curl/8"), who(salts, host="x"),
        who(salts, at=NOON - DAY_MS), who(salts, NOON + DAY_MS), who(opened(tmp_path / "other")),
        who(salts, address=ADDRESS + "M", agent=AGENT[1:]),
    ]  # fmt: skip
    assert len({mine, *others}) == 9
    for one in (mine, *others):
        assert one.startswith(COOKIELESS)
        assert len(one) == len(COOKIELESS) + 22
        assert ADDRESS not in one


def test_what_an_event_says_of_its_sender_goes_before_what_its_request_does(tmp_path: Path) -> None:
    salts = opened(tmp_path)
    visitor = Visitor(salts, 1, "198.51.100.1", "server/1", NOON)
    assert visitor(NOON, ADDRESS, AGENT, HOST) == who(salts)
    assert visitor(NOON, cookieless.REMOTE, "", HOST) == who(salts, address="198.51.100.1", agent="server/1")


def test_it_is_the_hash_that_is_described(tmp_path: Path) -> None:
    salts = opened(tmp_path)
    salt = (tmp_path / "salts" / TODAY).read_bytes()
    said = b"\x94\x01" + b"".join(bytes([0xA0 + len(one)]) + one.encode() for one in (ADDRESS, AGENT, HOST))
    raw = hashlib.blake2b(said, key=salt, digest_size=16).digest()
    assert urlsafe_b64decode(who(salts).removeprefix(COOKIELESS) + "==") == raw


def test_salts_are_of_yesterday_and_today_and_of_tomorrow_shortly_before(tmp_path: Path) -> None:
    opened(tmp_path)
    assert files(tmp_path) == [YESTERDAY, TODAY]
    for path in (tmp_path / "salts").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.stat().st_size == SALT_BYTES
    assert len({path.read_bytes() for path in (tmp_path / "salts").iterdir()}) == 2
    opened(tmp_path, (DAY + 1) * DAY_MS - EARLY_MS)
    assert files(tmp_path) == [YESTERDAY, TODAY, "2026-11-28"]


def test_beginning_anew_in_the_day_keeps_the_id(tmp_path: Path) -> None:
    mine = who(opened(tmp_path))
    assert mine == who(opened(tmp_path, NOON + 1)) == who(opened(tmp_path, NOON + DAY_MS), NOON + DAY_MS, at=NOON)


def test_after_its_days_a_salt_is_nowhere(tmp_path: Path) -> None:
    salts = opened(tmp_path)
    held = salts._salts[DAY]
    secret = bytes(held)
    opened_file = os.open(tmp_path / "salts" / TODAY, os.O_RDONLY)  # sees what the disk block says after it has no name
    before = who(salts)
    renew(salts, (DAY + 2) * DAY_MS - 1)
    assert found_in(tmp_path, secret)
    renew(salts, (DAY + 2) * DAY_MS)
    assert not found_in(tmp_path, secret)
    assert TODAY not in files(tmp_path)
    assert os.read(opened_file, 100) == held == bytes(SALT_BYTES), "overwritten, on disk and in memory"
    os.close(opened_file)
    late = Visitor(salts, 1, ADDRESS, AGENT, (DAY + 2) * DAY_MS)(NOON, None, "", HOST)
    assert isinstance(late, Refusal)
    assert (late.code, late.field) == (errors.COOKIELESS_LATE, "timestamp")
    assert who(salts, (DAY + 2) * DAY_MS) != before


def test_what_was_left_while_nobody_ran_goes_at_the_start(tmp_path: Path) -> None:
    opened(tmp_path)
    secrets = [path.read_bytes() for path in (tmp_path / "salts").iterdir()]
    (tmp_path / "salts" / f".{TODAY}.00ff.new").write_bytes(b"half")
    (tmp_path / "salts" / "notes").write_text("somebody else's")
    opened(tmp_path, NOON + 9 * DAY_MS)
    assert files(tmp_path) == ["2026-12-05", "2026-12-06", "notes"]
    assert not any(found_in(tmp_path, secret) for secret in secrets)


def test_switched_off_all_of_them_go(tmp_path: Path) -> None:
    opened(tmp_path)
    secrets = [path.read_bytes() for path in (tmp_path / "salts").iterdir()]
    cookieless.destroy(tmp_path / "salts")
    assert files(tmp_path) == []
    assert not any(found_in(tmp_path, secret) for secret in secrets)
    cookieless.destroy(tmp_path / "none")
    off = Visitor(None, 1, ADDRESS, AGENT, NOON)(NOON, None, "", HOST)
    assert isinstance(off, Refusal)
    assert (off.code, off.field) == (errors.COOKIELESS_OFF, "context.cookieless")


@pytest.mark.parametrize("data", [b"", b"x" * 31, b"x" * 33, bytes(32), None], ids=["", "31", "33", "zeros", "mode"])
def test_a_damaged_salt_is_replaced_and_told(tmp_path: Path, data: bytes | None, caplog: Any) -> None:
    before = who(opened(tmp_path))
    path = tmp_path / "salts" / TODAY
    if data is None:
        path.unlink()
        path.symlink_to("/etc/hostname")  # nor is anything followed
    else:
        path.write_bytes(data)
    salts = opened(tmp_path)
    assert who(salts) != before
    assert "count twice" in caplog.text
    assert who(salts) == who(opened(tmp_path)), "the new one stays"
    assert any(path.read_bytes())
    assert not path.is_symlink()


def test_where_none_can_be_written_it_is_in_memory_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(cookieless.os, "fsync", full)
        salts = opened(tmp_path)
        mine = who(salts)
        assert files(tmp_path) == []
        renew(salts, NOON + 60_000)
        assert caplog.text.count("in memory alone") == 2, "of each day once"
    renew(salts, NOON + 120_000)
    assert files(tmp_path) == [YESTERDAY, TODAY]
    assert who(salts) == mine == who(opened(tmp_path))


def test_dying_while_it_is_written_leaves_none_or_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Died(BaseException):
        pass

    def die(*_: object) -> None:
        raise Died

    for step in ("write", "fsync", "link", "unlink"):
        directory = tmp_path / step
        directory.mkdir()
        with monkeypatch.context() as patch:
            patch.setattr(cookieless.os, step, die)
            with pytest.raises(Died):
                opened(directory)
        for path in (directory / "salts").iterdir():
            assert path.name.startswith(".") or path.stat().st_size == SALT_BYTES
        mine = who(opened(directory))
        assert mine == who(opened(directory))
        opened(directory, NOON + 2 * DAY_MS)
        assert files(directory) == ["2026-11-28", "2026-11-29"], "what was half done is gone with its day"


def test_collectors_that_share_the_directory_give_the_same_ids(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    assert who(first) == who(second)
    # Both at once: whoever links first has made it.
    one, other = Salts(tmp_path / "salts"), Salts(tmp_path / "salts")
    at = NOON + 30 * DAY_MS
    ids = {who(one, at), who(other, at)}
    assert len(ids) == 2
    renew(one, at)
    renew(other, at)
    assert who(one, at) == who(other, at)
    assert who(one, at) in ids


def test_a_clock_that_is_set_back_over_midnight_finds_its_salts(tmp_path: Path) -> None:
    salts = opened(tmp_path)
    mine = who(salts)
    after = (DAY + 1) * DAY_MS
    renew(salts, after)
    tomorrow = who(salts, after)
    renew(salts, after - 1)
    assert who(salts, after - 1) == mine
    renew(salts, after + 1)
    assert who(salts, after + 1) == tomorrow
    # Far ahead and back: that day's salt is not kept until it comes.
    renew(salts, NOON + 400 * DAY_MS)
    renew(salts, NOON)
    assert files(tmp_path) == [YESTERDAY, TODAY]
    assert who(salts) != mine


def test_a_clock_that_jumps_between_two_looks_loses_no_event(tmp_path: Path) -> None:
    salts = opened(tmp_path)
    at = NOON + 5 * DAY_MS
    mine = who(salts, at)
    renew(salts, at)
    assert who(salts, at) == mine == who(opened(tmp_path, at), at)


OFFSETS = st.integers(-4 * DAY_MS, 2 * DAY_MS) | st.sampled_from([-DAY_MS, -1, 0, 1, DAY_MS - 1, DAY_MS, DAY_MS + 1])


@settings(max_examples=300, deadline=None)
@given(st.integers(-3, 3), OFFSETS, OFFSETS)
def test_the_late_window(days: int, received: int, occurred: int) -> None:
    """Twin: the calendar says which day it was, and whether that is today, yesterday or ahead."""
    now, at = NOON + days * DAY_MS + received, NOON + days * DAY_MS + occurred
    salts = Salts(Path("/nowhere/that/is"))
    found = Visitor(salts, 1, ADDRESS, AGENT, now)(at, None, "", HOST)
    today, that = (datetime.fromtimestamp(ms / 1000, UTC).date() for ms in (now, at))
    if (today - that).days > 1:
        assert isinstance(found, Refusal)
        assert found.code == errors.COOKIELESS_LATE
        assert salts._salts == {}
    else:
        day = min(that, today).toordinal() - datetime(1970, 1, 1, tzinfo=UTC).toordinal()
        assert list(salts._salts) == [day]
        assert found == Visitor(salts, 1, ADDRESS, AGENT, now)(at, None, "", HOST)
