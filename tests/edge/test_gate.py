"""The gate: each way to give a key, and what opens nothing."""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st

from pugd.edge.gate import IMPORT, MISSING, UNKNOWN, Gate, Ways, hashed, key_in_authorization, key_in_query
from pugd.errors import FORBIDDEN
from pugd.model import Refusal, WriteKey

PUBLIC = WriteKey(1, secret=False)
SECRET = WriteKey(2, secret=True)
KEYS = {"pub_a": PUBLIC, "any string, ü": PUBLIC, hashed("prv_b"): SECRET}


def basic(user: str) -> bytes:
    return b"Basic " + base64.b64encode(user.encode())


def test_keys_open_their_projects() -> None:
    gate = Gate(KEYS)
    for _ in range(2):
        assert gate.key_of(basic("pub_a:"), b"") is PUBLIC
        assert gate.key_of(basic("pub_a"), b"") is PUBLIC
        assert gate.key_of(basic("pub_a:password"), b"") is PUBLIC
        assert gate.key_of(basic("prv_b:"), b"") is SECRET
    assert gate.key_of(b"basic  " + base64.b64encode(b"pub_a:").rstrip(b"="), b"") is PUBLIC
    assert gate.key_of(None, b"x=y&writeKey=pub_a") is PUBLIC
    assert gate.key_of(None, b"writeKey=any+string%2C%20%C3%BC") is PUBLIC
    assert gate.key_of(basic("pub_a:"), b"writeKey=wrong") is PUBLIC
    assert gate.open("prv_b") is SECRET


def test_an_account_opens_nothing_and_leaves_it_to_the_body() -> None:
    gate = Gate(KEYS)
    for _ in range(2):
        assert gate.key_of(basic("account.name:word"), b"strict=1&project_id=12", IMPORT) is None
        assert gate.key_of(basic("account.name:word"), b"", IMPORT) is UNKNOWN
        assert gate.key_of(basic("account.name:word"), b"project_id=", IMPORT) is UNKNOWN
        assert gate.key_of(basic("prv_b:"), b"project_id=12", IMPORT) is SECRET
        assert gate.key_of(basic("prv_revoked:"), b"project_id=12", IMPORT) is UNKNOWN
        assert gate.key_of(basic("account.name:word"), b"project_id=12&api_key=prv_b", IMPORT) is SECRET
        assert gate.key_of(basic("account.name:word"), b"project_id=12&api_key=no", IMPORT) is UNKNOWN
        assert gate.key_of(basic("account.name:word"), b"project_id=12") is UNKNOWN
    assert gate.key_of(None, b"api_key=prv_b", IMPORT) is SECRET


def test_others_do_not() -> None:
    gate = Gate(KEYS)
    assert gate.open("") is MISSING
    assert gate.open("pub_b") is UNKNOWN
    assert gate.open("prv_a") is UNKNOWN
    assert gate.open(hashed("prv_b")) is UNKNOWN  # what is kept of a secret key is no key
    assert gate.open("x" * 100_000) is UNKNOWN
    assert gate.open("\ud800") is UNKNOWN
    assert gate.open("prv_\ud800") is UNKNOWN
    assert gate.key_of(basic("wrong:"), b"writeKey=pub_a") is UNKNOWN
    assert gate.key_of(None, b"writeKey=") is MISSING
    # No key in the head: the body must have it.
    assert gate.key_of(None, b"") is None
    assert gate.key_of(basic(":"), b"") is None
    assert gate.key_of(b"Bearer pub_a", b"") is None
    assert gate.key_of(b"Basic !!!", b"") is None
    assert gate.key_of(None, b"writekey=pub_a&xwriteKey=pub_a") is None


def test_each_way_only_where_it_is_one() -> None:
    gate = Gate(KEYS)
    bearer, header = Ways(bearer=True), Ways(api_key=True, query=(b"api_key", b"token"))
    for _ in range(2):
        assert gate.key_of(b"Bearer pub_a", b"", bearer) is PUBLIC
        assert gate.key_of(basic("pub_a:"), b"", bearer) is None
        assert gate.key_of(b"Bearer pub_a", b"", header) is None
    assert gate.key_of(None, b"", header, b"prv_b") is SECRET
    assert gate.key_of(None, b"", bearer, b"prv_b") is None
    assert gate.key_of(None, b"token=wrong&api_key=pub_a", header) is PUBLIC
    assert gate.key_of(None, b"token=pub_a", header, b"wrong") is UNKNOWN
    assert gate.key_of(None, b"writeKey=pub_a", header) is None
    assert gate.key_of(None, b"", header, b"\xff") is UNKNOWN


def test_replaced_keys_open_nothing_any_more() -> None:
    gate = Gate(KEYS)
    assert gate.key_of(basic("pub_a:"), b"") is PUBLIC
    gate.replace({"pub_c": SECRET, "pub_d": PUBLIC})
    assert gate.generation == 1
    assert gate.key_of(basic("pub_a:"), b"") is UNKNOWN
    assert gate.open("pub_c") is UNKNOWN  # a public key never opens as a secret one
    assert gate.open("pub_d") is PUBLIC


def test_unknown_keys_fill_no_memory() -> None:
    gate = Gate(KEYS)
    gate.CACHED_COUNT_MAX = 3  # type: ignore[misc]
    for i in range(100):
        gate.key_of(basic(f"wrong{i}:"), b"")
        gate.key_of(basic(f"pub_a:{i}"), b"")
    assert len(gate._opened) == 3


def test_a_browser_may_send_from_where_the_key_allows() -> None:
    shop = WriteKey(1, secret=False, id=1, origins=("https://shop.example",))
    gate = Gate({"pub_a": shop, "pub_any": PUBLIC})
    for _ in range(2):
        assert gate.open("pub_a", b"https://shop.example") is shop
        assert gate.open("pub_a") is shop, "who sends no Origin is no browser"
        for refused in (
            gate.open("pub_a", b"https://evil.example"),
            gate.key_of(basic("pub_a:"), b"", origin=b"https://evil.example"),
            gate.key_of(None, b"writeKey=pub_a", origin=b"null"),
        ):
            assert isinstance(refused, Refusal)
            assert (refused.code, refused.field) == (FORBIDDEN, "Origin")
        assert gate.key_of(basic("pub_a:"), b"") is shop
        assert gate.open("pub_any", b"https://evil.example") is PUBLIC
    assert gate.open("wrong", b"https://evil.example") is UNKNOWN


def test_a_key_ends_with_its_time_and_the_others_stay() -> None:
    old, new = WriteKey(1, secret=False, id=1, until=1_000), WriteKey(1, secret=False, id=2)
    gate = Gate({"old": old, "new": new})
    gate.expire(999)
    assert gate.generation == 0
    assert gate.key_of(basic("old:"), b"") is old
    gate.expire(1_000)
    assert gate.generation == 1, "what was worked out with it holds no longer"
    assert gate.key_of(basic("old:"), b"") is UNKNOWN
    assert gate.open("new") is new
    gate.expire(2_000)
    assert gate.generation == 1


def test_counts_outlive_new_keys_and_end_with_their_own() -> None:
    now = 1_790_000_000_000
    one, other = WriteKey(1, secret=False, id=1, per_day=10), WriteKey(1, secret=False, id=2, per_day=10)
    gate = Gate({"one": one, "other": other})
    gate.count(one, 10, now)
    gate.count(other, 9, now)
    raised = WriteKey(1, secret=False, id=1, per_day=11)
    assert gate.admit(one, now) is not None
    assert gate.admit(other, now) is None
    gate.replace({"one": raised})
    assert gate.admit(raised, now) is None
    assert {id_: usage.today for id_, usage in gate.usage().items()} == {1: 10}
    again = Gate({"one": one})
    again.restore(gate.usage())
    assert again.admit(one, now) is not None


@given(st.binary(max_size=60))
def test_any_bytes_are_a_key_or_none(data: bytes) -> None:
    for found in (
        key_in_authorization(data),
        key_in_authorization(b"Basic " + data),
        key_in_query(b"writeKey=" + data),
    ):
        assert found is None or isinstance(found, str)
    gate = Gate(KEYS)
    gate.key_of(b"Basic " + base64.b64encode(data), b"writeKey=" + data)


@given(st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda text: ":" not in text))
def test_every_name_comes_through(user: str) -> None:
    assert key_in_authorization(basic(user + ":")) == user
