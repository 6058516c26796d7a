"""The API for programs: questions by GET, what is to be done by POST with a JSON body, answers and errors as JSON.

An error is `{"error": {"code", "message", "field"}}`: a stable code, what is wrong and how to mend it, and which
parameter or field it was, or null.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pugd import errors
from pugd.ask import JOURNEYS, AnyAsked, AskPeople, AskTimeline
from pugd.errors import CollectorAwayError, ControlError, StoreError, StoreUnavailableError
from pugd.journeys import AnyJourneyAnswer
from pugd.kept import NOT_KEPT, ChangedProject, KeptError
from pugd.model import Project
from pugd.question import AnyAnswer, IdentityError, OnePerson, QuestionError, UnknownPersonError
from pugd.schema import SchemaAnswer
from pugd.web import parameters
from pugd.web.access import Access, Asker, Crowd
from pugd.web.login import ElsewhereError, NotAllowedError, asking
from pugd.web.turns import BusyError, GoneError, unless_gone

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 5


class Error(msgspec.Struct, frozen=True):
    code: str
    message: str
    field: str | None = None


def routes(asker: Asker, access: Access, crowd: Crowd) -> list[Route]:
    """The API's paths."""

    async def people(request: Request, project: Project) -> AnyAnswer:
        if "distinct_id" in request.query_params:
            said = parameters.given(request.query_params, parameters.ONE)
            actor = asker.actor(project.id, parameters.distinct_id(said))
            question = OnePerson(project=project.id, actor=actor, as_of=parameters.as_of(project, said))
            return await _of_id(asker.person(question, stale=parameters.stale(said)))
        said = parameters.given(request.query_params, parameters.PEOPLE)
        stale = parameters.stale(said)
        if "segment" in said:
            return await crowd.people(project, parameters.people_of(project, said), stale=stale)
        return await asker.people(parameters.people(project, said), stale=stale)

    async def person(request: Request, project: Project) -> AnyAnswer:
        said = parameters.given(request.query_params, parameters.PERSON)
        actor = parameters.person(request.path_params["person"])
        question = OnePerson(project=project.id, actor=actor, as_of=parameters.as_of(project, said))
        return await asker.person(question, stale=parameters.stale(said))

    async def timeline(request: Request, project: Project) -> AnyAnswer:
        said = parameters.given(request.query_params, parameters.TIMELINE)
        question = parameters.timeline(project, parameters.person(request.path_params["person"]), said)
        return await asker.timeline(question, stale=parameters.stale(said))

    async def timeline_of_id(request: Request, project: Project) -> AnyAnswer:
        said = parameters.given(request.query_params, ("distinct_id", *parameters.TIMELINE))
        actor = asker.actor(project.id, parameters.distinct_id(said))
        question = parameters.timeline(project, actor, said)
        return await _of_id(asker.timeline(question, stale=parameters.stale(said)))

    async def explain(request: Request, project: Project) -> AnyAnswer:
        return await asker.explain(
            parameters.explain(project, parameters.given(request.query_params, parameters.EXPLAIN))
        )

    async def refusals(request: Request, project: Project) -> AnyAnswer:
        said = parameters.given(request.query_params, parameters.REFUSALS)
        actor = asker.actor(project.id, parameters.distinct_id(said)) if "distinct_id" in said else None
        return await _of_id(asker.refusals(parameters.refusals(project, actor, said), stale=parameters.stale(said)))

    async def refused_events(request: Request, project: Project) -> AnyAnswer:
        said = parameters.given(request.query_params, parameters.REFUSED_EVENTS)
        return await asker.refused_events(parameters.refused_events(project, said))

    async def unlink(request: Request, project: Project) -> AnyAnswer:
        return await asker.unlink(parameters.unlink(project, await json_body(request)))

    async def merge(request: Request, project: Project) -> AnyAnswer:
        return await asker.merge(parameters.merge(project, await json_body(request)))

    async def schema(request: Request, project: Project) -> SchemaAnswer:
        said = parameters.given(request.query_params, parameters.SCHEMA)
        question = parameters.schema(project, said)
        return await unless_gone(request, lambda: asker.schema(question, stale=parameters.stale(said)))

    async def ask_people(request: Request, project: Project) -> AnyAnswer:
        stale = parameters.stale(parameters.given(request.query_params, parameters.ASK))
        asked = parameters.asked(await json_body(request), AskPeople)
        return await unless_gone(request, lambda: crowd.people(project, asked, stale=stale))

    async def ask_timeline(request: Request, project: Project) -> AnyAnswer:
        stale = parameters.stale(parameters.given(request.query_params, parameters.ASK))
        asked = parameters.asked(await json_body(request), AskTimeline)
        found = unless_gone(request, lambda: crowd.timeline(project, asked, stale=stale))
        return await (found if asked.distinct_id is None else _of_id(found))

    async def project_(request: Request, project: Project) -> Project:
        parameters.given(request.query_params, ())
        return project

    async def change_project(request: Request, project: Project) -> Project:
        parameters.given(request.query_params, ())
        changed = parameters.asked(await json_body(request), ChangedProject)
        return await access.change_zone(project.id, changed.time_zone)

    def journey(type_: type[AnyAsked]) -> Callable[[Request, Project], Awaitable[AnyJourneyAnswer]]:
        async def ask(request: Request, project: Project) -> AnyJourneyAnswer:
            stale = parameters.stale(parameters.given(request.query_params, parameters.ASK))
            asked = parameters.asked(await json_body(request), type_)
            return await unless_gone(request, lambda: crowd.journey(project, asked, stale=stale))

        return ask

    def answered(ask: Callable[[Request, Project], Awaitable[object]]) -> Callable[[Request], Awaitable[Response]]:
        return answering(access, ask)

    return [
        Route("/v1/project", **by_method(access, GET=project_, PUT=change_project)),
        Route("/v1/people", answered(people)),
        Route("/v1/people/{person}", answered(person)),
        Route("/v1/people/{person}/timeline", answered(timeline)),
        Route("/v1/timeline", answered(timeline_of_id)),
        Route("/v1/refusals", answered(refused_events)),
        Route("/v1/identity/explain", answered(explain)),
        Route("/v1/identity/refusals", answered(refusals)),
        Route("/v1/schema", answered(schema)),
        Route("/v1/identity/unlink", answered(unlink), methods=["POST"]),
        Route("/v1/identity/merge", answered(merge), methods=["POST"]),
        Route("/v1/ask/people", answered(ask_people), methods=["POST"]),
        Route("/v1/ask/timeline", answered(ask_timeline), methods=["POST"]),
        *(Route(f"/v1/ask/{kind}", answered(journey(type_)), methods=["POST"]) for kind, type_ in JOURNEYS.items()),
    ]


def answering(
    access: Access, ask: Callable[[Request, Project], Awaitable[object]]
) -> Callable[[Request], Awaitable[Response]]:
    """What answers a request of who may ask, or says what is wrong."""

    async def answer(request: Request) -> Response:
        try:
            project = await asking(request, access)
            with request.app.state.turns.taken(request):
                return said(200, await ask(request, project))
        except Exception as error:  # noqa: BLE001  `failed` raises again what is not known
            return failed(error)

    return answer


def by_method(access: Access, **asks: Callable[[Request, Project], Awaitable[object]]) -> dict[str, Any]:
    """One path, several methods: so 405 says all that it takes."""
    answers = {method: answering(access, ask) for method, ask in asks.items()}

    async def answered(request: Request) -> Response:
        return await answers["GET" if request.method == "HEAD" else request.method](request)

    return {"endpoint": answered, "methods": list(asks)}


class BodyError(Exception):
    """A body that is not read."""

    def __init__(self, status: int, error: Error) -> None:
        super().__init__(error.message)
        self.status = status
        self.error = error


async def body(request: Request, type_: str) -> bytes:
    """The request's body, of the media type that is wanted and no longer than may be.

    raises   BodyError
    """
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != type_:
        raise BodyError(415, Error("unsupported_media_type", f"Send the body as {type_}."))
    found = bytearray()
    async for part in request.stream():
        found += part
        if len(found) > parameters.BODY_BYTES_MAX:
            raise BodyError(413, Error("too_large", f"A body may be at most {parameters.BODY_BYTES_MAX} bytes long."))
    return bytes(found)


async def json_body(request: Request) -> bytes:
    return await body(request, "application/json")


async def _of_id(asked: Awaitable[AnyAnswer]) -> AnyAnswer:
    try:
        return await asked
    except UnknownPersonError:
        raise UnknownPersonError(
            "not_found", "Nobody was seen under this distinct_id yet. Ids are compared byte for byte.", "distinct_id"
        ) from None


def said(status: int, answer: object, headers: dict[str, str] | None = None) -> Response:
    """A Struct as JSON."""
    return Response(msgspec.json.encode(answer), status, headers, media_type="application/json")


def explained(error: Exception) -> tuple[int, Error]:
    """The status and the words for what went wrong; raises it again where it is none of what may."""
    match error:
        case UnknownPersonError():
            return 404, Error(error.code, error.message, error.field)
        case KeptError():
            return (404 if error.code == NOT_KEPT else 409), Error(error.code, error.message, error.field)
        case IdentityError():
            return _STATUS.get(error.code, 400), Error(error.code, error.message, error.field)
        case QuestionError():
            return 400, Error(error.code, error.message, error.field)
        case NotAllowedError():
            return 401, Error("unauthorized", error.message)
        case ElsewhereError():
            return 403, Error("forbidden", error.message)
        case BodyError():
            return error.status, error.error
        case BusyError():
            return 429, Error("busy", str(error))
        case GoneError():
            return 499, Error("gone", "The connection was closed before the answer.")
        case StoreUnavailableError() | ControlError() | CollectorAwayError():
            log.warning("a question was not answered: %s", error)
            return 503, Error("unavailable", str(error))
        case StoreError():
            log.error("a question failed: %s", error)
            return 500, Error("store_failed", "ClickHouse refused this question. The keeper's log says why.")
        case _:
            raise error


_STATUS = {errors.UNKNOWN_ID: 404, errors.NOT_LINKED: 404, errors.TOO_MANY_IDS: 409}


def failed(error: Exception) -> Response:
    """What went wrong, as JSON."""
    status, words = explained(error)
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="pugd"'
    elif status == 503:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    elif status == 429:
        headers["Retry-After"] = "1"
    return said(status, {"error": words}, headers)
