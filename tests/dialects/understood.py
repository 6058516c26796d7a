"""What a dialect made of a body, as tests look at it: rows and calls, or the refusals and the answer."""

from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
from msgspec import Struct

from pugd.dialects.dialect import Asked, Dialect, Reply
from pugd.dialects.message import Decoded, Visitor, Where, read
from pugd.enrich import clock
from pugd.errors import status_of
from pugd.model import PARTS, Ack, Batch, Call, EventRow, Refusal

NOW = 1_790_000_000_000
FIELDS = EventRow.__struct_fields__


class Understood(Struct):
    """What became of one body."""

    batch: Batch
    refused: list[Refusal]
    key: str | None
    reply: Reply

    def event(self, number: int = 0) -> dict[str, Any]:
        """One event's row, by its number among all calls."""
        parts = self.batch.parts[PARTS * number : PARTS * (number + 1)]
        assert len(parts) == PARTS, "there is no such call"
        assert parts[0] is not None, "this call is no event"
        row = msgspec.msgpack.decode(msgspec.msgpack.encode(parts)[1:])
        assert len(row) == len(FIELDS)
        found = dict(zip(FIELDS, row, strict=True))
        return found | {"properties": json.loads(found["properties"]), "context": json.loads(found["context"])}

    @property
    def call(self) -> Call:
        """The only call that is no event, or goes with one."""
        [call] = self.batch.calls.values()
        return call

    @property
    def told(self) -> Any:
        """The answer's body."""
        return json.loads(self.reply.body)


def visitor(*said: object) -> str:
    """Stands for whoever knows the day's salt: an id that says what it is made of."""
    return f"cookieless-{said}"


def understood(
    dialect: Dialect,
    body: Any,
    asked: Asked,
    *,
    secret: bool = False,
    where: Where | None = None,
    visitor: Visitor | None = visitor,
) -> Understood:
    """Take a body the whole way through a dialect. `body`: bytes, or what JSON is made of."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    decoded = dialect.decode(data, asked)
    batch = Batch()
    if isinstance(decoded, Reply):
        return Understood(batch, [], None, decoded)
    if isinstance(decoded, Refusal):
        failed = dialect.failure(status_of(decoded.code), Ack(0, [], decoded, 0), asked)
        return Understood(batch, [decoded], None, failed)
    assert isinstance(decoded, Decoded)
    numbers = itertools.count()
    refused = read(
        decoded,
        batch,
        project=7,
        secret=secret,
        received_at=NOW,
        transport="http",
        clock=clock,
        mint=lambda: f"minted-{next(numbers)}",
        where=where,
        visitor=visitor,
    )
    lengths = (len(batch.event_keys) // 4, len(batch.ids) // 3, len(batch.parts) // PARTS)
    assert lengths == (batch.length,) * 3, "the lists of a batch go together"
    failed_ack = refused[0] if refused and not batch.length else None
    ack = Ack(batch.length, refused, failed_ack, 1, decoded)
    if failed_ack is not None:
        reply = dialect.failure(status_of(failed_ack.code), ack, asked)
    else:
        reply = dialect.success(ack, asked)
        if not refused:
            assert dialect.constant(asked) in (None, reply)
    return Understood(batch, refused, decoded.write_key, reply)
