"""Mixpanel: what its libraries send, byte for byte, what each call means, and what each library reads of an answer."""

from __future__ import annotations

import base64
import itertools
import json
from typing import Any
from urllib.parse import quote_plus, urlencode

import msgspec
import pytest
from dialects.understood import NOW, Understood, understood
from hypothesis import given
from hypothesis import strategies as st

from pugd import errors
from pugd.dialects import mixpanel, posthog
from pugd.dialects.dialect import Asked, Reply
from pugd.dialects.known import DIALECTS, chosen
from pugd.edge import form, routes
from pugd.identity.graph import Graph
from pugd.identity.rules import IllegalIds, Proposal, propose
from pugd.model import Ack, Refusal

TOKEN = "pub_token"
QUIET = Asked("track", query=b"ip=0&verbose=0")
VERBOSE = Asked("track", form={"verbose": "1", "ip": "0"})


def sent(path: str, body: bytes = b"", query: bytes = b"", content_type: str = "") -> tuple[bytes, Asked]:
    """A request as it reaches the dialect."""
    found = routes.look_up(path)
    assert found is not None
    assert found.route.handler == "mixpanel"
    asked = Asked(found.route.call, query, content_type=content_type)
    data = body if form.is_form(body) else query if not body and b"data=" in query else b""
    if data:
        body, fields = form.opened(data)
        asked = msgspec.structs.replace(asked, form=fields)
    assert chosen("mixpanel", found.route.others, body, asked) is mixpanel
    return body, asked


def take(body: Any, asked: Asked = QUIET, *, secret: bool = False) -> Understood:
    return understood(mixpanel, body, asked, secret=secret)


def event(name: Any = "scroll", **properties: Any) -> dict[str, Any]:
    said = {"token": TOKEN, "distinct_id": "d-1", **properties}
    return {"event": name, "properties": {key: value for key, value in said.items() if value is not None}}


def one(name: Any = "scroll", asked: Asked = QUIET, **properties: Any) -> Understood:
    return take(event(name, **properties), asked)


def engage(**operations: Any) -> Understood:
    said = {"$token": TOKEN, "$distinct_id": "u-1", **{f"${name}": value for name, value in operations.items()}}
    return take({key: value for key, value in said.items() if value is not None}, Asked("engage"))


def group(**operations: Any) -> Understood:
    said = {"$token": TOKEN, "$group_key": "company", "$group_id": "acme", **operations}
    return take(said, Asked("groups"))


# ---- as libraries send it


def test_node_sends_one_call_by_get() -> None:
    query = (
        b"ip=0&verbose=0&data=eyJldmVudCI6InBsYXllZF9nYW1lIiwicHJvcGVydGllcyI6eyJkaXN0aW5jdF9pZCI6IjEzNzkzIiwibGV2ZWwi"
        b"OjMsInRva2VuIjoicHViX3Rva2VuIiwibXBfbGliIjoibm9kZSIsIiRsaWJfdmVyc2lvbiI6IjAuMjQuMCJ9fQ%3D%3D"
    )
    taken = take(*sent("/track", query=query))
    assert (taken.key, taken.refused, taken.reply.body) == (TOKEN, [], b"1")
    row = taken.event()
    assert (row["event"], row["call"], row["user_id"], row["anonymous_id"]) == ("played_game", "track", "", "13793")
    assert (row["event_id"], row["occurred_at"], row["library"]) == ("minted-0", NOW, "mixpanel-node")
    assert row["platform"] == "server"
    assert row["properties"] == {"distinct_id": "13793", "level": 3, "mp_lib": "node", "$lib_version": "0.24.0"}


def test_node_sends_batches_as_raw_base64() -> None:
    events = [event("a?>~", time=NOW + 1, text="\u00ff\u00fe?>"), event("b", time=NOW)]
    body = b"data=" + base64.b64encode(json.dumps(events, ensure_ascii=False).encode())
    assert b"+" in body, "the case that forms spoil"
    taken = take(*sent("/track/", body, b"ip=0&verbose=0", "application/x-www-form-urlencoded"))
    assert (taken.key, taken.reply.body, taken.batch.length) == (TOKEN, b"1", 2)
    assert taken.event(0)["event"] == "a?>~"
    assert taken.event(0)["properties"]["text"] == "\u00ff\u00fe?>"
    assert [taken.event(number)["occurred_at"] for number in (0, 1)] == [NOW + 1, NOW]


def test_python_sends_forms_and_wants_an_object() -> None:
    said = event("visit", time=NOW / 1000, **{"$insert_id": "5c6f", "mp_lib": "python", "$lib_version": "5.4.1"})
    body = urlencode({"data": json.dumps(said, separators=(",", ":")), "verbose": 1, "ip": 0}).encode()
    taken = take(*sent("/track", body, content_type="application/x-www-form-urlencoded"))
    assert taken.reply == Reply(200, b'{"status":1,"error":null}')
    row = taken.event()
    assert (row["event_id"], row["occurred_at"], row["time_note"]) == ("5c6f", NOW, "")
    assert row["library"] == "mixpanel-python"
    assert json.loads(json.dumps(row["properties"]))["distinct_id"] == "d-1"


def test_python_imports_with_a_key_in_the_form() -> None:
    body = urlencode({"data": json.dumps([event(time=1_600_000_000)]), "verbose": 1, "ip": 0, "api_key": "prv_k"})
    taken = take(*sent("/import", body.encode(), b"project_id=12"))
    assert (taken.key, taken.told) == ("prv_k", {"status": 1, "error": None})
    assert taken.event()["occurred_at"] == 1_600_000_000_000


def test_the_browser_sends_lists_in_forms() -> None:
    said = event("$mp_web_page_view", mp_lib="web", time=NOW / 1000, **{
        "$insert_id": "i1", "$device_id": "dev", "distinct_id": "$device:dev", "$os": "Linux", "$browser": "Firefox",
        "$current_url": "https://shop.example/a?b=1", "current_url_path": "/a", "current_page_title": "A",
        "$referrer": "$direct", "utm_source": "news", "$screen_width": 1920, "$screen_height": 1080,
    })  # fmt: skip
    taken = take(
        *sent("/track/", b"data=" + quote_plus(json.dumps([said])).encode(), b"verbose=1&ip=1&_=1790000000000")
    )
    assert taken.told == {"status": 1, "error": None}
    row = taken.event()
    assert (row["call"], row["event"]) == ("page", "$mp_web_page_view")
    assert (row["user_id"], row["anonymous_id"], row["platform"]) == ("", "dev", "web")
    assert (row["url"], row["path"], row["title"], row["referrer"]) == ("https://shop.example/a?b=1", "/a", "A", "")
    assert row["context"]["os"] == {"name": "Linux"}
    assert row["context"]["campaign"] == {"source": "news"}
    assert row["context"]["screen"] == {"width": 1920, "height": 1080}
    assert row["context"]["device"] == {"id": "dev"}
    assert "token" not in row["properties"]


@pytest.mark.parametrize("lines", ["%s\n%s", "%s\n%s\n", "\n%s \r\n\n %s"])
def test_import_takes_lines(lines: str) -> None:
    text = lines % tuple(json.dumps(event(name, nested={"a": {}}), indent=2) for name in "ab")
    taken = take(*sent("/import", text.encode(), content_type="application/x-ndjson"))
    assert [taken.event(number)["event"] for number in (0, 1)] == ["a", "b"]
    assert taken.told == {"code": 200, "num_records_imported": 2, "status": "OK"}


@pytest.mark.parametrize("path", ["/track", "/engage", "/import", "/groups"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_every_path_takes_every_form(path: str, slash: str) -> None:
    said: Any = event(time=1)
    if path in ("/engage", "/groups"):
        said = {"$token": TOKEN, "$distinct_id": "u", "$group_key": "k", "$group_id": "g", "$set": {"a": 1}}
    text = json.dumps(said).encode()
    packed = base64.b64encode(text)
    bodies = [
        (text, b""), (b"[%s]" % text, b""), (b" \n[%s]" % text, b"verbose=0"), (b"data=" + packed, b""),
        (b"data=" + quote_plus(text).encode(), b""), (b"ip=0&data=" + quote_plus(packed).encode() + b"&verbose=0", b""),
        (b"", b"data=" + packed), (b"", b"verbose=0&data=" + quote_plus(text).encode()),
    ]  # fmt: skip
    ids = set()
    for body, query in bodies:
        taken = take(*sent(path + slash, body, query))
        assert (taken.key, taken.refused, taken.batch.length) == (TOKEN, [], 1)
        assert taken.reply.status == 200
        ids.add(taken.batch.event_keys[1] if path in ("/track", "/import") else "")
        if path != "/import":
            assert taken.reply.body == b"1"
    assert len(ids) == 1, "one event however it was wrapped"


# ---- whose path it is


@pytest.mark.parametrize("path", ["/track", "/engage"])
def test_posthog_on_the_same_paths(path: str) -> None:
    found = routes.look_up(path)
    assert found is not None
    route = found.route
    asked = Asked(route.call)
    theirs = {"event": "e", "distinct_id": "d", "uuid": "u-1"}
    for said in (
        {"api_key": TOKEN, "batch": [theirs]}, {"batch": [theirs | {"api_key": TOKEN}]}, {**theirs, "api_key": TOKEN},
        {**theirs, "token": TOKEN}, [{**theirs, "api_key": TOKEN}], [theirs, {**theirs, "token": TOKEN}],
    ):  # fmt: skip
        body = json.dumps(said).encode()
        assert chosen(route.handler, route.others, body, asked) is posthog, said
        taken = understood(posthog, body, asked)
        assert (taken.event()["event"], taken.reply.body) == ("e", b'{"status":1}')
    for said in (
        event(api_key="a property", batch=[1]), [event(token=TOKEN, api_key=1)],
        {"$token": TOKEN, "$set": {"token": 1}}, [], {}, 5, None, ["token"], "api", [event(), event(batch=1)],
    ):  # fmt: skip
        assert chosen(route.handler, route.others, json.dumps(said).encode(), asked) is mixpanel, said


@given(
    st.binary(max_size=60)
    | st.sampled_from([b'{"token":' * 3000, b'["token"' + b"[" * 3000, b'{"a":' * 9000 + b'"token"'])
)
def test_whose_it_is_can_be_asked_of_any_bytes(body: bytes) -> None:
    for around in (b"%s", b'{"api_key":%s', b'[{"token":"\xff"},%s', b'{"batch":"\\ud800"%s'):
        assert chosen("mixpanel", ("posthog",), around % body, QUIET) in DIALECTS.values()


# ---- who


@pytest.mark.parametrize(
    ("said", "user", "anonymous"),
    [
        ({"distinct_id": "d"}, "", "d"),
        ({"distinct_id": 42}, "", "42"),
        ({"distinct_id": 42.0}, "", "42"),
        ({"distinct_id": "$device:d"}, "", "d"),
        ({"distinct_id": "$device:d", "$device_id": "d"}, "", "d"),
        ({"distinct_id": "d", "$device_id": "d"}, "", "d"),
        ({"distinct_id": None, "$device_id": "d"}, "", "d"),
        ({"distinct_id": "u", "$device_id": "d"}, "u", ""),
        ({"distinct_id": "u", "$device_id": "d", "$had_persisted_distinct_id": True}, "", "u"),
        ({"distinct_id": "u", "$device_id": "d", "$user_id": "u"}, "u", "d"),
        ({"distinct_id": "$device:d", "$device_id": "d", "$user_id": "u"}, "u", "d"),
        ({"distinct_id": None, "$device_id": "$device:d", "$user_id": 7}, "7", "d"),
        ({"distinct_id": "d", "$user_id": "u"}, "u", ""),
        ({"distinct_id": "d", "$user_id": ""}, "", "d"),
        ({"distinct_id": "d", "$user_id": True}, "", "d"),
    ],
)
def test_who_it_was(said: dict[str, Any], user: str, anonymous: str) -> None:
    row = one(**said).event()
    assert (row["user_id"], row["anonymous_id"]) == (user, anonymous)


@pytest.mark.parametrize(
    "said",
    [
        {"$identified_id": "u", "$anon_id": "d"},
        {"$identified_id": "u", "$anon_id": "$device:d"},
        {"distinct_id": "u", "$anon_distinct_id": "d"},
        {"distinct_id": "u", "$anon_distinct_id": "$device:d", "$user_id": "u", "$device_id": "d"},
        {"distinct_id": "$device:d", "$user_id": "u", "$device_id": "d"},
    ],
)
def test_identify(said: dict[str, Any]) -> None:
    call = one("$identify", **said).call
    assert (call.call, call.user_id, call.anonymous_id, call.is_user) == ("identify", "u", "d", True)


def test_identify_of_one_id_links_nothing() -> None:
    call = one("$identify", **{"$identified_id": "u", "$anon_id": "u"}).call
    assert (call.user_id, call.anonymous_id) == ("u", "")
    [refusal] = one("$identify", distinct_id="$device:d").refused
    assert (refusal.code, refusal.field) == (errors.MISSING_FIELD, "properties.$identified_id")


def test_alias_and_merge_prove_neither_id() -> None:
    for taken in (
        one("$create_alias", distinct_id="old", alias="new"),
        one("$merge", distinct_id=None, **{"$distinct_ids": ["old", "new"]}),
        one("$merge", distinct_id=None, **{"$distinct_ids": ["$device:old", "new"]}),
    ):
        call = taken.call
        # Of an alias the second id is the previous one (model.Call).
        assert (call.call, {call.user_id, call.anonymous_id}) == ("alias", {"old", "new"})
        assert (call.is_user, call.secret) == (False, False)
    assert take(event("$create_alias", alias="new"), secret=True).call.secret
    assert one("$create_alias").refused[0].field == "properties.alias"
    assert one("$create_alias", distinct_id=None, alias="a").refused[0].field == "properties.distinct_id"
    for ids in ([], ["a"], ["a", "b", "c"], ["a", ""], ["a", None], [[], {}], "ab", None):
        assert one("$merge", **{"$distinct_ids": ids}).refused[0].field == "properties.$distinct_ids"


STORY: tuple[tuple[str, Any], ...] = (
    ("track", event("visit", distinct_id="anon")),
    ("track", event("$create_alias", distinct_id="anon", alias="user")),
    ("track", event("order", distinct_id="user")),
    ("engage", {"$token": TOKEN, "$distinct_id": "user", "$set": {"plan": "pro"}}),
    ("track", event("phone", distinct_id="$device:d2", **{"$device_id": "d2"})),
    ("track", event("open", distinct_id="user", **{"$device_id": "d2", "$user_id": "user"})),
)


def persons(calls: Any) -> list[set[str]]:
    """Who is one person once the rules have judged these bodies, one after the other."""
    graph, ids = Graph(b"k" * 16), set[str]()
    for path, said in calls:
        taken = take(said, Asked(path))
        assert taken.refused == []
        user, anonymous = taken.batch.ids[1:3]
        ids |= {one for one in (user, anonymous) if one}
        for call in taken.batch.calls.values():
            kind = "user" if call.call == "traits" else call.call
            ends = (user, "") if kind == "user" else (anonymous, user)
            if any(ends):
                outcome = propose(graph, Proposal(7, kind, *ends, call.secret, call.is_user), IllegalIds())
                assert not outcome.refused, (call, outcome)
        if not taken.batch.calls and user:
            outcome = propose(graph, Proposal(7, "event", anonymous, user), IllegalIds())
            assert not outcome.refused, (said, outcome)
    together: dict[int, set[str]] = {}
    for one_id in ids:
        together.setdefault(graph.find(graph.actor(7, one_id)), set()).add(one_id)
    return sorted(together.values(), key=sorted)


def test_a_person_is_the_same_in_whatever_order_calls_come() -> None:
    for calls in itertools.permutations(STORY):
        assert persons(calls) == [{"anon", "user", "d2"}]


def test_a_device_that_two_share_makes_them_no_one_person() -> None:
    taken = [one(distinct_id=user, **{"$device_id": "shared", "$user_id": user}) for user in ("u-1", "u-2")]
    graph = Graph(b"k" * 16)
    outcomes = [propose(graph, Proposal(7, "event", *call.batch.ids[2:0:-1]), IllegalIds()) for call in taken]
    assert [outcome.refused for outcome in outcomes] == ["", errors.BOTH_IDENTIFIED]


# ---- times and ids


@pytest.mark.parametrize(
    ("said", "occurred", "note"),
    [
        (NOW, NOW, ""),
        (NOW / 1000, NOW, ""),
        (NOW // 1000, NOW, ""),
        (str(NOW // 1000), NOW, ""),
        (f"{NOW / 1000:.3f}", NOW, ""),
        ("2024-01-15T10:00:00Z", 1_705_312_800_000, ""),
        (1_600_000_000, 1_600_000_000_000, ""),
        (None, NOW, ""),
        ("", NOW, ""),
        ("soon", NOW, "unreadable"),
        (NOW * 2, NOW, "future"),
        ([1], NOW, ""),
    ],
)
def test_times_stand_as_they_were_said(said: Any, occurred: int, note: str) -> None:
    row = one(time=said).event()
    assert (row["occurred_at"], row["time_note"]) == (occurred, note)
    assert engage(time=said, set={"a": 1}).call.occurred_at == occurred


def test_an_event_without_an_id_is_named_by_what_it_says_where_it_has_a_time() -> None:
    def named(said: dict[str, Any], **how: Any) -> str:
        return str(take(json.dumps(said, **how).encode()).event()["event_id"])

    first = event(time=NOW, text="\u00e4", number=1.50, deep={"b": [1, {"c": 2}], "a": 0})
    again = dict(reversed(first.items())) | {"properties": dict(reversed(first["properties"].items()))}
    assert named(first) == named(again) == named(again, indent=1) == named(first, ensure_ascii=False)
    assert named(first).startswith("mp-")
    for other in (event("e", time=NOW), event(time=NOW + 1), event(time=NOW, distinct_id="d-2"), event(time=NOW, a=2)):
        assert named(other) != named(event(time=NOW))
    assert named(event()) == "minted-0"
    assert named(event(time=NOW, **{"$insert_id": "i"})) == "i"
    # In a batch in which something is wrong, events are read one by one; they are the same events.
    broken = b'[%s,{"event":"e","properties":{"a":1e400}}]' % json.dumps(first, indent=1).encode()
    assert take(broken).event()["event_id"] == named(first)
    assert engage(time=NOW, set={"a": 1}).call.event_id == engage(time=NOW, set={"a": 1}, ip="1").call.event_id
    assert engage(time=NOW, set={"a": 1}).call.event_id != engage(time=NOW, set={"a": 2}).call.event_id
    assert engage(set={"a": 1}).call.event_id == "minted-0"


def test_numbers_of_any_length_are_named_too() -> None:
    text = b'{"event":"e","properties":{"distinct_id":"d","time":1,"n":%s,"f":1e308}}' % (b"9" * 300)
    assert take(text).event()["event_id"].startswith("mp-")


@pytest.mark.parametrize(
    "text",
    [
        '{"token":"T","a":1,"distinct_id":"d"}',
        '{"a":1,"token":"T","distinct_id":"d"}',
        '{"distinct_id":"d","token":"T"}',
        '{ "token" : "T" , "distinct_id":"d"}',
        '{"token":"T","distinct_id":"d","deep":{"token":"T","b":1}}',
        '{"deep":{"token":"T","b":1},"distinct_id":"d"}',
        '{"\\u0074oken":"T","distinct_id":"d","a\\"token":"T","b":1}',
        '{"token":"T\\"","distinct_id":"d","x":"\\"token\\":\\"T\\",\\"y"}',
        '{"token":"\u00fc\\u0000","distinct_id":"d"}',
        '{"token":7,"distinct_id":"d"}',
        '{"distinct_id":"d","a":"{\\"token\\"","b":",token","c":"token"}',
    ],
)
def test_the_token_is_no_property(text: str) -> None:
    expected = json.loads(text)
    expected.pop("token", None)
    assert take(b'{"event":"e","properties":%s}' % text.encode()).event()["properties"] == expected


# ---- traits and groups


def test_traits() -> None:
    plain = {"$email": "a@b.example", "gone": None, "$ip": "203.0.113.9"}
    call = engage(set=plain, set_once={"first": 1}, ip="203.0.113.9", add={"visits": 2}, unset=["trial"]).call
    assert (call.call, call.user_id, call.anonymous_id) == ("traits", "u-1", "")
    assert sorted(call.traits) == [
        ("$email", "set", b'"a@b.example"'), ("first", "set_once", b"1"), ("gone", "unset", b""),
        ("trial", "unset", b""), ("visits", "add", b"2"),
    ]  # fmt: skip
    for said, user, anonymous in (
        ({"distinct_id": "$device:d"}, "", "d"),
        ({"distinct_id": "d", "device_id": "d"}, "", "d"),
        ({"distinct_id": "u", "device_id": "d", "user_id": "u"}, "u", ""),
    ):
        call = engage(set={"a": 1}, **said).call
        assert (call.user_id, call.anonymous_id) == (user, anonymous)


@pytest.mark.parametrize("name", ["append", "union", "remove", "delete"])
def test_what_traits_cannot_mean_is_refused_by_name_and_takes_no_other_with_it(name: str) -> None:
    value: Any = "" if name == "delete" else {"list": [1]}
    good = {"$token": TOKEN, "$distinct_id": "u", "$set": {"a": 1}}
    bad = {"$token": TOKEN, "$distinct_id": "u", f"${name}": value, "$set": {"b": 1}}
    taken = take([good, bad, good], Asked("engage", form={"verbose": "1"}))
    [refusal] = taken.refused
    assert (refusal.code, refusal.index, refusal.field) == (errors.INVALID_FIELD, 1, f"[1].${name}")
    assert taken.batch.length == 2
    assert [call.traits for call in taken.batch.calls.values()] == [[("a", "set", b"1")]] * 2
    assert taken.told["status"] == 1
    assert taken.told["refused"][0]["field"] == f"[1].${name}"
    alone = take(bad, Asked("engage"))
    assert (alone.reply.status, alone.reply.body) == (400, b"0")


@pytest.mark.parametrize(
    ("said", "code", "field"),
    [
        ({}, errors.MISSING_FIELD, "$set"),
        ({"set": 5}, errors.INVALID_FIELD, "$set"),
        ({"add": {"a": "x"}}, errors.INVALID_FIELD, "$add"),
        ({"unset": [5]}, errors.INVALID_FIELD, "$unset"),
        ({"set": {"k" * 600: 1}}, errors.INVALID_FIELD, None),
        ({"set": {f"k{n}": 1 for n in range(1001)}}, errors.TOO_LARGE, None),
        ({"set": {"a": 1}, "distinct_id": None}, errors.MISSING_FIELD, "$distinct_id"),
        ({"set": {"a": 1}, "distinct_id": "x" * 600}, errors.INVALID_ID, "$distinct_id"),
        ({"set": {"a": 1}, "increment": {"b": 1}}, errors.INVALID_FIELD, "$increment"),
    ],
)
def test_traits_that_are_wrong(said: dict[str, Any], code: str, field: str | None) -> None:
    [refusal] = engage(**said).refused
    assert (refusal.code, refusal.field) == (code, field)
    assert "properties" not in refusal.message


def test_an_event_changes_no_traits() -> None:
    taken = one(**{"$set": {"a": 1}})
    assert taken.batch.calls == {}
    assert taken.event()["properties"]["$set"] == {"a": 1}


def test_groups_are_group_calls_of_an_id_of_their_own() -> None:
    row = group(**{"$set": {"seats": 5, "$ip": "203.0.113.9"}, "$union": {"tags": ["a"], "$ip": "203.0.113.9"},
                   "$unset": ["old"], "$time": NOW - 5}).event()  # fmt: skip
    assert (row["call"], row["user_id"], row["anonymous_id"]) == ("group", "", "$group:company:acme")
    assert row["properties"] == {
        "group_type": "company", "group_id": "acme",
        "traits": {"seats": 5, "$union": {"tags": ["a"]}, "$unset": ["old"]},
    }  # fmt: skip
    assert row["occurred_at"] == NOW - 5
    assert group(**{"$delete": ""}).event()["properties"]["traits"] == {"$delete": ""}
    assert group(**{"$group_id": 5, "$set": {}}).event()["anonymous_id"] == "$group:company:5"
    for said, field in (
        ({"$group_id": ""}, "$group_id"), ({"$group_key": None}, "$group_key"), ({}, "$set"), ({"$set": 5}, "$set"),
        ({"$group_id": "g" * 600, "$set": {}}, "$group_id"), ({"$append": [1]}, "$append"),
    ):  # fmt: skip
        assert group(**said).refused[0].field == field


def test_addresses_are_dropped() -> None:
    assert "ip" not in one(ip="203.0.113.9").event()["properties"]
    assert "$ip" not in one(**{"$ip": "203.0.113.9"}).event()["properties"]


# ---- answers and refusals

BAD: list[tuple[Any, str, str]] = [
    (event(None), errors.MISSING_FIELD, "[1].event"),
    (event(""), errors.MISSING_FIELD, "[1].event"),
    (event("e" * 600), errors.INVALID_FIELD, "[1].event"),
    (event(5), errors.INVALID_FIELD, "[1].event"),
    (event(distinct_id=None), errors.MISSING_FIELD, "[1].properties.distinct_id"),
    (event(distinct_id=""), errors.MISSING_FIELD, "[1].properties.distinct_id"),
    (event(distinct_id="$device:"), errors.MISSING_FIELD, "[1].properties.distinct_id"),
    (event(distinct_id=["x"]), errors.MISSING_FIELD, "[1].properties.distinct_id"),
    (event(distinct_id="x" * 513), errors.INVALID_ID, "[1].properties.distinct_id"),
    (event(**{"$insert_id": "u" * 600}), errors.INVALID_FIELD, "[1].properties.$insert_id"),
    (event(token="pub_other"), errors.INVALID_KEY, "[1].properties.token"),
    ({"event": "e", "properties": []}, errors.INVALID_FIELD, "[1].properties"),
    ({"event": "e"}, errors.MISSING_FIELD, "[1].properties.distinct_id"),
    (None, errors.INVALID_FIELD, "[1]"),
    (5, errors.INVALID_FIELD, "[1]"),
]


@pytest.mark.parametrize(("bad", "code", "field"), BAD)
def test_a_bad_event_refuses_itself_in_the_words_of_its_sender(bad: Any, code: str, field: str) -> None:
    taken = take([event("good"), bad, event("good")], VERBOSE)
    [refusal] = taken.refused
    assert (refusal.code, refusal.index, refusal.field) == (code, 1, field)
    assert "Id" not in refusal.message
    assert (taken.batch.length, taken.told["status"], taken.told["error"], taken.told["accepted"]) == (2, 1, None, 2)
    assert take([event("good"), bad]).reply.body == b"1"
    alone = take([bad], VERBOSE)
    if code != errors.INVALID_KEY:
        assert (alone.reply.status, alone.told["status"], alone.told["code"]) == (400, 0, code)
        assert isinstance(alone.told["error"], str)
        assert take([bad]).reply == Reply(400, b"0", "text/plain; charset=utf-8")


def test_one_event_that_cannot_be_stored_takes_no_other_with_it() -> None:
    body = b'[%s,{"event":"e","properties":{"distinct_id":"d","a":1e400}}]' % json.dumps(event()).encode()
    taken = take(body)
    assert [(refusal.code, refusal.field) for refusal in taken.refused] == [(errors.INVALID_JSON, "[1]")]
    assert taken.batch.length == 1


@pytest.mark.parametrize("body", [b"", b"nonsense", b"5", b'"x"', b"null", b"{", b"[5", b"\xff", b"{}", b"[" * 9000])
@pytest.mark.parametrize("call", ["track", "engage", "groups", "import"])
def test_a_body_that_cannot_be_read_is_final(body: bytes, call: str) -> None:
    taken = take(body, Asked(call, query=b"verbose=1"))
    assert (taken.reply.status, taken.told["status"]) == (400, 0)
    assert take(body, Asked(call, query=b"verbose=0")).reply.body == b"0"


def test_imports_are_answered_as_they_are_read() -> None:
    good, bad = event(time=NOW, **{"$insert_id": "a"}), event("", **{"$insert_id": "b"})
    plain = Asked("import", content_type="application/json")
    strict = Asked("import", query=b"strict=1&project_id=1", content_type="application/json")
    for asked in (plain, strict):
        taken = take([good, good], asked)
        assert (taken.reply.status, taken.told) == (200, {"code": 200, "num_records_imported": 2, "status": "OK"})
    assert (take([good, bad], plain).reply.status, take([good, bad], plain).told["num_records_imported"]) == (200, 1)
    taken = take([good, bad], strict)
    assert (taken.reply.status, taken.told["code"], taken.told["status"]) == (400, 400, "Bad Request")
    assert taken.told["num_records_imported"] == 1
    [record] = taken.told["failed_records"]
    assert (record["index"], record["insert_id"], record["field"]) == (1, "b", "[1].event")
    taken = take([bad], plain)
    assert (taken.reply.status, taken.told["code"], taken.told["num_records_imported"]) == (400, 400, 0)
    # Its older clients ask in forms, or for more or less words.
    assert take([good], Asked("import", form={})).reply.body == b"1"
    assert take([good], Asked("import", query=b"verbose=0")).reply.body == b"1"
    assert take([good], Asked("import", form={"verbose": "1"})).reply == mixpanel.VERBOSE


@pytest.mark.parametrize("status", [400, 401, 404, 405, 408, 413, 415, 429, 431, 500, 503])
def test_statuses_are_as_they_are_and_every_answer_can_be_read(status: int) -> None:
    ack = Ack(0, [], Refusal(errors.UNAVAILABLE, "why"), 0)
    forms = "application/x-www-form-urlencoded"
    for call in ("track", "engage", "groups", "import"):
        quiet = mixpanel.failure(status, ack, Asked(call, query=b"verbose=0", content_type=forms))
        assert (quiet.status, quiet.body) == (status, b"0")
        # mixpanel-python says `verbose` in its form, which is not open yet where the edge itself refuses.
        for asked in (Asked(call, content_type=forms), Asked(call, form={"verbose": "1"})):
            told = json.loads(mixpanel.failure(status, ack, asked).body)
            assert (told["status"], told["error"]) == (0, "why")
    told = json.loads(mixpanel.failure(status, ack, Asked("import", content_type="application/json")).body)
    assert (told["code"], told["error"]) == (status, "why")


# ---- whatever comes

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    [field.encode_name for kind in (mixpanel._Properties, mixpanel._Where) for field in msgspec.structs.fields(kind)]
    + sorted(mixpanel._KNOWN)
    + ["ip"]
)
SAID = st.dictionaries(NAMES, st.sampled_from(["d", "$device:d", "", TOKEN, 1, NOW]) | JSON, max_size=7)
EVENTS = SAID | st.fixed_dictionaries(
    {}, optional={"event": st.sampled_from([*mixpanel._CALLS, "$merge", "e"]) | JSON, "properties": SAID | JSON}
)
CALLS = st.sampled_from(["track", "engage", "groups", "import"])
VERBOSITY = st.sampled_from([b"", b"verbose=1", b"verbose=0", b"strict=1"])
FINAL = (200, 400, 413)


@given(st.lists(EVENTS | JSON, max_size=4) | EVENTS | JSON, CALLS, VERBOSITY, st.booleans(), st.sampled_from("jfb"))
def test_any_json_is_answered_and_no_event_is_lost_count_of(
    said: Any, call: str, query: bytes, ascii_only: bool, wrapped: str
) -> None:
    body = json.dumps(said, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    if wrapped == "f":
        body = b"data=" + quote_plus(body).encode()
    elif wrapped == "b":
        body = b"data=" + base64.b64encode(body)
    asked = Asked(call, query)
    if form.is_form(body):
        body, fields = form.opened(body)
        asked = msgspec.structs.replace(asked, form=fields)
    taken = take(body, asked)
    assert taken.reply.status in FINAL
    json.loads(taken.reply.body)
    if isinstance(said, list) and not any(refusal.index is None for refusal in taken.refused):
        assert taken.batch.length + len(taken.refused) == len(said)
        assert len({refusal.index for refusal in taken.refused}) == len(taken.refused)


@given(st.binary(max_size=200), CALLS, VERBOSITY)
def test_any_bytes_are_answered(body: bytes, call: str, query: bytes) -> None:
    for sent_body in (body, b"data=" + body, b"[" + body, b'{"properties":' + body):
        opened, asked = sent_body, Asked(call, query)
        if form.is_form(sent_body):
            opened, fields = form.opened(sent_body)
            asked = msgspec.structs.replace(asked, form=fields)
        assert take(opened, asked).reply.status in FINAL
