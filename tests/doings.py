"""Anything that persons may do, drawn at random: events, identities, aliases, merges and unlinks, with ties, late ones
and odd text; and answers compared."""

from __future__ import annotations

import itertools
import json
import math

import msgspec
from histories import History
from hypothesis import strategies as st
from reference import timeline as twin

BEGAN = 1_700_000_000_000
projects = itertools.count(1_000)

USERS = ["ann", "bob", "Ann@Example.com", "null"]
ANONYMOUS = ["anon-1", "anon-2", "anon-3", "gerät ✨", "anon-4"]
TEXTS = [
    "shirt",
    'a "quoted" \\ thing',
    "<b>&amp;</b>",
    "\u202egnp.exe",
    "😀 zażółć",
    "nul\0inside",
    "it's; DROP TABLE",
    "",
    "{}",
    "Plan",
]
NAMES = ["page_view", "scroll", "add_to_cart", 'odd "name"', "search"]
values = st.one_of(
    st.sampled_from(TEXTS),
    st.integers(-5, 5),
    st.sampled_from([0.5, -2.25, 416.21]),
    st.booleans(),
    st.none(),
    st.just({"deep": ["caf\u00e9", None, 1]}),
)
json_values = st.builds(lambda value, ascii_: json.dumps(value, ensure_ascii=ascii_), values, st.booleans())
objects = st.builds(
    lambda value, ascii_: json.dumps(value, ensure_ascii=ascii_),
    st.dictionaries(st.sampled_from(["query", "plan", "naïve.key", "a b", "percent"]), values, max_size=3),
    st.booleans(),
)
times = st.integers(0, 12).map(lambda step: BEGAN + step * 7_001)
late = st.integers(0, 5)
moments = st.none() | st.builds(lambda at, near: at + near, times, st.integers(-1, 1))
ids = st.tuples(st.sampled_from(["", *USERS]), st.sampled_from(["", *ANONYMOUS])).filter(any)
trait_lists = st.lists(
    st.tuples(
        st.sampled_from(["plan", "visits", "näme"]), st.sampled_from(["set", "set_once", "add", "unset"]), json_values
    ),
    max_size=4,
)
calls = st.one_of(
    st.tuples(
        st.just("track"),
        ids,
        times,
        late,
        st.sampled_from(NAMES),
        objects,
        st.sampled_from([(0, 0)] * 8 + [(1, 0), (0, 1)]),
    ),
    st.tuples(st.just("identify"), ids, times, late, trait_lists),
    st.tuples(
        st.just("alias"), st.sampled_from(USERS + ANONYMOUS), st.sampled_from(USERS + ANONYMOUS), times, st.booleans()
    ),
    st.tuples(st.just("merge"), st.sampled_from(USERS + ANONYMOUS), st.sampled_from(USERS + ANONYMOUS), times),
    st.tuples(st.just("unlink"), st.sampled_from(USERS + ANONYMOUS), st.sampled_from(USERS + ANONYMOUS), times),
    st.tuples(st.just("unlink"), st.sampled_from(USERS + ANONYMOUS), st.just(""), times),
)


def made(said: list[tuple]) -> History:
    history = History(next(projects))
    for call, *rest in said:
        if call == "track":
            (user, anonymous), at, later, name, properties, (bot, cookieless) = rest
            history.track(
                name, user=user, anonymous=anonymous, at=at, received=at + later, properties=properties, bot=bot,
                cookieless=cookieless,
            )  # fmt: skip
        elif call == "identify":
            (user, anonymous), at, later, traits = rest
            history.identify(user, anonymous, at=at, received=at + later, traits=traits)
        elif call in ("merge", "unlink"):
            a, b, at = rest
            if call == "unlink" or all(twin.person(history.world, history.actor(id_)) for id_ in (a, b)):
                history.by_hand(call, a, b, at=at)
        else:
            previous, new, at, secret = rest
            history.alias(previous, new, at=at, secret=secret)
    return history


def plain(answer: object) -> dict:
    return json.loads(msgspec.json.encode(answer))


def close(found: object, wanted: object) -> bool:
    """Equal, but for how a number is written."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(close(found[key], wanted[key]) for key in found)
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(close, found, wanted))
    if isinstance(found, float | int) and isinstance(wanted, float | int) and not isinstance(found, bool):
        return math.isclose(found, wanted)
    return found == wanted and type(found) is type(wanted)


def same(found: object, wanted: object) -> None:
    assert close(found, wanted), f"\nfound  {found}\nwanted {wanted}"
