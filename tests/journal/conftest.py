"""A journal in a temporary directory: bytes laid by the plain twin, or a Writer opened over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pugd.journal.writer import Writer

EPOCH = 77


@pytest.fixture
def open_writer(tmp_path: Path) -> Iterator[Callable[..., Writer]]:
    """Opens a Writer over tmp_path/journal; those still open are closed at the end."""
    opened: list[Writer] = []

    def open_one(directory: Path = tmp_path, **settings: Any) -> Writer:
        writer = Writer.open(
            directory / "journal",
            name="c1",
            epoch=settings.pop("epoch", EPOCH),
            flushed_path=directory / "flushed",
            bytes_max=settings.pop("bytes_max", 1 << 40),
            reserve_bytes=settings.pop("reserve_bytes", 0),
            file_bytes_max=settings.pop("file_bytes_max", 1 << 20),
            **settings,
        )
        opened.append(writer)
        return writer

    yield open_one
    for writer in opened:
        if writer._flush is not None:
            writer._release()
