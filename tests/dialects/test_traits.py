"""What events and identifies say of traits: each operation, what is wrong with one, and what of it is kept as sent."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from pugd import errors
from pugd.dialects import datagram, message, segment, traits
from pugd.dialects.dialect import Asked
from pugd.dialects.message import Decoded
from pugd.enrich import clock
from pugd.model import PARTS, Batch, Call, Refusal

NOW = 1_790_000_000_000


def take(body: Any, call: str = "batch", secret: bool = False) -> tuple[Batch, list[Refusal]]:
    decoded = segment.decode(body if isinstance(body, bytes) else json.dumps(body).encode(), Asked(call))
    assert isinstance(decoded, Decoded), decoded
    return read(decoded, secret)


def read(decoded: Decoded, secret: bool = False) -> tuple[Batch, list[Refusal]]:
    batch = Batch()
    numbers = itertools.count()
    refused = message.read(
        decoded, batch, project=7, secret=secret, received_at=NOW, transport="http", clock=clock,
        mint=lambda: f"minted-{next(numbers)}",
    )  # fmt: skip
    return batch, refused


def track(properties: object, **fields: object) -> dict[str, object]:
    return {"type": "track", "event": "e", "anonymousId": "a", "messageId": "m", "properties": properties, **fields}


def changed(batch: Batch, index: int = 0) -> list[tuple[str, str, bytes]]:
    return batch.calls[index].traits if index in batch.calls else []


def properties(batch: Batch, index: int = 0) -> Any:
    return json.loads(batch.parts[PARTS * index + 12])


EVERYTHING = {
    "$set": {"plan": "pro", "gone": None, "deep": {"a": [1, None]}},
    "$set_once": {"source": "ad", "$initial_gclid": None},
    "$add": {"visits": 1, "spent": -0.5, "nothing": None},
    "$unset": ["trial", "trial"],
    "path": "/pricing",
}
CHANGES = [
    ("plan", "set", b'"pro"'),
    ("gone", "unset", b""),
    ("deep", "set", b'{"a":[1,null]}'),
    ("source", "set_once", b'"ad"'),
    ("visits", "add", b"1"),
    ("spent", "add", b"-0.5"),
    ("trial", "unset", b""),
]


def dense(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


@pytest.mark.parametrize("kind", [{}, {"type": "page", "name": "n"}, {"type": "screen"}])
def test_an_event_changes_traits_and_keeps_its_properties(kind: dict[str, object]) -> None:
    batch, refused = take(dense({"batch": [track(EVERYTHING, userId="u", timestamp=NOW - 5, **kind)]}))
    assert refused == []
    assert changed(batch) == CHANGES
    assert properties(batch) == EVERYTHING
    call = batch.calls[0]
    assert (call.call, call.user_id, call.anonymous_id, call.event_id) == ("event", "u", "a", "m")
    assert (call.occurred_at, call.received_at, call.project, call.transport) == (NOW - 5, NOW, 7, "http")


def test_what_an_event_says_of_ids_is_public_even_with_a_secret_key() -> None:
    batch, _ = take({"batch": [track({"$set": {"a": 1}}, userId="u")]}, secret=True)
    assert batch.calls[0].secret is False
    batch, _ = take({"type": "identify", "userId": "u", "traits": {"a": 1}}, "identify", secret=True)
    assert batch.calls[0].secret is True


def test_a_datagram_changes_traits_too() -> None:
    (decoded,) = datagram.decode(
        dense({"writeKey": "k", "event": "e", "userId": "u", "properties": EVERYTHING}) + b"\n"
    )
    assert isinstance(decoded, Decoded)
    assert changed(read(decoded)[0]) == CHANGES


def test_an_identify_says_all_operations_among_its_traits() -> None:
    said = {**EVERYTHING, "plan": "free", "old": None}
    batch, refused = take(dense({"userId": "u", "traits": said}), "identify")
    assert refused == []
    sets = [("path", "set", b'"/pricing"'), ("plan", "set", b'"pro"'), ("old", "unset", b"")]
    assert sorted(changed(batch)) == sorted(sets + CHANGES[1:])


@pytest.mark.parametrize(
    "said",
    [
        {"a": {"$set": {"plan": "pro"}}},
        {"$settings": {"plan": "pro"}},
        {"$set": None, "$set_once": None, "$add": None, "$unset": None},
        {"$set": {}, "$set_once": {}, "$add": {}, "$unset": []},
        {"text": 'he said "$set": {'},
        {"$current_url": "/"},
    ],
)
def test_what_changes_no_trait_is_an_event_and_nothing_more(said: dict[str, object]) -> None:
    batch, refused = take({"batch": [track(said)]})
    assert (refused, batch.calls) == ([], {})
    assert properties(batch) == said


def test_a_group_never_changes_a_persons_traits() -> None:
    body = {
        "type": "group",
        "userId": "u",
        "groupId": "g",
        "traits": {"$set": {"plan": "pro"}},
        "properties": EVERYTHING,
    }
    batch, refused = take({"batch": [body]})
    assert (refused, batch.calls) == ([], {})


@pytest.mark.parametrize("key", ['"$set"', '"\\u0024set"', '"$\\u0073et"', '"\\u0024\\u0073\\u0065\\u0074"'])
def test_a_key_is_the_same_however_it_is_escaped(key: str) -> None:
    body = json.dumps({"batch": [track({"KEY": {"plan": "pro"}})]}).replace('"KEY"', key)
    batch, _ = take(body.encode())
    assert changed(batch) == [("plan", "set", b'"pro"')]


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"$set": 5}, "$set"),
        ({"$set": ["plan"]}, "$set"),
        ({"$set_once": "plan"}, "$set_once"),
        ({"$add": {"visits": "1"}}, "$add"),
        ({"$add": {"visits": True}}, "$add"),
        ({"$add": {"visits": {}}}, "$add"),
        ({"$add": 1}, "$add"),
        ({"$unset": "plan"}, "$unset"),
        ({"$unset": [5]}, "$unset"),
        ({"$unset": [None]}, "$unset"),
    ],
)
def test_what_is_wrong_refuses_its_event_alone(said: dict[str, object], field: str) -> None:
    good = track({"$set": {"a": 1}}, messageId="good")
    batch, (refusal,) = take({"batch": [good, track(said), good]})
    assert (refusal.code, refusal.field, refusal.index) == (errors.INVALID_FIELD, f"batch[1].properties.{field}", 1)
    assert batch.length == 2
    assert sorted(batch.calls) == [0, 1]
    _, (refusal,) = take({"userId": "u", "traits": said}, "identify")
    assert (refusal.code, refusal.field) == (errors.INVALID_FIELD, f"traits.{field}")


def test_bounds() -> None:
    many = {str(n): n for n in range(traits.TRAITS_MAX // 2)}
    batch, refused = take({"batch": [track({"$set": many, "$add": many})]})
    assert (len(changed(batch)), refused) == (traits.TRAITS_MAX, [])
    for said in (
        {"$set": many, "$add": many, "$unset": ["x"]},
        {"$unset": {**many, **{f"u{n}": 1 for n in range(501)}}},
    ):
        _, (refusal,) = take({"batch": [track(said)]})
        assert (refusal.code, refusal.field) == (errors.TOO_LARGE, "batch[0].properties")
    for said in ({"$set": {"k" * 513: 1}}, {"$unset": ["k" * 513]}):
        _, (refusal,) = take({"batch": [track(said)]})
        assert (refusal.code, refusal.field) == (errors.INVALID_FIELD, "batch[0].properties")
    assert len(changed(take({"batch": [track({"$set": {"k" * 512: 1}})]})[0])) == 1


def test_addresses_are_no_traits_and_are_not_kept() -> None:
    said = {"$set": {"$ip": "203.0.113.9", "zip": "8000"}, "$set_once": {"ip": "203.0.113.9"}, "$unset": ["ip"], "a": 1}
    batch, _ = take({"batch": [track(said)]})
    assert changed(batch) == [("zip", "set", b'"8000"')]
    assert properties(batch) == {"$set": {"zip": "8000"}, "$set_once": {}, "$unset": ["ip"], "a": 1}
    assert b"203.0.113" not in batch.parts[12]


def test_calls_stay_with_their_events_when_others_are_refused() -> None:
    batch, refused = take({"batch": [track({"$add": 1}), track({}), track({"$set": {"n": 1}}, messageId="third")]})
    assert len(refused) == 1
    assert [(index, call.event_id) for index, call in batch.calls.items()] == [(1, "third")]
    assert isinstance(batch.calls[1], Call)
