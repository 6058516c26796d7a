"""The dialects there are, by the names that edge/routes.py uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from pugd.dialects import amplitude, mixpanel, posthog, pug, segment
from pugd.dialects.dialect import Asked, Dialect
from pugd.dialects.plain import Way
from pugd.dialects.slices import WHOLE, Shape

DIALECTS: Final[Mapping[str, Dialect]] = {
    "segment": segment,
    "posthog": posthog,
    "amplitude": amplitude,
    "mixpanel": mixpanel,
    "pug": pug,
}


_SHAPES: Final[Mapping[Dialect, Shape]] = {
    segment: Shape(b"batch"),
    posthog: Shape(b"batch", list=True),
    amplitude: Shape(b"events"),
    mixpanel: Shape(list=True),
}


_PLAIN: Final[Mapping[Dialect, Callable[[Asked], Way | None]]] = {
    segment: segment.plain,
    posthog: posthog.plain,
    amplitude: amplitude.plain,
    mixpanel: mixpanel.plain,
    pug: pug.plain,
}
PLAIN_FORMS: Final = (*segment.FORMS, *posthog.FORMS, *amplitude.FORMS, *mixpanel.FORMS, *pug.FORMS)
"""All there are."""


_NAMES: Final[Mapping[Dialect, str]] = {dialect: name for name, dialect in DIALECTS.items()}


def name_of(dialect: Dialect) -> str:
    """The name of a dialect, for people."""
    return _NAMES.get(dialect, "")


def shape_of(dialect: Dialect, body: bytes, asked: Asked) -> Shape | None:
    """Where a large body has its events (slices.py); None where its dialect bounds it itself."""
    if dialect is pug:
        return pug.shape(body, asked)
    if dialect is segment and asked.call != segment.BATCH:
        return WHOLE
    if dialect is mixpanel and asked.call == mixpanel.IMPORT:
        return Shape(list=True, lines=True)
    return _SHAPES.get(dialect)


def chosen(name: str, others: tuple[str, ...], body: bytes, asked: Asked) -> Dialect:
    """Which dialect a body speaks: the first of the `others` that know it for theirs, else `name`."""
    for other in others:
        dialect = DIALECTS[other]
        if dialect.is_mine(body, asked):
            return dialect
    return DIALECTS[name]


def as_plain(dialect: Dialect, asked: Asked) -> Way | None:
    """As what a request's body may be plain (plain.py); None: it is not."""
    find = _PLAIN.get(dialect)
    return None if find is None else find(asked)


_ADDRESSES: Final[Mapping[Dialect, Callable[[bytes, Asked], str | None]]] = {
    posthog: posthog.address_of_all,
    amplitude: amplitude.address_of_all,
    mixpanel: mixpanel.address_of_all,
}


def address_of_all(dialect: Dialect, body: bytes, asked: Asked) -> str | None:
    """What a body, if it is plain, says of all its events' addresses, as in Decoded.addresses, beside what contexts say
    (plain.py looks there); None: nothing, MIXED: it may differ."""
    find = _ADDRESSES.get(dialect)
    return None if find is None else find(body, asked)
