"""A condition understood: what of it a row of `events` says, what its person says, and what that person was then.

`Row` reads a row of `events`; `Whose` is a set of persons, which an event meets by its actor; `Past` is a trait as it
was at the event's time, which needs the person of the event at hand. So a condition without `Past` is decided where
rows are read, and no more is read of an event than its marks; one with it is decided once the person is known, of what
was decided before (`Split`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from pugd.query.sql import Sql, all_of, any_of, named, sql


class Row(msgspec.Struct, frozen=True, eq=False):
    """A condition on a row of `events`; null counts as false."""

    met: Sql
    names: frozenset[str] | None = None
    """No event of another name meets it."""


class Whose(msgspec.Struct, frozen=True, eq=False):
    """Is the event of one of these persons?"""

    persons: Sql
    """A sub-select of one column, `person`, each once."""
    exist: bool = True
    """Each of them is somebody of whom something is known."""


class Past(msgspec.Struct, frozen=True, eq=False):
    """Did a trait of the person meet something at the event's time?"""

    history: Sql
    """A sub-select of (person, times, presents): from which ms on which JSON text stood."""
    met: Callable[[Sql], Sql]
    """Of that JSON text, '' where none stood."""


class All(msgspec.Struct, frozen=True, eq=False):
    nodes: Sequence[Node]


class Any(msgspec.Struct, frozen=True, eq=False):
    nodes: Sequence[Node]


class Not(msgspec.Struct, frozen=True, eq=False):
    node: Node


Node = Row | Whose | Past | All | Any | Not
ALWAYS = All(())


def rendered(node: Node, leaf: Callable[[Row | Whose | Past], Sql]) -> Sql:
    """The condition, each leaf as `leaf` says it."""
    match node:
        case All(nodes):
            return all_of(rendered(one, leaf) for one in nodes)
        case Any(nodes):
            return any_of(rendered(one, leaf) for one in nodes)
        case Not(one):
            return sql("NOT ($met)", met=rendered(one, leaf))
        case _:
            return leaf(node)


def names_of(node: Node) -> frozenset[str] | None:
    """Names without which no event meets it; None: any name may do."""
    match node:
        case Row():
            return node.names
        case All(nodes):
            known = [names for one in nodes if (names := names_of(one)) is not None]
            return frozenset.intersection(*known) if known else None
        case Any(nodes):
            found = [names_of(one) for one in nodes]
            return None if None in found else frozenset().union(*(names for names in found if names is not None))
        case _:
            return None


def pasts(node: Node) -> list[Past]:
    """The leaves that need the person's past."""
    match node:
        case All(nodes) | Any(nodes):
            return [found for one in nodes for found in pasts(one)]
        case Not(one):
            return pasts(one)
        case Past():
            return [node]
        case _:
            return []


def possible(node: Node, leaf: Callable[[Row | Whose], Sql], *, certain: bool = False) -> Sql:
    """May it be met, whatever the past was? Or with `certain`: is it met, whatever that was?"""
    match node:
        case All(nodes):
            return all_of(possible(one, leaf, certain=certain) for one in nodes)
        case Any(nodes):
            return any_of(possible(one, leaf, certain=certain) for one in nodes)
        case Not(one):
            return sql("NOT ($met)", met=possible(one, leaf, certain=not certain))
        case Past():
            return sql("0") if certain else sql("1")
        case _:
            return leaf(node)


class Split:
    """Conditions decided in two steps: leaves where rows are read, all else where their persons are known."""

    def __init__(self, leaf: Callable[[Row | Whose], Sql]) -> None:
        self._leaf = leaf
        self.columns: list[tuple[str, Sql]] = []
        """To read of each row."""
        self.joins: list[tuple[str, Sql]] = []
        """(name, sub-select of (person, times, presents)) to join by person."""
        self._named: dict[int, str] = {}
        """Of each leaf, by its identity: where an event meets one condition or another, that is asked once more."""

    def decided(self, node: Node, at: Sql) -> Sql:
        """The condition, of `columns` and `joins`. `at`: the event's time in ms."""

        def leaf(one: Row | Whose | Past) -> Sql:
            name = self._named.get(id(one))
            if isinstance(one, Past):
                if name is None:
                    name = self._named[id(one)] = f"past_{len(self.joins) + 1}"
                    self.joins.append((name, one.history))
                return one.met(told_then(name, at))
            if name is None:
                name = self._named[id(one)] = f"leaf_{len(self.columns) + 1}"
                self.columns.append((name, sql("toUInt8(ifNull($met, 0) != 0)", met=self._leaf(one))))
            return named(name)

        return rendered(node, leaf)


def told_then(name: str, at: Sql) -> Sql:
    """What the history that was joined as `name` says of a time: JSON text, '' where nothing stood."""
    return sql("$name.presents[arrayLastIndex(time -> time <= $at, $name.times)]", name=named(name), at=at)
