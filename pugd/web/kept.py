"""The API of what is kept by name: segments and saved questions. Each change is checked by compiling it before it is
kept, and the error names the field."""

from __future__ import annotations

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.routing import Route

from pugd.ask import AnyAsked, AskPeople, Condition
from pugd.control.shelf import Shelf
from pugd.journeys import AnyJourneyAnswer
from pugd.kept import (
    PREVIEW,
    QUESTIONS,
    ChangedQuestion,
    ChangedSegment,
    MembershipsAnswer,
    NewFixed,
    NewFixedOfToken,
    NewQuestion,
    NewSegment,
    Previewed,
    SavedQuestion,
    Segment,
    Size,
    Users,
    Version,
    check_name,
)
from pugd.model import Project
from pugd.question import PeopleAnswer, QuestionError
from pugd.web import parameters
from pugd.web.access import Access, Crowd
from pugd.web.api import answering, by_method, json_body
from pugd.web.login import who

LIST = ("archived",)


class Segments(msgspec.Struct, frozen=True):
    segments: list[Segment]


class WholeSegment(msgspec.Struct, frozen=True):
    segment: Segment
    used_by: Users
    versions: list[Version]


class SavedQuestions(msgspec.Struct, frozen=True):
    questions: list[SavedQuestion]


class WholeQuestion(msgspec.Struct, frozen=True):
    question: SavedQuestion
    versions: list[Version]


class Deleted(msgspec.Struct, frozen=True):
    deleted: str


def routes(access: Access, crowd: Crowd, shelf: Shelf) -> list[Route]:
    """The API's paths for them."""

    # -- segments ------------------------------------------------------------------------------------------------------

    async def segments(request: Request, project: Project) -> Segments:
        said = parameters.given(request.query_params, LIST)
        return Segments(await shelf.segments(project.id, archived=parameters.archived(said)))

    async def create(request: Request, project: Project) -> Segment:
        made = parameters.asked(await _body(request), NewSegment)
        check_name(made.name)
        await crowd.check_rule(project, made.name, made.rule)
        return await shelf.create_segment(project.id, made, who(request))

    async def segment(request: Request, project: Project) -> WholeSegment:
        parameters.given(request.query_params, ())
        found, versions, users = await shelf.segment_whole(project.id, _name(request))
        return WholeSegment(found, users, versions)

    async def change(request: Request, project: Project) -> Segment:
        changed = parameters.asked(await _body(request), ChangedSegment)
        if changed.rule is not UNSET:
            await crowd.check_rule(project, _name(request), changed.rule)
        return await shelf.change_segment(project.id, _name(request), changed, who(request))

    async def delete(request: Request, project: Project) -> Deleted:
        parameters.given(request.query_params, ())
        await shelf.delete_segment(project.id, _name(request))
        return Deleted(_name(request))

    async def preview(request: Request, project: Project) -> PeopleAnswer:
        stale = parameters.stale(parameters.given(request.query_params, parameters.ASK))
        rule = parameters.asked(await json_body(request), Previewed).rule
        await crowd.check_rule(project, "", rule)
        return await crowd.people(project, AskPeople(where=rule, limit=PREVIEW), stale=stale)

    async def size(request: Request, project: Project) -> Size:
        stale = parameters.stale(parameters.given(request.query_params, parameters.ASK))
        name = (await shelf.segment(project.id, _name(request))).name
        return await crowd.size(project, Condition(segment=name), stale=stale)

    async def people(request: Request, project: Project) -> PeopleAnswer:
        said = parameters.given(request.query_params, parameters.OF_SEGMENT)
        name = (await shelf.segment(project.id, _name(request))).name
        return await crowd.people(project, parameters.people_of(project, said, name), stale=parameters.stale(said))

    async def snapshot(request: Request, project: Project) -> Segment:
        made = parameters.asked(await _body(request), NewFixed)
        check_name(made.name)
        name = (await shelf.segment(project.id, _name(request))).name
        actors = await crowd.ids(project, AskPeople(where=Condition(segment=name)))
        return await shelf.create_fixed(project.id, made, actors, who(request))

    async def snapshot_of_token(request: Request, project: Project) -> Segment:
        made = parameters.asked(await _body(request), NewFixedOfToken)
        check_name(made.name)
        actors = await crowd.ids(project, AskPeople(token=made.token))
        return await shelf.create_fixed(project.id, made, actors, who(request))

    async def of_person(request: Request, project: Project) -> MembershipsAnswer:
        stale = parameters.stale(parameters.given(request.query_params, parameters.ASK))
        actor = parameters.person(request.path_params["person"])
        return await crowd.memberships(project, actor, await shelf.segments(project.id, archived=True), stale=stale)

    # -- saved questions -----------------------------------------------------------------------------------------------

    async def questions(request: Request, project: Project) -> SavedQuestions:
        said = parameters.given(request.query_params, LIST)
        return SavedQuestions(await shelf.questions(project.id, archived=parameters.archived(said)))

    async def create_question(request: Request, project: Project) -> SavedQuestion:
        made = parameters.asked(await _body(request), NewQuestion)
        check_name(made.name)
        asked = _question(made.kind, made.question)
        await _check(project, asked)
        return await shelf.create_question(project.id, made.name, made.description, asked, who(request))

    async def question(request: Request, project: Project) -> WholeQuestion:
        parameters.given(request.query_params, ())
        return WholeQuestion(*await shelf.question_whole(project.id, _name(request)))

    async def change_question(request: Request, project: Project) -> SavedQuestion:
        changed = parameters.asked(await _body(request), ChangedQuestion)
        asked: AnyAsked | AskPeople | msgspec.UnsetType = UNSET
        if changed.question is not UNSET:
            kind = changed.kind
            if kind is UNSET:
                found = (await shelf.question(project.id, _name(request))).question
                kind = next(kind for kind, type_ in QUESTIONS.items() if type(found) is type_)
            asked = _question(kind, changed.question)
            await _check(project, asked)
        elif changed.kind is not UNSET:
            raise QuestionError(
                "missing_field", "question: is missing: a new kind goes with a new question.", "question"
            )
        return await shelf.change_question(
            project.id, _name(request), description=changed.description, archived=changed.archived, asked=asked,
            if_version=changed.if_version, by=who(request),
        )  # fmt: skip

    async def delete_question(request: Request, project: Project) -> Deleted:
        parameters.given(request.query_params, ())
        await shelf.delete_question(project.id, _name(request))
        return Deleted(_name(request))

    async def answer(request: Request, project: Project) -> AnyJourneyAnswer | PeopleAnswer:
        found = (await shelf.question(project.id, _name(request))).question
        if isinstance(found, AskPeople):
            said = parameters.given(request.query_params, parameters.ANSWER_PEOPLE)
            asked = msgspec.structs.replace(found, cursor=said.get("cursor"), limit=parameters.limit(said, found.limit))
            return await crowd.people(project, asked, stale=parameters.stale(said))
        stale = parameters.stale(parameters.given(request.query_params, parameters.ASK))
        return await crowd.journey(project, found, stale=stale)

    async def _check(project: Project, asked: AnyAsked | AskPeople) -> None:
        try:
            await crowd.check_question(project, asked)
        except QuestionError as error:
            field = f"question.{error.field}" if error.field else "question"
            raise QuestionError(error.code, f"question.{error.message}", field) from None

    return [
        Route("/v1/segments", **by_method(access, GET=segments, POST=create)),
        Route("/v1/segments/preview", answering(access, preview), methods=["POST"]),
        Route("/v1/segments/snapshot", answering(access, snapshot_of_token), methods=["POST"]),
        Route("/v1/segments/{name}", **by_method(access, GET=segment, PUT=change, DELETE=delete)),
        Route("/v1/segments/{name}/size", answering(access, size)),
        Route("/v1/segments/{name}/people", answering(access, people)),
        Route("/v1/segments/{name}/snapshot", answering(access, snapshot), methods=["POST"]),
        Route("/v1/people/{person}/segments", answering(access, of_person)),
        Route("/v1/questions", **by_method(access, GET=questions, POST=create_question)),
        Route("/v1/questions/{name}", **by_method(access, GET=question, PUT=change_question, DELETE=delete_question)),
        Route("/v1/questions/{name}/answer", **by_method(access, GET=answer, POST=answer)),
    ]


def _name(request: Request) -> str:
    return str(request.path_params["name"])


async def _body(request: Request) -> bytes:
    parameters.given(request.query_params, ())
    return await json_body(request)


def _question(kind: str, question: msgspec.Raw) -> AnyAsked | AskPeople:
    """raises   QuestionError that names the field"""
    if kind not in QUESTIONS:
        raise QuestionError("invalid_field", f"kind: must be one of {', '.join(QUESTIONS)}.", "kind")
    asked = parameters.asked(bytes(question), QUESTIONS[kind], "question")
    if isinstance(asked, AskPeople) and asked.cursor is not None:
        raise QuestionError(
            "invalid_field", "question.cursor: is of one answer: give it when you ask.", "question.cursor"
        )
    return asked
