"""The face of the graph: the actor of an id, and where memory or its caller is at fault."""

from __future__ import annotations

from array import array

import msgspec
import pytest

from pugd.identity.graph import Graph

KEY = bytes(range(16))


def test_actor_is_the_published_siphash() -> None:
    """15 bytes 00 … 0e under the key 00 … 0f: appendix A of the SipHash paper. Project is the first four of them."""
    text = bytes(range(4, 15)).decode()
    assert Graph(KEY).actor(0x03020100, text) == 0xA129CA6149BE45E5


def test_actor_depends_on_key_project_and_every_byte() -> None:
    graph = Graph(KEY)
    actors = {graph.actor(project, one) for project in (0, 1, 2**32 - 1) for one in ("a", "b", "A", "ä", "a" * 512)}
    assert len(actors | {Graph(bytes(16)).actor(0, "a")}) == 16


def test_resolve_many_asserts_its_form() -> None:
    graph = Graph(KEY)
    assert graph.resolve_many(msgspec.msgpack.encode([]), 0) == (array("Q"), [])
    for values in ([1, "u"], [1, "", ""], [1, "u", None], ["1", "u", "a"], [-1, "u", "a"], [2**32, "u", "a"]):
        with pytest.raises(AssertionError):
            graph.resolve_many(msgspec.msgpack.encode(values), 1)


def test_resolve_many_takes_batches_of_any_size() -> None:
    graph = Graph(KEY)
    for count in (1, 31, 32, 33, 256, 1000, 5):
        packed = msgspec.msgpack.encode([value for i in range(count) for value in (1, f"u{i}", f"a{i}")])
        actors, look = graph.resolve_many(packed, count)
        assert list(actors) == [graph.actor(1, f"u{i}") for i in range(count)]
        assert look == list(range(count))


def test_persons_many_is_find_of_the_actor() -> None:
    graph = Graph(KEY)
    ids = [f"{'long' * (i % 9)}-{i}" for i in range(700)]
    actors = [graph.actor(1, one) for one in ids]
    for i in range(0, 500, 5):
        graph.link(actors[i], actors[i + 2 * (i % 50)], i + 1)
        graph.user(actors[i + i % 4])
    assert len({graph.find(one) for one in actors}) < 650
    for count in (0, 1, 7, 127, 128, 129, 256, 700):
        packed = msgspec.msgpack.encode([value for one in ids[:count] for value in (1, one)])
        assert graph.persons_many(packed, count) == array("Q", [graph.find(one) for one in actors[:count]])
    for values in ([1], [1, None], [1, 1], ["1", "u"], [-1, "u"], [2**32, "u"], [1, "u", 1]):
        with pytest.raises(AssertionError):
            graph.persons_many(msgspec.msgpack.encode(values), 1)
