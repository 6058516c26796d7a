from __future__ import annotations

import stat
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from pugd import commands
from pugd.errors import PugdError


async def double(asked: Mapping[str, Any]) -> object:
    return asked["number"] * 2


async def refuse(asked: Mapping[str, Any]) -> object:
    raise PugdError("the graph is frozen")


@pytest.fixture(params=["short", "deep" * 40])
async def path(request: pytest.FixtureRequest, tmp_path: Path, nursery: trio.Nursery) -> Path:
    directory = tmp_path / request.param
    directory.mkdir()
    place = directory / "collector.sock"
    place.touch()  # as a killed process leaves it
    await nursery.start(commands.serve, place, {"double": double, "refuse": refuse})
    return place


async def test_a_command_is_answered(path: Path) -> None:
    assert await commands.ask(path, "double", number=21) == 42
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_what_is_wrong_is_said(path: Path) -> None:
    with pytest.raises(commands.CommandError, match="frozen"):
        await commands.ask(path, "refuse")
    with pytest.raises(commands.CommandError, match="known are double, refuse"):
        await commands.ask(path, "treble")


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(commands.CommandError, match=r"asking collector\.sock to double failed"):
        await commands.ask(tmp_path / "collector.sock", "double")


async def test_nonsense_and_silence_hurt_nobody(path: Path) -> None:
    short = commands._address(path)
    async with await trio.open_unix_socket(short) as stream:
        await stream.send_all(b"\xffnonsense\n")
        assert b"error" in await stream.receive_some()
    async with await trio.open_unix_socket(short):
        assert await commands.ask(path, "double", number=1) == 2


async def test_the_socket_alone_is_closed_to_others(tmp_path: Path, nursery: trio.Nursery) -> None:
    """Directories made meanwhile by the engine's threads keep their own mode, so that they can be entered."""
    (tmp_path / "made").mkdir()
    ended = threading.Event()

    def make() -> None:
        number = 0
        while not ended.is_set():
            (tmp_path / "made" / str(number)).mkdir(mode=0o700)
            number += 1

    maker = threading.Thread(target=make)
    maker.start()
    for number in range(300):
        await nursery.start(commands.serve, tmp_path / f"{number}.sock", {})
    ended.set()
    maker.join()
    nursery.cancel_scope.cancel()
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "made").iterdir()} == {0o700}
