"""The orders that people are listed in, each as one sort key that ascends with the list.

A fact of the person is a number, negated where the order descends. A trait may be anything, so its key is text: a digit
for what kind of value it is, then the value, written in hexadecimal so that these texts are in the order of what they
say, whatever compares them; in an order that descends every digit is turned round, and a `~`, which is beyond all
digits, ends it, so that `ab` comes before `a`. Ascending: false, true; numbers, exact where they are whole and below
2**63; times (RFC 3339 or a date) by when that is; other text by its first TEXT_BYTES bytes of UTF-8; lists and objects
by their JSON, likewise. Who has no such trait comes last either way. Persons with one key are in the order of their
numbers.
"""

from __future__ import annotations

import re

import msgspec

from pugd import ask
from pugd.query.sql import Sql, bound, sql
from pugd.query.values import invalid, moment_of, of_json, parts
from pugd.question import SORTS, TRAIT_SORT

TEXT_BYTES = 256
"""Of a text that count: the key goes into cursors, and these into addresses."""
KEY = re.compile(r"[0-9A-F]{1,520}~?|~", re.ASCII)
"""Every sort key of a trait, and little else."""

_FACTS = {"last_seen": sql("last_seen"), "first_seen": sql("first_seen"), "events": sql("toInt64(events)")}
_WHOLE_MAX = 9_223_372_036_854_774_784.0
"""The greatest float below 2**63."""


class Order(msgspec.Struct, frozen=True):
    """What people are sorted by."""

    fact: str = ""
    """'last_seen' | 'first_seen' | 'events', or of a trait ''."""
    trait: tuple[str, ...] = ()
    """The names on the way to it."""
    descending: bool = False


def read(said: str, path: str = "sort") -> Order:
    """`-last_seen`, `trait:plan`, `-trait:address.city`, `trait:["a.b"]`. raises QuestionError"""
    descending, name = said.startswith("-"), said.removeprefix("-")
    if said in SORTS:
        return Order(fact=name, descending=descending)
    if not name.startswith(TRAIT_SORT):
        raise invalid(
            path, f"must be one of {', '.join(SORTS)}, or {TRAIT_SORT} and a trait, such as -{TRAIT_SORT}plan"
        )
    trait: ask.Path = name.removeprefix(TRAIT_SORT)
    if name.startswith(f"{TRAIT_SORT}["):
        try:
            trait = msgspec.json.decode(name.removeprefix(TRAIT_SORT), type=tuple[str, ...])
        except msgspec.DecodeError:
            raise invalid(path, 'must have its names as a list in JSON, such as trait:["a.b"]') from None
    return Order(trait=parts(trait, path), descending=descending)


def of_fact(order: Order) -> Sql:
    """The key, an Int64, of `people.everybody`."""
    key = _FACTS[order.fact]
    return sql("-$key", key=key) if order.descending else key


def of_trait(order: Order, present: Sql) -> Sql:
    """The key, a String, of a trait's JSON text, '' where there is none."""
    it = of_json(present, order.trait[1:]).json
    text = sql("JSONExtractString($it)", it=it)
    number = sql("ifNull(toFloat64OrNull($it), 0) + 0.0", it=it)  # of the two zeros one
    bits = sql("reinterpretAsUInt64($number)", number=number)
    small = sql("if(abs($number) <= $most, $number, 0)", number=number, most=bound("Float64", _WHOLE_MAX))
    whole = sql("if($small = 0, 0, ifNull(toInt64OrNull($it), toInt64($small)))", small=small, it=it)
    key = sql(
        """
multiIf($it = 'false', '10', $it = 'true', '11',
    startsWith($it, '{') OR startsWith($it, '['), concat('5', hex(substring($it, 1, $bytes))),
    NOT startsWith($it, '"'), concat('2', $number, $whole),
    isNotNull($at), concat('3', $moment),
    concat('4', hex(substring($text, 1, $bytes))))""",
        it=it,
        bytes=bound("UInt32", TEXT_BYTES),
        number=_digits(sql("if(bitTest($bits, 63), bitNot($bits), bitXor($bits, $sign))", bits=bits, sign=_SIGN)),
        whole=_digits(sql("bitXor(reinterpretAsUInt64(toInt64($whole)), $sign)", whole=whole, sign=_SIGN)),
        at=moment_of(it),
        moment=_digits(sql("bitXor(reinterpretAsUInt64(assumeNotNull($at)), $sign)", at=moment_of(it), sign=_SIGN)),
        text=text,
    )
    if order.descending:
        key = sql("concat(translate($key, '0123456789ABCDEF', 'FEDCBA9876543210'), '~')", key=key)
    return sql("if($it IN ('', 'null'), '~', $key)", it=it, key=key)


_SIGN = bound("UInt64", 2**63)


def _digits(number: Sql) -> Sql:
    """A UInt64 as 16 hexadecimal digits."""
    return sql("leftPad(hex($number), 16, '0')", number=number)
