"""What "kept" and "once" rest on in a ClickHouse that an operator gives: its settings, and those of its tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pugd import tables
from pugd.errors import StoreError

NEEDED_SETTINGS = ("insert_deduplication_token", "max_partitions_per_insert_block")
"""Beside those that an insert is sent with."""
TABLE_SETTINGS = ("fsync_after_insert = 1", "fsync_part_directory = 1")
ENGINES = ("MergeTree", "ReplicatedMergeTree", "SharedMergeTree")
"""Their merges keep every row."""
PARTITIONS_MIN = 50
"""What a block may touch (native/columns.h); a server that allows fewer an insert would refuse such blocks."""


def check(client: Any, insert_settings: Mapping[str, int | str]) -> None:
    """That what "kept" and "once" rest on exists here and holds.

    raises   StoreError that names what is missing
    """
    found = client.query(
        "select name, value, readonly from system.settings where name in {names:Array(String)}",
        {"names": [*insert_settings, *NEEDED_SETTINGS]},
    ).result_rows
    here = {name: (value, readonly) for name, value, readonly in found}
    for name in (*insert_settings, *NEEDED_SETTINGS):
        if name not in here:
            raise StoreError(f"this ClickHouse ({client.server_version}) has no setting {name}: it is too old")
    for name, wanted in insert_settings.items():
        value, readonly = here[name]
        if readonly and value != str(wanted):
            raise StoreError(f"ClickHouse fixes {name} to {value}, pugd needs {wanted}: mend the user's profile")
    partitions = int(here["max_partitions_per_insert_block"][0])
    if 0 < partitions < PARTITIONS_MIN:
        raise StoreError(
            f"ClickHouse allows an insert {partitions} partitions, pugd needs {PARTITIONS_MIN}: "
            "raise max_partitions_per_insert_block in the user's profile"
        )
    engines = dict(
        client.query("select name, engine_full from system.tables where database = currentDatabase()").result_rows
    )
    for table in tables.STORED:
        made = engines.get(table.name, "")
        engine = re.split(r"\W", made)[0]
        if engine not in ENGINES:
            raise StoreError(
                f"ClickHouse table {table.name} is a {engine or 'table no more'}, under which rows may vanish: it must "
                f"be one of {', '.join(ENGINES)}"
            )
        if re.search(r"non_replicated_deduplication_window = 0\b", made):
            raise StoreError(
                f"ClickHouse table {table.name} has `non_replicated_deduplication_window = 0`, without which an insert "
                f"that a proxy sends twice is stored twice: alter table {table.name} modify setting "
                "non_replicated_deduplication_window = 10000"
            )
        for setting in TABLE_SETTINGS:
            if setting not in made:
                raise StoreError(
                    f"ClickHouse table {table.name} lacks `{setting}`, without which it may lose rows at a power "
                    f"failure: alter table {table.name} modify setting {setting}"
                )
