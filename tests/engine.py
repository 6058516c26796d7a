"""The one embedded ClickHouse of a test process: an engine takes one path a process, and a while to open.

Tests of one file share its tables, and keep apart by project number or by (collector, epoch). Each file begins with
empty ones: events of many months are many parts, and every question looks at each of them.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import trio

from pugd.store import clickhouse
from pugd.store.clickhouse import Store

_store: Store | None = None
_file = ""
"""Whose tables they are."""
emptied = 0
"""How often they were made empty."""


async def opened_store() -> Store:
    """The store of this process, opened by the first that asks."""
    global _file, _store, emptied
    if _store is None:
        directory = Path(tempfile.mkdtemp(prefix="pugd-test-"))
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
        store = Store(directory=directory)
        await store.prepare()
        _store = store
        atexit.register(store._close)  # before the directory goes: the last registered is the first to run
    # Each test has a Trio run of its own, and limiters belong to the run that used them.
    _store._insert_limit = trio.CapacityLimiter(1)
    _store._read_limit = trio.CapacityLimiter(4)
    _store._stop_limit = trio.CapacityLimiter(1)
    _store._stream_limit = trio.CapacityLimiter(clickhouse.STREAMS)
    _store._preparing = trio.Lock()
    file = os.environ.get("PYTEST_CURRENT_TEST", "").partition("::")[0]
    if file != _file:
        _file = file
        emptied += 1
        for table in ("events", "traits", "links", "person_of"):
            await _store.command(f"truncate table {table}")
    return _store
