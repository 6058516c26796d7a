"""What an operator sees of refusals: each counted, few kept, nothing that gives anybody away, whatever is sent."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_limits import batch, sending

from pugd import refusals
from pugd.model import Refusal, WriteKey
from pugd.refusals import ALIKE_MS, KEPT, SAMPLE_MAX, UNKNOWN, Refusals, sample

NOW = 1_790_000_000_000
KEY = WriteKey(7, secret=False, id=3, name="shop")
WRONG = Refusal("missing_field", "event is missing", "batch[4].event", 4)


def note(one: Refusals, why: Refusal = WRONG, at: int = NOW, key: WriteKey | None = KEY, **more: str) -> None:
    one.note(
        why, at, key=key, dialect="segment", path=more.get("path", "/v1/batch"), body=more.get("body", "").encode()
    )


def test_what_is_alike_is_one_entry_with_a_count() -> None:
    known = Refusals()
    for number in range(1_000):
        note(known, Refusal("missing_field", "event is missing", f"batch[{number}].event", number), NOW + number)
    found = known.find(7)
    [entry] = found.refusals
    assert (entry.count, entry.field, entry.key, entry.key_name) == (1_000, "batch[].event", 3, "shop")
    assert found.counts == {"missing_field": 1_000}
    note(known, at=NOW + ALIKE_MS)
    assert len(known.find(7).refusals) == 2


def test_projects_see_their_own_and_unknown_keys_are_nobodys() -> None:
    known = Refusals()
    note(known)
    note(known, Refusal("invalid_key", "unknown write key"), key=None)
    assert [one.code for one in known.find(7).refusals] == ["missing_field"]
    assert [one.code for one in known.find(UNKNOWN).refusals] == ["invalid_key"]
    assert known.find(8) == refusals.Found([], {}, None)


def test_pages_are_newest_first_and_by_code() -> None:
    known = Refusals()
    for number in range(10):
        note(known, Refusal(f"code_{number % 2}", "m", f"f{number}"), NOW + number)
    first = known.find(7, limit=4)
    assert [one.field for one in first.refusals] == ["f9", "f8", "f7", "f6"]
    rest = known.find(7, limit=20, before=first.next)
    assert [one.field for one in rest.refusals] == ["f5", "f4", "f3", "f2", "f1", "f0"]
    assert rest.next is None
    assert [one.field for one in known.find(7, "code_1").refusals] == ["f9", "f7", "f5", "f3", "f1"]


def test_memory_is_bounded_whatever_is_refused() -> None:
    known = Refusals()
    for number in range(20_000):
        why = Refusal("c", "m" * 10_000, f"field_{number}" + "f" * 10_000)
        note(known, why, NOW + number, path=f"/{number}" + "p" * 10_000, body=json.dumps({"x": "y" * 50_000}))
    found = known.find(7, limit=10_000_000)
    assert len(found.refusals) == KEPT
    assert found.counts == {"c": 20_000}
    assert sum(sys.getsizeof(getattr(one, name)) for one in found.refusals for name in one.__struct_fields__) < 3 << 20


@pytest.mark.parametrize(
    "secret",
    ["pub_abcdefghij", "prv_abcdefghij", "192.168.17.4", "2001:db8:17::42", "ada@example.com", "hunter2", "+49170123"],
)
def test_a_sample_gives_nobody_away(secret: str) -> None:
    event = {
        "type": "track", "writeKey": "pub_abcdefghij", "properties": {"note": f"see {secret} there", secret: 1},
        "context": {
            "ip": "192.168.17.4", "traits": {"email": "ada@example.com", "password": "hunter2", "phone": "+49170123"},
        },
    }  # fmt: skip
    if secret in ("hunter2", "+49170123"):
        event["properties"] = {}
    body = json.dumps({"writeKey": "pub_abcdefghij", "batch": [{"type": "x"}, event]})
    for text in (body, body[:-3], json.dumps(event)):
        shown = sample(text.encode(), 1)
        assert shown
        assert secret not in shown
    assert '"type":"track"' in sample(body.encode(), 1)


@given(st.binary(max_size=3_000), st.none() | st.integers(0, 5))
def test_any_body_has_a_short_sample(body: bytes, index: int | None) -> None:
    assert len(sample(body, index)) <= SAMPLE_MAX + 1


async def test_what_the_collector_refuses_is_noted_with_its_key_and_path() -> None:
    async with sending() as sender:
        assert (await sender.post("/v1/batch", {"batch": [{"type": "track", "anonymousId": "a"}]}, "free"))[0] == 400
        assert (await sender.post("/v1/batch", batch(1), "wrong"))[0] == 401
        assert (await sender.post("/v1/batch", batch(1), "wrong"))[0] == 401
        assert (await sender.post("/v1/batch", {**batch(1), "writeKey": "pub_wrongwrong"}))[0] == 401
        assert (await sender.post("/v1/batch", b"\x1f\x8bbroken", "free"))[0] == 400
        assert (await sender.post("/e", {"api_key": "free", "event": "e"}))[0] == 400
        sender.datagram({"writeKey": "free", "anonymousId": "a"})
        while not sender.world.accept.statistics().datagrams_refused:
            await sender.post("/v1/batch", {"batch": []}, "free")
        known = sender.world.accept.refusals
        own = known.find(1)
        assert [(one.code, one.dialect, one.path, one.key) for one in reversed(own.refusals)] == [
            ("missing_field", "segment", "/v1/batch", 1),
            ("invalid_request", "segment", "/v1/batch", 1),
            ("missing_field", "posthog", "/e", 1),
            ("missing_field", "datagram", "", 1),
        ]
        assert own.refusals[-1].sample == '{"type":"track","anonymousId":"a"}'
        unknown = known.find(UNKNOWN)
        assert unknown.counts == {"invalid_key": 3}
        assert "wrong" not in "".join(one.sample for one in unknown.refusals)
