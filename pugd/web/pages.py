"""The pages: who is there, one person's timeline, and why, with whom and whether ids are one person. They ask what the
API asks, and show it.

What a timeline's page adds is order for the eye: days, in the project's time zone; within a day, runs of one device or
session, told apart by a colour; and a line across where somebody's earlier history joined. All that strangers wrote is
escaped by the templates, and nothing on a page is a script.

What changes something is asked twice: a page that shows what would become of it, and its button, a POST that only our
own pages may send.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from pugd.ask import AskPeople, Breakdown, Condition, Did, Exclusion, Selection, Series
from pugd.control.shelf import Shelf
from pugd.errors import ControlError
from pugd.kept import PREVIEW
from pugd.model import Project, person_text
from pugd.query import order
from pugd.query.values import TEXT_LENGTH_MAX
from pugd.question import (
    TRAIT_SORT,
    EventEntry,
    ExplainAnswer,
    Link,
    LinkEntry,
    OnePerson,
    Person,
    SessionEntry,
    TraitsEntry,
    UnknownPersonError,
)
from pugd.web import login, openapi, parameters
from pugd.web.access import Access, Asker, Crowd
from pugd.web.api import body, explained
from pugd.web.login import NotAllowedError, asking

LANES = 6
"""Colours of devices and sessions."""

IDLE_MINUTES_MAX = 30
"""A longer pause ends a run on the page, as it ends a session."""

REFUSED = {
    "both_identified": "each belongs to somebody with a user id of their own, so a shared device stays two people",
    "illegal_id": "one of them is an id that broken code sends for everybody",
    "too_many_ids": "the person would have more ids than a person can have",
    "unlinked_by_hand": "somebody took them apart by hand",
    "self_link": "both are the same id",
}

MEND = {
    "invalid_json": "The body is no JSON that can be stored. The message says at which byte.",
    "invalid_field": "A field has the wrong type or is too long. The field is named.",
    "missing_field": "Send the field that is named.",
    "invalid_id": "Ids have at most 512 bytes.",
    "invalid_key": "No write key in force: pugd keys list shows those that are.",
    "forbidden": "The key's owner allows other web pages: pugd keys limit NUMBER --origin ORIGIN adds one.",
    "unsigned": "The key has a signing secret: sign datagrams that say who somebody is, or send them by HTTP.",
    "invalid_signature": "Another secret or other bytes than were sent, or a clock that is wrong: see docs/udp.md.",
    "rate_limited": "The key has a limit of events a second: pugd keys limit NUMBER --rate N raises it.",
    "quota_exceeded": "The key's events of the day are used up: pugd keys limit NUMBER --per-day N raises that.",
    "too_large": "Send less at once.",
    "too_deep": "Send a flatter object.",
    "event_id_reused": "Two events came with one id: each needs its own.",
    "unsupported_encoding": "Send gzip, deflate, br, zstd or nothing of the kind.",
    "invalid_request": "The request was not well-formed, or its compressed body was damaged.",
    "internal_error": "A fault of pugd's own: its log says more.",
}
"""What to do about what is refused, by code."""

FORM = "application/x-www-form-urlencoded"

_SORTS = (
    ("-last_seen", "Last seen"),
    ("last_seen", "Longest away"),
    ("-first_seen", "Newest"),
    ("first_seen", "Oldest"),
    ("-events", "Most events"),
    ("events", "Fewest events"),
)


class Run(msgspec.Struct):
    """Entries that follow one another on one device or in one session; or a link that changed something, which belongs
    to none."""

    lane: int
    label: str
    detail: str
    entries: list[dict[str, Any]]
    link: dict[str, Any] | None = None


class Day(msgspec.Struct):
    """One day of the project's time zone."""

    date: str
    label: str
    runs: list[Run]


class Pages:
    """Rendered from templates/, one environment for all."""

    def __init__(self, asker: Asker, access: Access, crowd: Crowd, shelf: Shelf, collector: str) -> None:
        self._asker = asker
        self._crowd = crowd
        self._shelf = shelf
        self._access = access
        self._collector = collector
        self._templates = Environment(
            loader=FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals.update(number=number, quote=lambda text: quote(text, safe=""))

    def routes(self) -> list[Route]:
        return [
            Route("/", self._page(self._home)),
            Route("/people", self._page(self._people)),
            Route("/people/{person}", self._page(self._timeline)),
            Route("/people/{person}/why", self._page(self._why)),
            Route("/people/{person}/unlink", self._page(self._preview_unlink)),
            Route("/people/{person}/unlink", self._page(self._unlink), methods=["POST"]),
            Route("/people/{person}/merge", self._page(self._preview_merge)),
            Route("/people/{person}/merge", self._page(self._merge), methods=["POST"]),
            Route("/refusals", self._page(self._refusals)),
            Route("/segments", self._page(self._segments)),
            Route("/segments/{name}", self._page(self._segment)),
            Route("/docs", self._docs),
            Route("/login", self._login),
            Route("/logout", self._log_out, methods=["POST"]),
        ]

    async def wrong(self, status: int, message: str, *, title: str = "", project: Project | None = None) -> Response:
        """A page that says what is wrong."""
        titles = {
            400: "That cannot be asked",
            401: "Log in",
            403: "Not from there",
            404: "Nothing here",
            409: "That cannot be",
            503: "Not just now",
        }
        return self._render(
            "wrong.html",
            status,
            title=title or titles.get(status, "Something failed"),
            message=message,
            project=project,
        )

    async def _docs(self, _: Request) -> Response:
        """The API, for people: what openapi.json says of questions."""
        parts = (Condition, Did, Selection, Series, Exclusion, Breakdown)
        return self._render(
            "docs.html",
            project=None,
            calls=openapi.CALLS,
            fields=openapi.fields,
            curl=openapi.curl,
            anchor=openapi.anchor,
            parts=parts,
        )

    def _render(self, template: str, status: int = 200, **values: Any) -> Response:
        return HTMLResponse(self._templates.get_template(template).render(values), status)

    def _page(
        self, page: Callable[[Request, Project], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def shown(request: Request) -> Response:
            project = None
            try:
                project = await asking(request, self._access)
                return await page(request, project)
            except NotAllowedError:
                return self._render("login.html", 401, used=False, project=None)
            except Exception as error:  # noqa: BLE001  `explained` raises again what is not known
                status, words = explained(error)
                title = _TITLES.get(words.code, "")
                return await self.wrong(status, words.message, title=title, project=project)

        return shown

    async def _home(self, _: Request, __: Project) -> Response:
        return RedirectResponse("/people", 303)

    async def _login(self, request: Request) -> Response:
        if request.method != "HEAD" and (found := await login.redeem(request, self._access)) is not None:
            return found
        used = "token" in request.query_params
        return self._render("login.html", 403 if used else 401, used=used, project=None)

    async def _log_out(self, request: Request) -> Response:
        return await login.log_out(request, self._access)

    async def _refusals(self, request: Request, project: Project) -> Response:
        """Events that were refused lately; with a login, those of unknown keys too, which belong to no project."""
        said = parameters.given(request.query_params, (*parameters.REFUSED_EVENTS, "keys"))
        unknown = said.pop("keys", "") == "unknown"
        if unknown and "authorization" in request.headers:
            raise NotAllowedError("Refusals of unknown keys are shown with a login only.")
        answer = await self._asker.refused_events(parameters.refused_events(project, said, unknown=unknown))
        links = await self._asker.refusals(parameters.refusals(project, None, {"limit": "1"}), stale=True)

        def where(**changed: str) -> str:
            wanted = {"keys": "unknown" if unknown else "", "code": said.get("code", ""), **changed}
            wanted = {name: value for name, value in wanted.items() if value}
            return "/refusals" + (f"?{urlencode(wanted)}" if wanted else "")

        zone = parameters.zone(project)
        return self._render(
            "refusals.html",
            here="refusals",
            project=project,
            answer=answer,
            unknown=unknown,
            code=said.get("code", ""),
            links=links.counts,
            why=REFUSED,
            mend=MEND,
            where=where,
            when=lambda text: datetime.fromisoformat(text).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S"),
        )

    async def _people(self, request: Request, project: Project) -> Response:
        query = request.query_params
        if "distinct_id" in query:
            said = parameters.given(query, ("distinct_id",))
            actor = self._asker.actor(project.id, parameters.distinct_id(said))
            try:
                found = await self._asker.person(OnePerson(project=project.id, actor=actor), stale=True)
            except UnknownPersonError:
                raise UnknownPersonError(
                    "not_found", f"Nobody was seen under the id {said['distinct_id']} yet."
                ) from None
            return RedirectResponse(f"/people/{found.person.id}", 303)
        said = parameters.given(query, parameters.PEOPLE)
        question = parameters.people(project, said)
        segment = said.get("segment", "")
        if segment:
            answer = await self._crowd.people(project, parameters.people_of(project, said), stale=True)
        else:
            answer = await self._asker.people(question, stale=True)
        now = datetime.fromisoformat(answer.asked_at)
        zone = parameters.zone(project)
        kept = {
            name: value for name, value in said.items() if name in ("segment", "search", "identified", "sort", "limit")
        }

        def where(**changed: str | None) -> str:
            wanted = {name: value for name, value in {**kept, **changed}.items() if value}
            return "/people" + (f"?{urlencode(wanted)}" if wanted else "")

        by = order.read(question.sort).trait
        listed = [_listed(person, now, zone, first=by[0] if by else "") for person in answer.people]
        write_key = ""
        newcomer = (
            not answer.count
            and not segment
            and not question.search
            and question.identified is None
            and not answer.stored_until
        )
        if newcomer:
            write_key = await self._access.write_key(project.id) or "WRITE_KEY"
        return self._render(
            "people.html",
            project=project,
            question=question,
            answer=answer,
            people=listed,
            first=where(),
            next=where(cursor=answer.next) if answer.next else None,
            kinds=[
                ("Everyone", where(identified=None), question.identified is None),
                ("Identified", where(identified="true"), question.identified is True),
                ("Anonymous", where(identified="false"), question.identified is False),
            ],
            sorts=_SORTS,
            trait_sorts=_trait_sorts(question.sort, listed),
            segment=segment,
            segments=await self._names(project, segment),
            newcomer=newcomer,
            collector=self._collector,
            login=shlex.quote(f"{write_key}:"),
            script=_script(self._collector, write_key),
        )

    async def _names(self, project: Project, chosen: str) -> list[str]:
        """Segments to choose from; while Postgres is away, the page has only the one that is chosen."""
        try:
            names = [one.name for one in await self._shelf.segments(project.id)]
        except ControlError:
            names = []
        return names if not chosen or chosen in names else [*names, chosen]

    async def _segments(self, request: Request, project: Project) -> Response:
        said = parameters.given(request.query_params, ("archived",))
        archived = parameters.archived(said)
        zone = parameters.zone(project)
        kept = await self._shelf.segments(project.id, archived=archived)
        listed = [{"segment": one, "date": _date(one.updated_at, zone)} for one in kept]
        return self._render("segments.html", project=project, segments=listed, archived=archived)

    async def _segment(self, request: Request, project: Project) -> Response:
        parameters.given(request.query_params, ())
        name = str(request.path_params["name"])
        segment, versions, users = await self._shelf.segment_whole(project.id, name)
        asked = AskPeople(where=Condition(segment=segment.name), limit=PREVIEW)
        answer = await self._crowd.people(project, asked, stale=True)
        now = datetime.fromisoformat(answer.asked_at)
        zone = parameters.zone(project)
        return self._render(
            "segment.html",
            project=project,
            segment=segment,
            rule=_json(segment.rule) if segment.rule is not None else "",
            users=users,
            versions=[
                {"version": one, "time": _moment(one.at, zone), "rule": _json(one.rule) if one.rule else ""}
                for one in versions
            ],
            answer=answer,
            people=[_listed(person, now, zone) for person in answer.people],
        )

    async def _timeline(self, request: Request, project: Project) -> Response:
        said = parameters.given(request.query_params, parameters.TIMELINE)
        asked = request.path_params["person"]
        question = parameters.timeline(project, parameters.person(asked), said)
        answer = await self._asker.timeline(question, stale=True)
        person = answer.person
        if person.id != asked:
            query = request.url.query
            return RedirectResponse(f"/people/{person.id}" + (f"?{query}" if query else ""), 303)
        now = datetime.fromisoformat(answer.asked_at)
        zone = parameters.zone(project)
        kept = {name: value for name, value in said.items() if name not in ("cursor", "stale")}

        def where(**changed: str | None) -> str:
            wanted = {name: value for name, value in {**kept, **changed}.items() if value}
            return f"/people/{person.id}" + (f"?{urlencode(wanted)}" if wanted else "")

        return self._render(
            "timeline.html",
            project=project,
            question=question,
            answer=answer,
            person=_headed(person, now, zone),
            said=said,
            filtered=any(said.get(name) for name in ("search", "event", "from", "to", "around", "before")),
            days=days([entry for entry in answer.entries if not isinstance(entry, SessionEntry)], now, zone),
            zone=zone.key,
            as_of=_moment(answer.as_of, zone) if answer.as_of else "",
            first=where(),
            turned=where(order="asc" if question.order == "desc" else None),
            cleared=f"/people/{person.id}",
            next=where(cursor=answer.next) if answer.next else None,
        )

    # -- which ids are one person --------------------------------------------------------------------------------------

    async def _why(self, request: Request, project: Project) -> Response:
        question = parameters.explain(project, parameters.given(request.query_params, parameters.EXPLAIN))
        answer = await self._asker.explain(question)
        return self._render(
            "why.html",
            project=project,
            answer=answer,
            steps=_steps(answer, parameters.zone(project)),
            back=f"/people/{answer.person}",
        )

    async def _preview_unlink(self, request: Request, project: Project) -> Response:
        said = parameters.given(request.query_params, ("distinct_id", "a", "b"))
        question = parameters.unlink_of(project, said, dry_run=True)
        answer = await self._asker.unlink(question)
        now = datetime.fromisoformat(answer.asked_at)
        zone = parameters.zone(project)
        return self._render(
            "unlink.html",
            project=project,
            question=question,
            persons=[_headed(person, now, zone) for person in answer.persons],
            removed=[_link(link, zone) for link in answer.removed],
            left_out=[_link(link, zone) for link in answer.left_out],
            said=said,
            back=f"/people/{_same(request)}",
        )

    async def _unlink(self, request: Request, project: Project) -> Response:
        back = f"/people/{_same(request)}"
        said = parameters.form(await body(request, FORM), ("distinct_id", "a", "b"))
        await self._asker.unlink(parameters.unlink_of(project, said))
        return RedirectResponse(back, 303)

    async def _preview_merge(self, request: Request, project: Project) -> Response:
        question = parameters.merge_of(project, parameters.given(request.query_params, parameters.EXPLAIN))
        found = []
        for id_ in (question.a, question.b):
            actor = self._asker.actor(project.id, id_)
            try:
                found.append(await self._asker.person(OnePerson(project=project.id, actor=actor)))
            except UnknownPersonError:
                raise UnknownPersonError("not_found", f"Nobody was seen under the id {id_} yet.") from None
        now = datetime.fromisoformat(found[0].asked_at)
        zone = parameters.zone(project)
        persons = [_headed(one.person, now, zone) for one in found]
        return self._render(
            "merge.html",
            project=project,
            question=question,
            persons=persons,
            one=found[0].person.id == found[1].person.id,
            users=all(one.person.user_ids for one in found),
            back=f"/people/{_same(request)}",
        )

    async def _merge(self, request: Request, project: Project) -> Response:
        said = parameters.form(await body(request, FORM), parameters.EXPLAIN)
        answer = await self._asker.merge(parameters.merge_of(project, said))
        return RedirectResponse(f"/people/{answer.person.id}", 303)


_TITLES = {"not_found": "Nobody by that id", "unknown_id": "Nobody by that id", "not_linked": "Not one person"}


def _json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def _same(request: Request) -> str:
    """The person in the path, as one of our own addresses."""
    return person_text(parameters.person(request.path_params["person"]))


def _steps(answer: ExplainAnswer, zone: ZoneInfo) -> list[dict[str, Any]]:
    """The way from a to b: each link, and the id that it leads to."""
    steps = []
    here = answer.a
    for link in answer.links:
        here = (link.b if here == link.a else link.a) or ""
        steps.append({**_link(link, zone), "to": here})
    return steps


def _link(link: Link, zone: ZoneInfo) -> dict[str, Any]:
    return {"link": link, "said": _CALLS.get(link.call, link.call), "time": _moment(link.occurred_at, zone)}


_CALLS = {
    "identify": "an identify call",
    "alias": "an alias call",
    "event": "an event with both ids",
    "merge": "merged by hand",
}


AnyEntry = EventEntry | TraitsEntry | LinkEntry


def days(entries: Sequence[AnyEntry], now: datetime, zone: ZoneInfo) -> list[Day]:
    """A page's entries, grouped for the eye; their order stays."""
    found: list[Day] = []
    lanes: dict[tuple[str, str], int] = {}
    run: Run | None = None
    last: tuple[tuple[str, str], datetime] | None = None
    for entry in entries:
        at = datetime.fromisoformat(entry.occurred_at).astimezone(zone)
        date = at.date().isoformat()
        if not found or found[-1].date != date:
            found.append(Day(date, _day(at, now.astimezone(zone)), []))
            run = last = None
        shown = _shown(entry, at)
        if isinstance(entry, LinkEntry) and run is not None and _says_nothing_new(entry):
            run.entries.append(shown)  # as a page does that identifies on each view
            continue
        if isinstance(entry, LinkEntry) and not _says_nothing_new(entry):
            found[-1].runs.append(Run(0, "", "", [], shown))
            run = last = None
            continue
        lane = _lane(entry)
        pause = last is None or abs((at - last[1]).total_seconds()) > IDLE_MINUTES_MAX * 60
        if run is None or last is None or last[0] != lane or (pause and lane[0] != "session"):
            number_ = lanes.setdefault(lane, len(lanes) % LANES + 1)
            run = Run(number_, _lane_label(entry), _lane_detail(entry), [])
            found[-1].runs.append(run)
        run.entries.append(shown)
        last = lane, at
    return found


def _says_nothing_new(entry: LinkEntry) -> bool:
    return entry.again or (entry.b is None and entry.call == "identify" and entry.refused is None)


def _lane(entry: AnyEntry) -> tuple[str, str]:
    """What tells one device or session from another."""
    if entry.session_id:
        return "session", entry.session_id
    if entry.platform == "server":
        return "server", ""
    return entry.platform or "", entry.anonymous_id or entry.user_id or ""


def _lane_label(entry: AnyEntry) -> str:
    return {"web": "Web", "mobile": "Mobile", "server": "Server"}.get(entry.platform or "", "Unknown platform")


def _lane_detail(entry: AnyEntry) -> str:
    if entry.session_id:
        return f"session {entry.session_id}"
    return entry.anonymous_id or entry.user_id or ""


def _shown(entry: AnyEntry, at: datetime) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "entry": entry,
        "type": entry.type,
        "time": at.strftime("%H:%M:%S"),
        "exact": entry.occurred_at,
    }
    if isinstance(entry, EventEntry):
        name = " ".join(entry.event[:60].split())
        shown["name"] = name or "(no name)"
        shown["facts"] = entry.summary[len(name) :].strip() if entry.summary.startswith(name) else entry.summary
        shown["properties"] = _rows(entry.properties)
        shown["context"] = _rows(entry.context)
        shown["place"] = ", ".join(part for part in (entry.city, entry.region, entry.country) if part)
    elif isinstance(entry, TraitsEntry):
        shown["changes"] = [
            (key, _value(change.before), _value(change.after), bytes(change.before) != bytes(change.after))
            for key, change in entry.changes.items()
        ]
    else:
        shown["why"] = REFUSED.get(entry.refused or "", entry.refused or "")
    return shown


def _rows(json: msgspec.Raw) -> list[tuple[str, str]]:
    """An object's members as (key, text)."""
    try:
        members = msgspec.json.decode(json, type=dict[str, msgspec.Raw])
    except msgspec.MsgspecError:
        return []
    return [(key, _value(value) or "null") for key, value in members.items()]


def _value(json: msgspec.Raw) -> str | None:
    """A JSON value as a person reads it: text without quotes, the rest as JSON; None for null."""
    value = msgspec.json.decode(json)
    if value is None:
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, dict | list):
        return msgspec.json.format(msgspec.json.encode(value), indent=1).decode()
    return bytes(json).decode()


def _headed(person: Person, now: datetime, zone: ZoneInfo) -> dict[str, Any]:
    shown = _listed(person, now, zone)
    shown["ids"] = [
        {
            "id": one.id,
            "kind": one.kind,
            "since": _date(one.first_seen, zone),
            "since_at": one.first_seen,
            "since_exact": _moment(one.first_seen, zone),
            "last": _ago(one.last_seen, now),
            "last_exact": _moment(one.last_seen, zone),
        }
        for one in person.ids
    ]
    shown["traits"] = [(key, _value(value)) for key, value in person.traits.items()]
    return shown


def _trait_sorts(chosen: str, listed: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """(sort, label) by each trait that a page shows, those of most people first; and the one that is chosen."""
    keys = Counter(key for one in listed for key, _ in one["glance"] if 0 < len(key) <= TEXT_LENGTH_MAX)
    found = []
    for key, _ in sorted(keys.items(), key=lambda item: (-item[1], item[0])):
        path = key if "." not in key and not key.startswith("[") else msgspec.json.encode([key]).decode()
        found += [(f"{TRAIT_SORT}{path}", f"{key}, ascending"), (f"-{TRAIT_SORT}{path}", f"{key}, descending")]
    if (trait := order.read(chosen).trait) and chosen not in dict(found):
        found.append((chosen, f"{'.'.join(trait)}, {'descending' if chosen.startswith('-') else 'ascending'}"))
    return found


def _listed(person: Person, now: datetime, zone: ZoneInfo, first: str = "") -> dict[str, Any]:
    """`first`: the trait to show before all others."""
    traits = {key: _value(value) or "" for key, value in person.traits.items()}
    name = next((traits[key] for key in ("name", "Name", "username", "email") if traits.get(key, "").strip()), "")
    title = name or person.user_id or (person.ids[0].id if person.ids else person.id)
    glance = [(key, value) for key, value in traits.items() if value and len(value) <= 60 and value != name]
    glance = sorted(glance, key=lambda item: item[0] != first)[:4]
    return {
        "person": person,
        "title": title,
        "others": [one.id for one in person.ids if one.id != title][:3],
        "subtitle": person.user_id if person.user_id and person.user_id != title else "",
        "initial": next((letter.upper() for letter in title if letter.isalnum()), "·"),
        "tint": int(person.id[2:], 16) % LANES + 1,
        "identified": bool(person.user_ids),
        "glance": glance,
        "more": max(0, len(traits) - len(glance) - (1 if name else 0)),
        "first_seen": _ago(person.first_seen, now),
        "first_exact": _moment(person.first_seen, zone),
        "last_seen": _ago(person.last_seen, now),
        "last_exact": _moment(person.last_seen, zone),
    }


def _moment(text: str, zone: ZoneInfo) -> str:
    return f"{_date(text, zone)}, {datetime.fromisoformat(text).astimezone(zone):%H:%M}"


def _date(text: str, zone: ZoneInfo) -> str:
    at = datetime.fromisoformat(text).astimezone(zone)
    return f"{at.day} {at:%b %Y}"


def _ago(text: str, now: datetime) -> str:
    seconds = (now - datetime.fromisoformat(text)).total_seconds()
    if seconds < -60:
        return "in the future"
    for unit, word in ((86_400 * 365, "y"), (86_400 * 30, "mo"), (86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{int(seconds // unit)} {word} ago"
    return "just now"


def _day(at: datetime, now: datetime) -> str:
    text = f"{at:%A}, {at.day} {at:%B %Y}"
    apart = (now.date() - at.date()).days
    return f"Today · {text}" if apart == 0 else f"Yesterday · {text}" if apart == 1 else text


def _script(collector: str, write_key: str) -> str:
    """What a web page needs so that its visitors are seen, as its author pastes it."""
    return (
        "<script>window.pugd=window.pugd||function(){(pugd.q=pugd.q||[]).push(arguments)}</script>\n"
        f'<script src="{escape(collector)}/pugd.js" data-key="{escape(write_key)}" async></script>'
    )


def number(value: int) -> str:
    """12345 → 12 345, with narrow spaces that do not break."""
    return f"{value:,}".replace(",", "\u202f")
