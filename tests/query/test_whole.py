"""A person read whole and asked about by statements: the same answers to all that can be asked of one."""

from __future__ import annotations

import itertools

from doings import calls, made, plain, same
from engine import opened_store
from histories import History, answering, insert
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pugd.query import whole
from pugd.question import ENTRY_TYPES, OnePerson, QuestionError, Timeline, UnknownPersonError

BEGAN = 1_700_000_000_000
MINUTE = 60_000
HOUR = 60 * MINUTE
_projects = itertools.count(70_000)

gaps = st.sampled_from([0, 1, 10 * MINUTE, 30 * MINUTE, 30 * MINUTE + 1, 2 * HOUR, 23 * HOUR, 24 * HOUR, 25 * HOUR])
visits = st.lists(
    st.tuples(
        gaps,
        st.sampled_from([("ann", ""), ("ann", "phone"), ("", "phone"), ("ann", "laptop"), ("", "laptop")]),
        st.sampled_from(["", "", "s1", "s2"]),
        st.sampled_from(["web", "web", "server", ""]),
        st.sampled_from(["", "/a", "/b"]),
        st.sampled_from(["track", "track", "track", "group"]),
        st.sampled_from([(0, 0)] * 6 + [(1, 0), (0, 1)]),
    ),
    min_size=1,
    max_size=40,
)


def visited(said: list[tuple]) -> History:
    history = History(next(_projects))
    at = BEGAN
    history.identify("ann", "phone", at=at)
    history.identify("ann", "laptop", at=at)
    for gap, (user, anonymous), session_id, platform, path, call, (bot, cookieless) in said:
        at += gap
        history.track(
            "page_view", user=user, anonymous=anonymous, at=at, session_id=session_id, platform=platform, path=path,
            url=f"https://shop.example{path}", title=path.upper(), country="PL" if path else "", call=call, bot=bot,
            cookieless=cookieless,
        )  # fmt: skip
    return history


async def both_ways(history: History, questions: list[Timeline | OnePerson]) -> list[dict]:
    """The answers, once each has been found to be the same both ways."""
    store = await opened_store()
    await insert(store, history)
    ways = [answering(history, store, BEGAN + 1000 * HOUR, rows_max=most) for most in (whole.ROWS_MAX, 0)]
    found = []
    for question in questions:
        said = []
        for way in ways:
            try:
                answer = await (way.timeline if isinstance(question, Timeline) else way.person)(question)
                said.append({key: value for key, value in plain(answer).items() if key != "asked_at"})
            except (QuestionError, UnknownPersonError) as error:
                said.append({"error": str(error)})
        same(said[0], said[1])
        found.append(said[0])
    return found


TRIES = settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))


@TRIES
@given(visits, st.sampled_from(["asc", "desc"]), st.integers(4, 9), gaps, gaps)
async def test_sessions_and_pages(said, order, limit, since, until):
    history = visited(said)
    about = {"project": history.project, "actor": history.actor("ann"), "order": order}
    (every,) = await both_ways(history, [Timeline(**about, types=ENTRY_TYPES, limit=1000)])
    assert [entry["type"] for entry in every["entries"]].count("link") >= 2
    ids = [entry["id"] for entry in every["entries"]]
    await both_ways(
        history,
        [
            Timeline(**about, types=("session",), since=BEGAN + since, until=BEGAN + since + until),
            Timeline(**about, limit=limit, types=ENTRY_TYPES, around=ids[len(ids) // 2]),
            Timeline(**about, limit=limit, before="page_view"),
        ],
    )
    pages: list[str] = []
    cursor = None
    while True:
        (page,) = await both_ways(history, [Timeline(**about, types=ENTRY_TYPES, limit=limit, cursor=cursor)])
        pages += [entry["id"] for entry in page["entries"]]
        if (cursor := page["next"]) is None:
            break
    assert pages == ids


@TRIES
@given(
    st.lists(calls, min_size=1, max_size=25),
    st.sampled_from(["ann", "anon-1", "gerät ✨", "nobody"]),
    st.none() | st.integers(0, 90_000),
    st.sampled_from([None, "scroll"]),
    st.sampled_from([None, "search"]),
)
async def test_links_traits_and_odd_text(said, id_, as_of, event, before):
    history = made(said)
    about = {"project": history.project, "actor": history.actor(id_)}
    at = None if as_of is None else BEGAN + as_of
    await both_ways(
        history,
        [
            OnePerson(**about, as_of=at),
            Timeline(**about, as_of=at, types=ENTRY_TYPES, event=event, limit=500),
            Timeline(**about, types=ENTRY_TYPES, since=at, before=before, limit=5),
            Timeline(**about, types=("traits", "link"), until=at, limit=5),
        ],
    )
