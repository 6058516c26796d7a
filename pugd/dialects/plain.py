"""Face of native/plain: bodies of nothing but plain track events become journal rows without an object for each event.

The short way beside segment.py, for what nearly all traffic is: drawn in native/plain.h, which says what is plain. A
body that is not plain is left alone, for segment.py to read. What a plain body means is what segment.py says it means,
down to the bytes of its rows; a context is understood there (context.py) once and known by its bytes from then on.
"""

from __future__ import annotations

import secrets
from array import array

from msgspec import Raw

from pugd._native import ffi, lib
from pugd.dialects import context
from pugd.model import Call, EventRow, Refusal

BODY_BYTES_MAX = 1 << 20
"""A larger body goes the long way, which can split its record."""

TRANSPORT = "http"
LEARN: int = lib.PUGD_PLAIN_LEARN


class Plain:
    """The plain events of a wake-up, in order of arrival."""

    def __init__(self, enrich: context.Enrich = context.unenriched) -> None:
        self._enrich = enrich
        made = lib.pugd_plain_new(len(EventRow.__struct_fields__), secrets.randbits(64))
        if made == ffi.NULL:
            raise MemoryError("reading plain events")
        self._plain = ffi.gc(made, lib.pugd_plain_free)
        self._length = ffi.new("size_t *")
        self._bodies: list[bytes] = []
        """Events point into them."""
        self.count = 0

    def add(self, body: bytes, single: bool, project: int, received_at: int) -> int:
        """Add the events of a body, if they are plain.

        `single`  the body is one track message, else a batch
        returns   how many events; 0: the body is not plain, and nothing was added
        cost      about 0.6 µs an event of 470 bytes, scan included; without the interpreter lock
        """
        if len(body) > BODY_BYTES_MAX:
            return 0
        count = int(lib.pugd_plain_add(self._plain, body, len(body), single, project, received_at))
        if count <= 0:
            if count < 0:
                raise MemoryError("reading plain events")
            return 0
        if count >= LEARN:
            count -= LEARN
            if not self._know_contexts():
                lib.pugd_plain_drop(self._plain, count)
                return 0
        self._bodies.append(body)
        self.count += count
        return count

    def _know_contexts(self) -> bool:
        """Learn what contexts not met before say; False where one says something wrong."""
        while (index := lib.pugd_plain_unknown(self._plain)) >= 0:
            event = lib.pugd_plain_at(self._plain, index)
            text = _bytes(event.context, event.context_length)
            about = context.understand(Raw(text), None, self._enrich)
            if isinstance(about, Refusal) or about.bot:
                return False  # a bot's ids prove nothing: the long way knows that
            middle, tail = bytes(about.middle[TRANSPORT]), bytes(about.tail)
            if lib.pugd_plain_learn(self._plain, text, len(text), middle, len(middle), tail, len(tail)):
                return False  # too many in one wake-up: the long way needs no room here
        return True

    def event_keys(self) -> bytes:
        """MessagePack array: project, event id, occurred_at, name of each event."""
        return _bytes(lib.pugd_plain_event_keys(self._plain, self._length), self._length[0])

    def ids(self) -> bytes:
        """MessagePack array: project, user id, anonymous id of each event."""
        return _bytes(lib.pugd_plain_ids(self._plain, self._length), self._length[0])

    def event_id(self, index: int) -> str:
        event = lib.pugd_plain_at(self._plain, index)
        return _text(event.event_id, event.event_id_length)

    def evidence(self, index: int) -> Call:
        """What the ids of one event propose: a call like identify, but public, whatever key sent it."""
        event = lib.pugd_plain_at(self._plain, index)
        about = context.understand(Raw(_bytes(event.context, event.context_length)), None, self._enrich)
        assert isinstance(about, context.Context), "it was understood when it came"
        return Call(
            "event", event.project, False, _text(event.event_id, event.event_id_length),
            _text(event.user, event.user_length), _text(event.anonymous, event.anonymous_length),
            event.occurred_at, event.received_at, event.occurred_at, "", TRANSPORT, about.platform, [],
        )  # fmt: skip

    def rows(self, actors: array[int], leave_out: list[int], old: list[int]) -> bytes:
        """The rows of all events but those at `leave_out`, in MessagePack, one after another.

        `old`  those whose rows are of old events (model.OLD_EVENT); both ascend
        """
        left, olds = ffi.new("uint32_t[]", leave_out), ffi.new("uint32_t[]", old)
        made = lib.pugd_plain_rows(
            self._plain, ffi.from_buffer("uint64_t[]", actors), left, len(leave_out), olds, len(old), self._length
        )
        if made == ffi.NULL:
            raise MemoryError("writing plain events")
        return _bytes(made, self._length[0])

    def reset(self) -> None:
        """Forget the events."""
        lib.pugd_plain_reset(self._plain)
        self._bodies.clear()
        self.count = 0


def _bytes(at: object, length: int) -> bytes:
    return bytes(ffi.buffer(at, length)) if length else b""


def _text(at: object, length: int) -> str:
    return _bytes(at, length).decode()
