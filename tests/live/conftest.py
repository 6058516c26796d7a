"""One running daemon for the tests of a file; each file its own, one engine at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from live.daemon import Daemon


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("live")
    with Daemon(Path(directory)) as one:
        yield one
