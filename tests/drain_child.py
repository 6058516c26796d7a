"""A keeper's drain in a process of its own, which may end itself at a named point, as a crash would.

    python drain_child.py DATA POINT NTH

drains DATA until all that is flushed is stored, prints what each table holds of it, and ends with 0; or ends with 9 at
the NTH time that POINT is reached: `before-insert`, `after-insert`, `inside-insert` (a random moment of one),
`before-stored` and `after-stored` (the file). `URL` in the environment: a ClickHouse server instead of the embedded.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from pathlib import Path

import trio

import pugd.drain
from pugd.data import DataDirectory
from pugd.drain import ORDER, Drain
from pugd.store.clickhouse import Store


def main() -> None:
    directory, point, nth = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    reached = 0

    def at(name: str) -> None:
        nonlocal reached
        if name == point:
            reached += 1
            if reached == nth:
                os._exit(9)

    class CrashingStore(Store):
        def _insert(self, *args, **more):
            at("before-insert")
            if point == "inside-insert":
                nonlocal reached
                reached += 1
                if reached == nth:
                    wait = random.Random(time.time_ns()).uniform(0.0, 0.02)
                    threading.Thread(target=lambda: (time.sleep(wait), os._exit(9)), daemon=True).start()
            super()._insert(*args, **more)
            at("after-insert")

    write = pugd.drain.write_whole

    def write_whole(path, data, *more):
        if path.name == "stored":
            at("before-stored")
        write(path, data, *more)
        if path.name == "stored":
            at("after-stored")

    pugd.drain.write_whole = write_whole

    async def drain() -> None:
        data = DataDirectory(directory)
        store = CrashingStore(directory=directory, url=os.environ.get("URL"))
        drain = Drain(data, store, interval_ms=10, rows_max=40, span_bytes_max=int(os.environ.get("SPAN", "4000")))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain.run)
            stored = await drain.wait_stored(drain.flushed, trio.current_time() + 60)
            nursery.cancel_scope.cancel()
        await store.prepare()
        held = {}
        for table in ORDER:
            rows = await store.query(
                f"select position from {table.name} where epoch = {{epoch:UInt64}} order by position",
                {"epoch": data.origin().epoch},
            )
            held[table.name] = [row[0] for row in rows.rows]
        statistics = drain.statistics()
        await store.close()
        print(
            json.dumps(
                {
                    "stored": stored,
                    "held": held,
                    "quarantined": statistics.quarantined,
                    "recovered": statistics.recovered_rows,
                    "doubled": statistics.doubled_rows,
                    "spans": statistics.spans,
                }
            )
        )

    trio.run(drain)


if __name__ == "__main__":
    main()
