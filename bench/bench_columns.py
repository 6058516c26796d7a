"""What the drain costs an event: the encoder alone, and ClickHouse's insert of the same block beside it.

    python bench/bench_columns.py [--rows 65536] [--rounds 5]

CPU time of this process (the embedded engine runs in it), best and median of the rounds. Events are of the size of a
web page view (about 560 bytes in the journal): five properties, context, page fields.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import struct
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pugd import model, tables
from pugd.columns.block import Block, Built, build
from pugd.store.clickhouse import Store


class Span(msgspec.Struct, frozen=True):
    data: bytes
    position: int


def events(count: int, seed: int) -> list[bytes]:
    """Journal rows as accept.py writes them."""
    draw = random.Random(seed)
    agents = [f"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/{n}.0.0.0 Safari/537.36" for n in range(40)]
    names = ["page_view", "scroll", "add_to_cart", "search", "checkout_started", "order_completed"]
    context = json.dumps(
        {"library": {"name": "analytics.js", "version": "4.1"}, "screen": {"width": 1440, "height": 900}}
    )
    begin = 1_790_000_000_000
    rows = []
    for n in range(count):
        properties = {
            "product": f"prod-{draw.randrange(2000):04d}",
            "price": round(draw.random() * 500, 2),
            "currency": "USD",
            "position": draw.randrange(50),
            "in_stock": draw.random() < 0.9,
        }
        at = begin + n * 20 + draw.randrange(2000)
        row = model.EventRow(
            *(model.EVENT, 1, draw.getrandbits(64), at, at + 35, at - 3, "", "track", draw.choice(names)),
            *(f"{draw.getrandbits(128):032x}", "" if n % 3 else f"user_{draw.randrange(50_000)}"),
            *(
                f"anon-{draw.getrandbits(64):016x}",
                f"s{draw.randrange(1 << 30)}",
                "http",
                "web",
                "analytics.js/4.1",
                0,
                0,
            ),
            *(json.dumps(properties).encode(), context.encode(), "https://shop.example/products/prod-0198?ref=mail"),
            *(
                "/products/prod-0198",
                "A shirt | The shop",
                "https://search.example/",
                "en-US",
                draw.choice(agents),
                "2.3.1",
            ),
        )
        rows.append(msgspec.msgpack.encode(row))
    return rows


def records(rows: list[bytes], rows_a_record: int = 100) -> bytes:
    """As journal records; the checksum is the reader's business, not the encoder's."""
    parts = []
    for at in range(0, len(rows), rows_a_record):
        payload = b"".join(rows[at : at + rows_a_record])
        parts.append(struct.pack("<IIB3xI", len(payload), 0, 1, len(rows[at : at + rows_a_record])) + payload)
    return b"".join(parts)


def report(name: str, seconds: list[float], rows: int) -> None:
    micros = sorted(1e6 * second / rows for second in seconds)
    print(f"{name:34} best {micros[0]:6.3f}  median {statistics.median(micros):6.3f}  µs of CPU an event")


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=65_536)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    data = records(events(options.rows, 1))
    print(f"{options.rows} events, {len(data) / options.rows:.0f} bytes each in the journal")

    def built(position: int) -> Built:
        return build([Span(data, position)], (tables.EVENTS,), collector="bench", epoch=1, rows_max=options.rows)

    spent = []
    for turn in range(options.rounds):
        begun = time.process_time()
        result = built(turn * len(data))
        spent.append(time.process_time() - begun)
        assert sum(block.rows for block in result.blocks) == options.rows
    report("columns (native)", spent, options.rows)
    spent.clear()
    whole = []
    with tempfile.TemporaryDirectory() as directory:
        store = Store(directory=Path(directory))
        await store.prepare()
        for turn in range(options.rounds):
            blocks: list[Block] = built(turn * len(data)).blocks
            begun, begun_wall = time.process_time(), time.monotonic()
            for block in blocks:
                token = f"bench-{block.position}"
                await store.insert(block.table.name, block.columns, block.pieces, token=token, query_id=token)
            spent.append(time.process_time() - begun)
            whole.append(time.monotonic() - begun_wall)
        report("ClickHouse insert (embedded)", spent, options.rows)
        print(f"{'':34} wall median {1e6 * statistics.median(whole) / options.rows:.3f} µs an event")
        await store.close()


if __name__ == "__main__":
    trio.run(main)
