"""Large bodies over the real edge and into a real journal: taken whole, told of rightly, and in nobody's way."""

from __future__ import annotations

import base64
import gzip
import json
import time
from typing import Any

import trio
from dialects import wire
from running_edge import Client
from test_limits import Sender, sending

from pugd.model import WriteKey

HOLD_S_MAX = 0.25
"""On a machine of its own; tests share theirs, so they allow a multiple."""
SLACK = 4


def tracks(count: int, padding: int = 0, **more: object) -> list[dict[str, object]]:
    return [
        {"type": "track", "event": f"e{number}", "anonymousId": "a", "messageId": f"m{number}",
         "properties": {"p": "x" * padding}, **more}
        for number in range(count)
    ]  # fmt: skip


def watched(sender: Sender) -> list[float]:
    """How long each wake-up held the loop, s; as they come."""
    held: list[float] = []
    handle = sender.edge._handle

    def timed(*given: Any) -> None:
        begun = time.perf_counter()
        handle(*given)
        held.append(time.perf_counter() - begun)

    sender.edge._handle = timed
    return held


async def test_a_body_of_20_mib_is_kept_whole_in_order_and_nobody_waits_for_it() -> None:
    events = tracks(20_000, 1_000, context={"library": {"name": "analytics.js"}})
    events[0]["properties"] = {"$set": {"plan": "pro"}}  # so it is not plain, which would be taken at once
    body = json.dumps({"batch": events}).encode()
    assert len(body) > 20 << 20
    packed = gzip.compress(body, 1)
    async with sending(pending_bytes_max=1 << 28) as sender:
        held = watched(sender)
        beside: list[int] = []

        async def small() -> None:
            while True:
                status, _, _ = await sender.post("/v1/track", {"event": "small", "anonymousId": "b"}, "free")
                beside.append(status)
                await trio.sleep(0.005)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(small)
            found = await sender.post("/v1/batch", packed, "free", **{"Content-Encoding": "gzip"})
            nursery.cancel_scope.cancel()
        assert (found[0], found[2]) == (200, b'{"success":true}')
        names = sender.names()
        assert [name for name in names if name != "small"] == [f"e{number}" for number in range(20_000)]
        between = names[names.index("e0") : names.index("e19999")].count("small")
        assert between, "others are served between its pieces"
        assert set(beside) == {200}
        assert max(held) < SLACK * HOLD_S_MAX
        # Sent again, all of it counts once.
        again = await sender.post("/v1/batch", packed, "free", **{"Content-Encoding": "gzip"})
        assert again[0] == 200
        assert len([name for name in sender.names() if name != "small"]) == 20_000


async def test_hundreds_of_thousands_of_tiny_events_hold_nobody_up() -> None:
    async with sending(pending_bytes_max=1 << 28) as sender:
        held = watched(sender)
        one = b'{"event":"a","distinct_id":"b"}'
        for count, wanted in ((400_000, 413), (50_000, 200)):
            body = b'{"api_key":"free","batch":[' + b",".join([one] * count) + b"]}"
            status, _, told = await sender.post("/batch", body)
            assert status == wanted, told
            if wanted == 413:
                assert json.loads(told)["code"] == "too_large"
                assert "50000 events" in json.loads(told)["detail"]
        for body in (b"[" + b"1," * 8_000_000 + b"1]", b'{"x":{},"batch":[' + b"{}," * 4_000_000 + b"{}]}"):
            assert (await sender.post("/batch", body))[0] in (400, 401, 413)
        assert max(held) < SLACK * HOLD_S_MAX
        assert len(sender.names()) == 50_000


async def test_refusals_say_where_in_the_whole_body() -> None:
    events = tracks(3_000, 100)
    del events[1_500]["event"]
    events[2_999]["type"] = "trak"
    events[2_000] = 7  # type: ignore[call-overload]
    async with sending() as sender:
        status, _, told = await sender.post("/v1/batch", {"batch": events}, "free")
        assert status == 200
        said = json.loads(told)
        assert said["accepted"] == 2_997
        assert [(one["index"], one["field"]) for one in said["refused"]] == [
            (1_500, "batch[1500].event"), (2_000, "batch[2000]"), (2_999, "batch[2999].type"),
        ]  # fmt: skip


async def test_amplitudes_answer_counts_the_whole() -> None:
    events = [
        {
            "event_type": f"e{number}",
            "user_id": "user-1",
            "insert_id": f"i{number}",
            "event_properties": {"p": "x" * 200},
        }
        for number in range(2_500)
    ]
    async with sending() as sender:
        status, _, told = await sender.post("/2/httpapi", {"api_key": "free", "events": events})
        assert status == 200
        assert json.loads(told)["events_ingested"] == 2_500
        assert len(sender.names()) == 2_500


async def test_a_large_batch_of_protobuf_is_taken_in_pieces() -> None:
    path, key = "/sdk.events.v1.EventsService/BatchCreate", {"X-Api-Key": "free", "Content-Type": "application/proto"}
    events = [wire.event(f"i{number}", "u", f"e{number}", custom={"p": "x" * 200}) for number in range(5_000)]
    events[1_500] = wire.event("i", "", "e")
    async with sending(pending_bytes_max=1 << 28) as sender:
        held = watched(sender)
        status, _, told = await sender.post(path, wire.batch(*events), **key)
        assert (status, told) == (200, b"\x08\x87\x27\x10\x01\x1a\x11\x0a\x0dmissing_field\x10\x01"), "4999 and 1"
        assert sender.names() == [f"e{number}" for number in range(5_000) if number != 1_500]
        # Bytes of which much could be made: the least events, fields of none, one event of nothing but fields.
        for body in (b"\x0a\x00" * 4_000_000, b"\x10\x00" * 4_000_000, wire.block(1, b"\x48\x00" * 4_000_000)):
            status, _, told = await sender.post(path, body, **key)
            assert (status, json.loads(told)["code"]) == (413, "invalid_argument")
        assert max(held) < SLACK * HOLD_S_MAX


async def test_a_wrong_key_takes_nothing_and_a_second_one_only_its_own() -> None:
    async with sending() as sender:
        body = {"batch": tracks(3_000, 100), "writeKey": "wrong"}
        assert (await sender.post("/v1/batch", body))[0] == 401
        assert sender.names() == []
        # PostHog's list has a key in each event; those of another project are not put into the first one's.
        sender.gate.replace({"one": WriteKey(1, secret=False, id=1), "two": WriteKey(2, secret=False, id=2)})
        events = [
            {
                "api_key": "one" if number < 1_500 else "two",
                "event": "e",
                "distinct_id": "a",
                "properties": {"p": "x" * 200},
            }
            for number in range(3_000)
        ]
        status, _, told = await sender.post("/e", events)
        assert status == 200
        said = json.loads(told)
        assert said["accepted"] + len(said["refused"]) == 3_000 or len(said["refused"]) == 1_000
        assert {one["code"] for one in said["refused"]} == {"invalid_key"}
        assert len(sender.names()) == said["accepted"] < 3_000


async def test_a_journal_that_fills_in_the_middle_asks_for_all_of_it_again() -> None:
    events = tracks(8_000, 400, context={"library": {"name": "x"}})
    async with sending(bytes_max=1 << 22) as sender:
        status, headers, _ = await sender.post("/v1/batch", {"batch": events}, "free")
        assert status == 503
        assert int(headers["retry-after"]) >= 2
        names = sender.names()
        assert names == [f"e{number}" for number in range(len(names))], "what is kept is kept in order, each once"


async def test_a_days_quota_lets_a_body_in_whole_or_not_at_all() -> None:
    async with sending() as sender:
        sender.gate.replace({"daily": WriteKey(1, secret=False, id=1, per_day=100)})
        events = [{**one, "context": {"a": 1}, "properties": {"p": "x" * 200}} for one in tracks(2_000)]
        for key in ("daily", ""):
            body = {"batch": events, **({} if key else {"writeKey": "daily"})}
            status, _, _ = await sender.post("/v1/batch", body, key)
            assert status == (200 if key else 429)
        assert sender.gate.usage()[1].today == 2_000


async def test_a_body_that_breaks_off_is_refused_whole() -> None:
    body = json.dumps({"batch": tracks(3_000, 100)}).encode()[:-2]
    async with sending() as sender:
        status, _, told = await sender.post("/v1/batch", body, "free")
        assert status == 400
        assert json.loads(told)["code"] == "invalid_json"
        assert sender.names() == []


async def test_answers_keep_the_order_of_their_requests() -> None:
    large = json.dumps({"batch": tracks(3_000, 100, context={"a": 1})}).encode()
    small = json.dumps({"event": "small"}).encode()  # without an id: 400
    authorization = b"Authorization: Basic " + base64.b64encode(b"free:") + b"\r\n"
    async with sending() as sender:
        sock = trio.socket.socket()
        await sock.connect(sender.listener.getsockname())
        client = Client(sock)
        for path, body in ((b"/v1/batch", large), (b"/v1/track", small)):
            head = b"POST %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n" % (path, authorization, len(body))
            await client.send(head + body)
        assert [(await client.answer())[0] for _ in range(2)] == [200, 400]
        sock.close()


async def test_more_than_may_wait_is_told_to_come_again() -> None:
    body = json.dumps({"batch": tracks(20_000, 400, context={"a": 1})}).encode()
    statuses: list[int] = []
    async with sending(pending_bytes_max=1 << 28) as sender:

        async def post() -> None:
            statuses.append((await sender.post("/v1/batch", body, "free"))[0])

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(post)
        assert set(statuses) == {200, 503}
        assert len(set(sender.names())) == 20_000
