"""The pages: who is there, one person's timeline, and why, with whom and whether ids are one person. They ask what the
API asks, and show it: shown.py says how, templates/ where. All that strangers wrote is escaped by the templates, and
nothing on a page is a script.

What changes something is asked twice: a page that shows what would become of it, and its button, a POST that only our
own pages may send.
"""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

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
from pugd.question import OnePerson, SessionEntry, UnknownPersonError
from pugd.web import login, openapi, parameters, shown
from pugd.web.access import Access, Asker, Crowd
from pugd.web.api import body, explained
from pugd.web.login import NotAllowedError, asking

FORM = "application/x-www-form-urlencoded"

_SORTS = (
    ("-last_seen", "Last seen"),
    ("last_seen", "Longest away"),
    ("-first_seen", "Newest"),
    ("first_seen", "Oldest"),
    ("-events", "Most events"),
    ("events", "Fewest events"),
)


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
        self._templates.globals.update(number=shown.number, quote=lambda text: quote(text, safe=""))

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
        async def answered(request: Request) -> Response:
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

        return answered

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
            why=shown.REFUSED,
            mend=shown.MEND,
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
        listed = [shown.listed(person, now, zone, first=by[0] if by else "") for person in answer.people]
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
            trait_sorts=shown.trait_sorts(question.sort, listed),
            segment=segment,
            segments=await self._names(project, segment),
            newcomer=newcomer,
            collector=self._collector,
            login=shlex.quote(f"{write_key}:"),
            script=shown.script(self._collector, write_key),
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
        listed = [{"segment": one, "date": shown.date(one.updated_at, zone)} for one in kept]
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
            rule=shown.as_json(segment.rule) if segment.rule is not None else "",
            users=users,
            versions=[
                {
                    "version": one,
                    "time": shown.moment(one.at, zone),
                    "rule": shown.as_json(one.rule) if one.rule else "",
                }
                for one in versions
            ],
            answer=answer,
            people=[shown.listed(person, now, zone) for person in answer.people],
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
            person=shown.headed(person, now, zone),
            said=said,
            filtered=any(said.get(name) for name in ("search", "event", "from", "to", "around", "before")),
            days=shown.days([entry for entry in answer.entries if not isinstance(entry, SessionEntry)], now, zone),
            zone=zone.key,
            as_of=shown.moment(answer.as_of, zone) if answer.as_of else "",
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
            steps=shown.steps(answer, parameters.zone(project)),
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
            persons=[shown.headed(person, now, zone) for person in answer.persons],
            removed=[shown.link(link, zone) for link in answer.removed],
            left_out=[shown.link(link, zone) for link in answer.left_out],
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
        persons = [shown.headed(one.person, now, zone) for one in found]
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


def _same(request: Request) -> str:
    """The person in the path, as one of our own addresses."""
    return person_text(parameters.person(request.path_params["person"]))
