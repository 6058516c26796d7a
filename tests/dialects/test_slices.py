"""Large bodies cut into pieces: the pieces say what the whole said, in order, and what cannot be cut is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pugd import errors
from pugd.dialects import slices
from pugd.dialects.slices import Piece, Shape, cut, heavy, placed
from pugd.model import Refusal

BATCH = Shape(b"batch", list=True)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def pieces(body: bytes, shape: Shape = BATCH) -> list[Piece]:
    found = cut(body, shape)
    assert not isinstance(found, Refusal), found
    return list(found)


@given(st.lists(VALUES, max_size=30), st.dictionaries(st.sampled_from(["key", "sentAt"]), VALUES), st.integers(0, 3))
def test_pieces_say_what_the_whole_says(events: list[Any], around: dict[str, Any], indent: int) -> None:
    whole = {**around, "batch": events, "last": 1}
    for body, is_list in ((json.dumps(whole, indent=indent or None), False), (json.dumps(events), True)):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(slices, "PIECE_EVENTS", 3)
            patched.setattr(slices, "PIECE_BYTES", 40)
            found = pieces(body.encode())
        told: list[Any] = []
        for piece in found:
            read = json.loads(piece.body)
            mine = read if is_list else read.pop("batch")
            assert piece.first == len(told)
            assert is_list or read == {**around, "last": 1}
            if events:
                assert len(mine) == piece.count <= 3
            told += mine
        assert told == events


def test_lines_are_cut_between_lines() -> None:
    lines = [{"event": "e", "n": number} for number in range(2_500)]
    body = "\n".join(map(json.dumps, lines)).encode()
    found = pieces(body, Shape(list=True, lines=True))
    assert [piece.count for piece in found] == [1000, 1000, 500]
    assert [json.loads(line) for piece in found for line in piece.body.split(b"\n")] == lines


def test_one_large_event_is_one_piece() -> None:
    body = json.dumps({"event": "e", "properties": {"batch": [1, 2, 3], "text": "x" * 500_000}}).encode()
    assert pieces(body) == [Piece(body, 0, 1)]
    event = {"event": "e", "properties": {"text": "x" * 500_000}}
    assert [piece.count for piece in pieces(json.dumps({"batch": [{}, event, {}, {}]}).encode())] == [1, 1, 2]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"batch":[1,2', errors.INVALID_JSON),
        (b'{"batch":[1,2]', errors.INVALID_JSON),
        (b'{"batch":[1,2]}}', errors.INVALID_JSON),
        (b'{"batch":[1,,2]}', errors.INVALID_JSON),
        (b'["open', errors.INVALID_JSON),
        (b'["open\\', errors.INVALID_JSON),
        (b"   ", errors.INVALID_JSON),
        (b'{"batch":[1],"batch":[2]}', errors.INVALID_JSON),
        (b'{"b\\u0061tch":[1]}', errors.INVALID_JSON),
        (b"[" + b",".join([b"1"] * 50_001) + b"]", errors.TOO_LARGE),
        (b'{"batch":[' + b",".join([b"{}"] * 50_001) + b"]}", errors.TOO_LARGE),
        (b'{"context":"' + b"x" * slices.AROUND_BYTES_MAX + b'","batch":[1]}', errors.TOO_LARGE),
    ],
)  # fmt: skip
def test_what_cannot_be_cut_is_refused(body: bytes, code: str) -> None:
    found = cut(body, BATCH)
    assert isinstance(found, Refusal)
    assert found.code == code
    assert found.message


def test_as_many_events_as_may_be_are_cut() -> None:
    found = pieces(b"[" + b",".join([b"{}"] * slices.EVENTS_MAX) + b"]")
    assert sum(piece.count for piece in found) == slices.EVENTS_MAX
    # Small and large in turns make the most pieces.
    body = b"[" + b",".join([b"1", b'"' + b"x" * slices.PIECE_BYTES + b'"'] * 100) + b"]"
    assert sum(piece.count for piece in pieces(body)) == 200


@given(st.binary(max_size=200))
def test_any_bytes_are_cut_or_refused(body: bytes) -> None:
    for shape in (BATCH, Shape(b"events"), Shape(list=True, lines=True), slices.WHOLE):
        found = cut(body, shape)
        if isinstance(found, Refusal):
            assert found.code
        else:
            assert sum(len(piece.body) for piece in found) >= 0


def test_a_heavy_event_is_taken_as_it_is_or_not_at_all() -> None:
    assert heavy(b'{"a":[' + b",".join([b'{"a":1}'] * 99_999) + b"]}") is None
    assert heavy(b'{"a":[' + b",".join([b"1"] * 999_998) + b"]}") is None
    for much in ([b'{"a":1}'] * 100_000, [b"1"] * 999_999, [b'"%d"' % slices.EVENT_BYTES_MAX] * 1_200_000):
        found = heavy(b'{"a":[' + b",".join(much) + b"]}")
        assert found is not None
        assert found.code == errors.TOO_LARGE
    for body in (b'{"a":1,"a":2}', b'{"a":"\\ud800"}', b'{"a":'):
        found = heavy(body)
        assert found is not None
        assert found.code == errors.INVALID_JSON


def test_refusals_say_where_in_the_whole() -> None:
    assert placed(Refusal("c", "m", "batch[2].userId", 2, "e"), 1000) == Refusal(
        "c", "m", "batch[1002].userId", 1002, "e"
    )
    assert placed(Refusal("c", "m", "[0]", 0), 5) == Refusal("c", "m", "[5]", 5)
    assert placed(Refusal("c", "m", "userId"), 7) == Refusal("c", "m", "userId", 7)
