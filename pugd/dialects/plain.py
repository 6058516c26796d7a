"""Face of native/plain: bodies of nothing but plain events become journal rows without an object for each event.

The short way beside the dialects' own, for what nearly all traffic is: drawn in native/plain.h, which says what is
plain. A dialect describes its bodies as a Form; a body that is not plain is left alone, for the dialect's `decode` to
read. What a plain body means is what is said there, down to the bytes of its rows; a context is understood there and in
context.py once, and known by its bytes and the browser's user agent from then on.

What a plain event asks beside its row, a link or changes of traits, C finds and leaves as it stands: `calls` has it, as
the long way would, and `asking` gives it in order. The rest of its body is made rows of as ever.
"""

from __future__ import annotations

import secrets
from array import array
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from pugd._native import ffi, lib
from pugd.dialects import context, traits
from pugd.dialects.message import Decoded
from pugd.model import Call, EventRow, Refusal, encoded

BODY_BYTES_MAX = 1 << 20
"""A larger body goes the long way, which can split its record."""
ROWS_BYTES_MAX = 16 << 20
"""So does one whose rows repeat so much that they are larger than this."""
NEW_CONTEXTS_MAX = 512
"""And one with more contexts that nobody saw before: to understand each costs some ten µs."""
AGENT_LENGTH_MAX = 512
"""And one from a browser of a longer name."""
TOGETHER_BYTES_MAX = 4096
"""A smaller body is added together with others, in one call for all: to copy a larger one costs as much as a call."""
CALLS_MAX = 512
"""And one with more events that ask for a link or change traits: each costs some ten µs here."""
CHANGES_MAX = 4096
"""And one that changes more traits: each is a row of its own, which costs 2 µs."""

SENT_MIN: Final[int] = lib.PUGD_PLAIN_SECONDS_BELOW
SENT_MAX: Final[int] = lib.PUGD_PLAIN_TIME_MAX_MS
"""Numbers between are milliseconds to enrich/clock.py too."""
TRANSPORT = "http"
MIXED: Final = "mixed"
"""What a body says of its events' addresses, where it may not say the same of all of them."""
NOWHERE: Final = bytes(encoded("", "", ""))
"""Country, region and city, in MessagePack, of a sender whose place is not known."""
LEARN: int = lib.PUGD_PLAIN_LEARN
SINGLE: Final[int] = lib.PUGD_PLAIN_SINGLE
BATCHED: Final[int] = lib.PUGD_PLAIN_BATCHED
LISTED: Final[int] = lib.PUGD_PLAIN_LISTED
"""How a body holds its events: as its only one, in an envelope, as a list."""
TRACK: Final[int] = lib.PUGD_PLAIN_TRACK
PAGE: Final[int] = lib.PUGD_PLAIN_PAGE
SCREEN: Final[int] = lib.PUGD_PLAIN_SCREEN
OTHER: Final[int] = lib.PUGD_PLAIN_OTHER
"""A call that is not plain."""
IDENTIFY: Final[int] = lib.PUGD_PLAIN_IDENTIFY
TRAITS: Final[int] = lib.PUGD_PLAIN_TRAITS
"""Calls that are no events."""
_WORDS: Final = {IDENTIFY: "identify", TRAITS: "traits"}
_CHANNELS: Final = (None, "web", "mobile", "server")


class Level:
    """Where a member stands: native/plain.h."""

    AROUND: Final[int] = lib.PUGD_PLAIN_AROUND_LEVEL
    EVENT: Final[int] = lib.PUGD_PLAIN_EVENT_LEVEL
    PROPERTIES: Final[int] = lib.PUGD_PLAIN_PROPERTIES_LEVEL
    TYPES: Final[int] = lib.PUGD_PLAIN_TYPES_LEVEL
    NAMES: Final[int] = lib.PUGD_PLAIN_NAMES_LEVEL
    _CHANNELS: Final[int] = lib.PUGD_PLAIN_CHANNELS_LEVEL


class Role:
    """What a member says: native/plain.h."""

    TYPE: Final[int] = lib.PUGD_PLAIN_TYPE
    EVENT: Final[int] = lib.PUGD_PLAIN_EVENT
    NAME: Final[int] = lib.PUGD_PLAIN_NAME
    ID: Final[int] = lib.PUGD_PLAIN_ID
    ID_ELSE: Final[int] = lib.PUGD_PLAIN_ID_ELSE
    USER: Final[int] = lib.PUGD_PLAIN_USER
    ANONYMOUS: Final[int] = lib.PUGD_PLAIN_ANONYMOUS
    DISTINCT: Final[int] = lib.PUGD_PLAIN_DISTINCT
    DISTINCT_ELSE: Final[int] = lib.PUGD_PLAIN_DISTINCT_ELSE
    SAME: Final[int] = lib.PUGD_PLAIN_SAME
    KNOWN: Final[int] = lib.PUGD_PLAIN_KNOWN
    HAD: Final[int] = lib.PUGD_PLAIN_HAD
    TIME: Final[int] = lib.PUGD_PLAIN_TIME
    TIME_ELSE: Final[int] = lib.PUGD_PLAIN_TIME_ELSE
    AGE: Final[int] = lib.PUGD_PLAIN_AGE
    SENT: Final[int] = lib.PUGD_PLAIN_SENT
    KEY: Final[int] = lib.PUGD_PLAIN_KEY
    TOKEN: Final[int] = lib.PUGD_PLAIN_TOKEN
    TEXT: Final[int] = lib.PUGD_PLAIN_TEXT
    PROPERTIES: Final[int] = lib.PUGD_PLAIN_PROPERTIES
    CONTEXT: Final[int] = lib.PUGD_PLAIN_CONTEXT
    CHANNEL: Final[int] = lib.PUGD_PLAIN_CHANNEL
    LIST: Final[int] = lib.PUGD_PLAIN_LIST
    EMPTY: Final[int] = lib.PUGD_PLAIN_EMPTY
    NULL: Final[int] = lib.PUGD_PLAIN_NULL
    ODD: Final[int] = lib.PUGD_PLAIN_ODD
    FALSE: Final[int] = lib.PUGD_PLAIN_FALSE
    URL: Final[int] = lib.PUGD_PLAIN_URL
    NONE: Final[int] = lib.PUGD_PLAIN_NONE
    JOINED: Final[int] = lib.PUGD_PLAIN_JOINED
    PROFILE: Final[int] = lib.PUGD_PLAIN_PROFILE
    SET: Final[int] = lib.PUGD_PLAIN_SET
    SET_ONCE: Final[int] = lib.PUGD_PLAIN_SET_ONCE
    UNSET: Final[int] = lib.PUGD_PLAIN_UNSET
    SET_BESIDE: Final[int] = lib.PUGD_PLAIN_SET_BESIDE
    SET_ONCE_BESIDE: Final[int] = lib.PUGD_PLAIN_SET_ONCE_BESIDE
    UNSET_BESIDE: Final[int] = lib.PUGD_PLAIN_UNSET_BESIDE
    UNSKEWED: Final[int] = lib.PUGD_PLAIN_UNSKEWED
    SAYS: Final[int] = lib.PUGD_PLAIN_SAYS
    """A part of the context, and nothing else; with `|` beside a role, that too."""


class Flag:
    """How a form is read: native/plain.h."""

    BY_NAME: Final[int] = lib.PUGD_PLAIN_BY_NAME
    BARE_LIST: Final[int] = lib.PUGD_PLAIN_BARE_LIST
    WALKED: Final[int] = lib.PUGD_PLAIN_WALKED
    TOGETHER: Final[int] = lib.PUGD_PLAIN_TOGETHER
    OPERATIONS: Final[int] = lib.PUGD_PLAIN_OPERATIONS
    NUMBERS: Final[int] = lib.PUGD_PLAIN_NUMBERS
    ONE_ID: Final[int] = lib.PUGD_PLAIN_ONE_ID
    DEVICE_ID: Final[int] = lib.PUGD_PLAIN_DEVICE_ID
    CUT: Final[int] = lib.PUGD_PLAIN_CUT
    MARKED_ID: Final[int] = lib.PUGD_PLAIN_MARKED_ID
    PAGE_HAS_URL: Final[int] = lib.PUGD_PLAIN_PAGE_HAS_URL


class Form(Struct, frozen=True, eq=False):
    """How a dialect's bodies look, and what they mean."""

    kind: int
    """Forms of one kind mean the same by a context."""
    flags: int
    members: Mapping[int, Mapping[str, int]]
    """Level → name → role."""
    about: Callable[[bytes, str | None, str], tuple[Raw, str | None]]
    """What stands in a body for a context, the message's channel, and what the request says besides (Way.more) → the
    context in Segment's words, the channel."""
    told: Callable[[int, int, int, int], Decoded]
    """Shape, events, bytes and time of a body → what its answer is made of, as `decode` gives it once it is read."""
    marker: bytes = b""
    """What the context says depends on whether this stands in the properties: it must stand in what is SAID too."""
    changes: Callable[[Sequence[bytes], Sequence[bytes]], list[traits.Change] | Refusal] | None = None
    """SET, SET_ONCE and UNSET in the properties and beside them, each empty where it is absent → what they change."""
    opened: Callable[[bytes], bytes | None] | None = None
    """Where a body is no JSON: what makes it so. None: it is not plain."""


class Way(Struct, frozen=True, eq=False):
    """As what a request's body may be plain."""

    form: Form
    call: int = 0
    """What each event is, where the path says it."""
    sent_at: int = -1
    """When the body was sent, in ms, where the request says so and it does not."""
    more: str = ""
    """What the request says of where its events happened."""


class Course(Struct, frozen=True, eq=False):
    """What a request says beside its body of how that is read, if it is plain: the same for all with one head."""

    way: Way
    user_agent: str
    """A browser's own, of the request; '' of others."""
    agent: bytes
    """What its contexts are known by beside their bytes."""
    said: tuple[int, ...] | None
    """The first of what native/plain.h wants said of each of many bodies; None: each must be added by itself."""


_ALONE: Final = (int(lib.PUGD_PLAIN_ALONE), *(0,) * (lib.PUGD_PLAIN_SAID_COUNT - 1))


class Together:
    """Small bodies that are added in one call, and the places of others between them."""

    __slots__ = ("_begins", "_bytes", "_end", "_numbers", "_parts", "_said", "courses")

    def __init__(self) -> None:
        self.courses: list[Course | None] = []
        """Of each body; None of those that are not among them."""
        self._begins: list[int] = []
        """Where what is laid of each begins."""
        self._end = 0
        self._parts: list[bytes] = []
        self._said: list[int] = []
        self._bytes = b""
        self._numbers: Any = None

    def lay(self, course: Course, project: int, place: bytes, body: bytes) -> None:
        """The next body, of a course that has `said`: of at most TOGETHER_BYTES_MAX."""
        assert course.said is not None
        self.courses.append(course)
        self._begins.append(self._end)
        self._end += len(course.agent) + len(place) + len(body)
        self._parts += (course.agent, place, body)
        self._said += course.said
        self._said += (project, len(place), len(body))

    def leave(self) -> None:
        """The next body is not among them."""
        self.courses.append(None)
        self._begins.append(self._end)
        self._said += _ALONE

    def laid(self, begin: int) -> tuple[bytes, Any, Any, int]:
        """From number `begin` on, as native/plain.h draws it: whose bytes they are; the bytes, numbers, how many.
        Nothing is laid after that."""
        if self._numbers is None:
            self._bytes = b"".join(self._parts)
            self._numbers = ffi.from_buffer("int64_t[]", array("q", self._said))
        bytes_ = ffi.from_buffer("uint8_t[]", self._bytes) + self._begins[begin]
        numbers = self._numbers + begin * len(_ALONE)
        return self._bytes, bytes_, numbers, len(self.courses) - begin


def named(struct: type[Struct], roles: Mapping[int, Sequence[str]]) -> dict[str, int]:
    """Role → members, by their names as they are sent; all that `struct` reads besides is ODD, so that what is read
    of a new one is never passed over."""
    found = {field.encode_name: Role.ODD for field in msgspec.structs.fields(struct)}
    for role, names in roles.items():
        for name in names:
            assert found.get(name) == Role.ODD, f"{struct.__name__} has no {name}, or it has two roles"
            found[name] = role
    return found


WALKED: Final = dict.fromkeys(("ip", "$ip", *traits.OPERATIONS), Role.ODD)
"""Members of the properties that a form must name which is WALKED: what is in them is not kept as it is."""


class _Told(Struct, array_like=True, gc=False):
    """What an event says: native/plain.h."""

    number: int
    call: int
    event_id: str
    user_id: str
    anonymous_id: str
    occurred_at: int
    received_at: int
    original_at: int
    time_note: str
    denied: int
    set: bytes
    set_once: bytes
    unset: bytes
    set_beside: bytes
    set_once_beside: bytes
    unset_beside: bytes
    middle: bytes


_told = msgspec.msgpack.Decoder(list[_Told]).decode
_middle = msgspec.msgpack.Decoder(tuple[str, str, str, str, int, int]).decode


class Plain:
    """The plain events of a wake-up, in order of arrival."""

    def __init__(self, enrich: context.Enrich, forms: Sequence[Form], *, placed: bool = False) -> None:
        """`placed`: events have places; those that may have another than is said for their body go the long way."""
        self._enrich = enrich
        self._placed = placed
        made = lib.pugd_plain_new(len(EventRow.__struct_fields__), secrets.randbits(64))
        if made == ffi.NULL:
            raise MemoryError("reading plain events")
        self._plain = ffi.gc(made, lib.pugd_plain_free)
        self._length = ffi.new("size_t *")
        self._shape = ffi.new("int *")
        self._alone = ffi.new("int *")
        self._took = ffi.new("uint32_t[]", 2 * 256)
        self._numbers = {form: self._enter(form) for form in forms}
        self._held: list[bytes] = []
        """Bodies, agents and places that events point into."""
        self.count = 0
        self.calls: dict[int, Call] = {}
        """What events ask beside their row, by their number: as in model.Batch."""
        self.no_events: set[int] = set()
        """Of which of them there are no rows."""

    def _enter(self, form: Form) -> int:
        number: int = lib.pugd_plain_form(self._plain, form.kind, form.flags, form.marker, len(form.marker))
        assert number >= 0, "there are more forms than native/plain.c has room for"
        channels = {name: index for index, name in enumerate(_CHANNELS) if name}
        for level, members in {**form.members, Level._CHANNELS: channels}.items():
            for name, role in members.items():
                text = name.encode()
                wrong = lib.pugd_plain_member(self._plain, number, level, text, len(text), role)
                assert not wrong, f"{name!r} is too long, or one member too many"
        return number

    def course(self, way: Way, user_agent: str) -> Course:
        """`user_agent`: a browser's own, of the request."""
        agent = _agent(way, user_agent)
        by_itself = way.form.opened is not None or len(user_agent) > AGENT_LENGTH_MAX
        said = None if by_itself else (self._numbers[way.form], way.call, way.sent_at, len(agent))
        return Course(way, user_agent, agent, said)

    def add_together(self, together: Together, begin: int, received_at: int) -> tuple[list[int], list[int], bool]:
        """Add bodies from number `begin` on, up to the first that is not plain, is not among them, asks for more than
        rows, or says what must be learnt: of this one nothing is added.

        returns  how many events each has; how each holds them; whether `add` may still add the first that was not
        cost     one call, about 0.5 µs a body of one event of 470 bytes; without the interpreter lock
        """
        if together.courses[begin] is None:
            return [], [], True
        held, bytes_, numbers, count = together.laid(begin)
        if len(self._took) < 2 * count:
            self._took = ffi.new("uint32_t[]", 4 * count)
        added = lib.pugd_plain_add_many(
            self._plain, bytes_, numbers, count, received_at, NEW_CONTEXTS_MAX, self._took, self._alone
        )
        if not added:
            return [], [], bool(self._alone[0])
        took = ffi.unpack(self._took, 2 * added)
        counts = took[::2]
        self._held.append(held)
        self.count += sum(counts)
        return counts, took[1::2], bool(self._alone[0])

    def add(
        self,
        way: Way,
        body: bytes,
        received_at: int,
        *,
        user_agent: str = "",
        place: bytes = NOWHERE,
    ) -> int:
        """Add the events of a body, if they are plain; then `own` says whose they are.

        `user_agent`  a browser's own, of the request
        `place`       country, region and city in MessagePack
        returns       how many events; 0: the body is not plain, and nothing was added
        cost          about 0.6 µs an event of 470 bytes, scan included; without the interpreter lock
        """
        if len(body) > BODY_BYTES_MAX or len(user_agent) > AGENT_LENGTH_MAX:
            return 0
        form = way.form
        if form.opened is not None:
            text = form.opened(body)
            if text is None or len(text) > BODY_BYTES_MAX:
                return 0
            body = text
        agent = _agent(way, user_agent)
        count = int(
            lib.pugd_plain_add(
                self._plain, self._numbers[form], body, len(body), way.call, received_at, way.sent_at, agent,
                len(agent), place, len(place),
            )
        )  # fmt: skip
        if count <= 0:
            if count < 0:
                raise MemoryError("reading plain events")
            return 0
        if count >= LEARN:
            count -= LEARN
            if not self._know_contexts(way, user_agent):
                lib.pugd_plain_drop(self._plain, count)
                return 0
        if not self._keep_calls(form):
            lib.pugd_plain_drop(self._plain, count)
            return 0
        self._held += (body, agent, place)
        self.count += count
        if count > NEW_CONTEXTS_MAX and lib.pugd_plain_most(self._plain) > ROWS_BYTES_MAX:
            self.drop(count)
            return 0
        return count

    def _know_contexts(self, way: Way, user_agent: str) -> bool:
        """Learn what contexts not met before say; False where one says something wrong, or where its events are from.

        `user_agent`  of the browser they come from: what is learnt then holds for that browser's alone
        """
        other = (
            context.SERVER if user_agent else context.DEVICE
        )  # who would be somewhere else than these bodies' place says
        for _ in range(NEW_CONTEXTS_MAX):
            index = lib.pugd_plain_unknown(self._plain)
            if index < 0:
                return True
            event = lib.pugd_plain_at(self._plain, index)
            raw, channel = way.form.about(
                _bytes(event.context, event.context_length),
                _CHANNELS[event.variant & lib.PUGD_PLAIN_CHANNEL_MAX],
                way.more,
            )
            about = context.understand(raw, channel, self._enrich, user_agent)
            if isinstance(about, Refusal) or about.cookieless:
                return False  # a cookieless visitor's ids are left out: the long way knows that
            if self._placed and (about.ip is not None or about.sender == other):
                return False
            middle, start = bytes(about.middle[TRANSPORT]), bytes(about.start)
            if lib.pugd_plain_learn(self._plain, index, middle, len(middle), start, len(start)):
                return False  # too many in one wake-up: the long way needs no room here
        return bool(lib.pugd_plain_unknown(self._plain) < 0)

    def _keep_calls(self, form: Form) -> bool:
        """Understand what the events that were just added ask beside their rows; False where one asks wrongly, or for
        too much."""
        asking = lib.pugd_plain_changing(self._plain, self.count, self._length)
        if asking == ffi.NULL:
            return True
        if self._length[0] > CALLS_MAX:
            return False
        assert form.changes is not None, "a form that names operations, or calls that are no events, has it"
        calls: dict[int, Call] = {}
        no_events: list[int] = []
        left = CHANGES_MAX
        for told in self._told(asking, self._length[0]):
            changes = form.changes(
                (told.set, told.set_once, told.unset), (told.set_beside, told.set_once_beside, told.unset_beside)
            )
            if isinstance(changes, Refusal):
                return False
            left -= len(changes)
            if left < 0:
                return False
            call = _call(told, [] if told.denied else changes)
            if told.call in _WORDS:
                no_events.append(told.number)
            elif call is None or not call.traits:
                continue
            assert call is not None, "what is no event is a call, whoever it is of"
            calls[told.number] = call
        self.calls |= calls
        self.no_events.update(no_events)
        return True

    def _told(self, events: Any, count: int) -> list[_Told]:
        return _told(self._written(lib.pugd_plain_told(self._plain, events, count, self._length)))

    def key(self) -> str | None:
        """The write key that the body names which was added last."""
        text = lib.pugd_plain_key(self._plain, self._length, self._shape)
        return _text(text, self._length[0]) if text != ffi.NULL else None

    def shape(self) -> int:
        """SINGLE, BATCHED or LISTED: of the body that was added last."""
        lib.pugd_plain_key(self._plain, self._length, self._shape)
        return int(self._shape[0])

    def own(self, count: int, project: int, *, secret: bool = False) -> None:
        """The last `count` events are of this project. `secret`: a secret key sent them"""
        lib.pugd_plain_own(self._plain, count, project)
        for number in self._last(count):
            call = self.calls[number]
            call.project = project
            call.secret = secret and call.call != "event"  # what an event says of ids, a key does not back

    def _last(self, count: int) -> list[int]:
        """Which of the last `count` events have calls."""
        first = self.count - count
        return list(takewhile(lambda number: number >= first, reversed(self.calls))) if self.calls else []

    def drop(self, count: int) -> None:
        """Take the last `count` events back."""
        for number in self._last(count):
            del self.calls[number]
            self.no_events.discard(number)
        lib.pugd_plain_drop(self._plain, count)
        self.count -= count

    def most(self) -> int:
        """Bytes that the rows of all events take at most."""
        return int(lib.pugd_plain_most(self._plain))

    def event_keys(self) -> bytes:
        """MessagePack array: project, event id, occurred_at, name of each event."""
        return self._written(lib.pugd_plain_event_keys(self._plain, self._length))

    def ids(self) -> bytes:
        """MessagePack array: project, user id, anonymous id of each event."""
        return self._written(lib.pugd_plain_ids(self._plain, self._length))

    def event_id(self, index: int) -> str:
        event = lib.pugd_plain_at(self._plain, index)
        return _text(event.event_id, event.event_id_length)

    def asking(self, look: Sequence[int], leave_out: Sequence[int]) -> list[tuple[int, Call]]:
        """Which events, but those at `leave_out`, ask what, in order: `calls`, and at `look` what their ids prove,
        which is a call like identify, but public, whatever key sent it. A bot's prove nothing."""
        found = dict(self.calls)
        if evidence := [index for index in look if index not in found]:
            for told in self._told(ffi.new("uint32_t[]", evidence), len(evidence)):
                call = _call(told, [])
                if call is not None:
                    call.project = lib.pugd_plain_at(self._plain, told.number).project
                    found[told.number] = call
        for index in leave_out:
            found.pop(index, None)
        return sorted(found.items())

    def rows(self, actors: array[int], leave_out: list[int], old: list[int]) -> bytes:
        """The rows of all events but those at `leave_out`, and those that are none, in MessagePack, one after another.

        `old`  those whose rows are of old events (model.OLD_EVENT); both ascend
        """
        left = ffi.new("uint32_t[]", leave_out) if leave_out else ffi.NULL
        olds = ffi.new("uint32_t[]", old) if old else ffi.NULL
        return self._written(
            lib.pugd_plain_rows(
                self._plain, ffi.from_buffer("uint64_t[]", actors), left, len(leave_out), olds, len(old), self._length
            )
        )

    def _written(self, made: Any) -> bytes:
        if made == ffi.NULL:
            raise MemoryError("writing plain events")
        return _bytes(made, self._length[0])

    def reset(self) -> None:
        """Forget the events."""
        lib.pugd_plain_reset(self._plain)
        self._held.clear()
        self.count = 0
        if self.calls:
            self.calls.clear()
            self.no_events.clear()


def _agent(way: Way, user_agent: str) -> bytes:
    """What contexts are known by beside their bytes: all that is said beside them."""
    agent = user_agent.encode("utf-8", "surrogatepass") if user_agent else b""
    return agent + b"\0" + way.more.encode() if way.more else agent


def _call(told: _Told, changes: list[traits.Change]) -> Call | None:
    """None of a bot's event, which asks for nothing."""
    _, _, platform, _, bot, _ = _middle(b"\x96" + told.middle)
    if bot and told.call not in _WORDS:
        return None
    return Call(
        _WORDS.get(told.call, "event"), 0, False, told.event_id, told.user_id, told.anonymous_id, told.occurred_at,
        told.received_at, told.original_at, told.time_note, TRANSPORT, platform, changes,
        told.call not in _WORDS or bool(told.user_id),
    )  # fmt: skip


def _bytes(at: object, length: int) -> bytes:
    return bytes(ffi.buffer(at, length)) if length else b""


def _text(at: object, length: int) -> str:
    return _bytes(at, length).decode()
