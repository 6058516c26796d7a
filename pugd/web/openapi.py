"""The API as OpenAPI 3.1, for programs that make clients of it, and as a page: made of the Structs that requests are
decoded to and answers are encoded from, so neither can say what is not so. A test holds the list of paths to the
routes.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec

from pugd import __version__, ask, journeys, kept, question
from pugd.model import Project
from pugd.schema import SchemaAnswer
from pugd.web import kept as web_kept
from pugd.web import parameters
from pugd.web.api import Error

JSON = "application/json"
_EVENT = {"event": "order_completed"}
_RULE = {"did": {"event": "order_completed", "last": "30 d"}}


class ErrorAnswer(msgspec.Struct, frozen=True):
    """What is wrong, by a stable code, and which parameter or field it was."""

    error: Error


class UnlinkBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """Two ids, or one."""

    a: str | None = None
    b: str | None = None
    distinct_id: str | None = None
    """Instead of a and b: takes it away from all others."""
    dry_run: bool = False


class MergeBody(msgspec.Struct, frozen=True):
    """Two ids whose persons become one."""

    a: str
    b: str


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One path by one method."""

    method: str
    path: str
    summary: str
    query: tuple[str, ...] = ()
    body: Any = None
    """A type; None: no body."""
    answer: Any = None
    """A type, or several of which it is one; None: a table."""
    example: str | dict[str, Any] = ""
    """Of the query, as it stands after `?`, or of the body."""
    needed: tuple[str, ...] = ()
    """Parameters that must be given."""


def _post(
    path: str, summary: str, body: Any, answer: Any, example: dict[str, Any], query: tuple[str, ...] = ()
) -> Call:
    return Call(method="POST", path=path, summary=summary, body=body, answer=answer, example=example, query=query)


def _get(path: str, summary: str, answer: Any, query: tuple[str, ...] = (), example: str = "", *needed: str) -> Call:
    return Call(method="GET", path=path, summary=summary, answer=answer, query=query, example=example, needed=needed)


_ASKED: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "funnel": ("How many people come from step to step.", journeys.FunnelAnswer,
               {"steps": [{"event": "page_view"}, _EVENT], "last": "30 d"}),
    "retention": ("Of those who began together, how many came back when.", journeys.RetentionAnswer,
                  {"start": {"event": "signed_up"}, "period": "week"}),
    "flow": ("What people did next, or before.", journeys.FlowAnswer, {"of": {"event": "page_view"}, "steps": 3}),
    "sessions": ("Sessions, bounces, durations.", journeys.SessionsAnswer, {"interval": "day", "last": "7 d"}),
    "trend": ("How many events, people, or what their numbers come to, over time.", journeys.TrendAnswer,
              {"series": [{"event": "page_view", "measure": "people"}], "interval": "day", "last": "30 d"}),
    "top": ("The same by a value: pages, plans, names of events, people.", journeys.TopAnswer,
            {"by": {"field": "path"}, "of": {"event": "page_view"}}),
}  # fmt: skip

CALLS = (
    _get("/v1/people", "People, or one person by any of their ids.", (question.PeopleAnswer, question.PersonAnswer),
         (*parameters.PEOPLE, "distinct_id"), "sort=-last_seen&limit=10"),
    _get("/v1/people/{person}", "One person.", question.PersonAnswer, parameters.PERSON),
    _get("/v1/people/{person}/timeline", "One person's timeline.", question.TimelineAnswer, parameters.TIMELINE,
         "order=asc"),
    _get("/v1/people/{person}/segments", "Which segments somebody is in, and since when.", kept.MembershipsAnswer,
         parameters.ASK),
    _get("/v1/timeline", "One timeline, by any of the person's ids.", question.TimelineAnswer,
         ("distinct_id", *parameters.TIMELINE), "distinct_id=user_1", "distinct_id"),
    _get("/v1/refusals", "Which events were refused lately, and why.", question.RefusedEventsAnswer,
         parameters.REFUSED_EVENTS),
    _get("/v1/identity/explain", "Why two ids are one person.", question.ExplainAnswer, parameters.EXPLAIN,
         "a=visitor-1&b=user_1", "a", "b"),
    _get("/v1/identity/refusals", "Which links were refused.", question.RefusalsAnswer, parameters.REFUSALS),
    _post("/v1/identity/unlink", "Takes two ids of one person apart, or one from all others.", UnlinkBody,
          question.UnlinkAnswer, {"a": "visitor-1", "b": "user_1", "dry_run": True}),
    _post("/v1/identity/merge", "Makes the persons of two ids one.", MergeBody, question.MergeAnswer,
          {"a": "visitor-1", "b": "user_1"}),
    _get("/v1/project", "The project: its name and time zone.", Project),
    Call(method="PUT", path="/v1/project", summary="Gives it another time zone.", body=kept.ChangedProject,
         answer=Project, example={"time_zone": "Europe/Berlin"}),
    _get("/v1/schema", "What there is: events, properties, traits, contexts.", SchemaAnswer, parameters.SCHEMA,
         "event=order_completed"),
    *(_post(f"/v1/ask/{kind}", said, ask.JOURNEYS[kind], answer, example, parameters.ASK)
      for kind, (said, answer, example) in _ASKED.items()),
    _post("/v1/ask/people", "The people behind a number, or who meet a condition.", ask.AskPeople,
          question.PeopleAnswer, {"where": {"trait": "plan", "value": "pro"}}, parameters.ASK),
    _post("/v1/ask/timeline", "One person's timeline, of some events only.", ask.AskTimeline, question.TimelineAnswer,
          {"distinct_id": "user_1", "where": {"field": "event", "value": "page_view"}}, parameters.ASK),
    _post("/v1/export/people", "People as a table.", ask.ExportPeople, None,
          {"format": "csv", "traits": ["plan"]}, parameters.ASK),
    _post("/v1/export/events", "Events as a table.", ask.ExportEvents, None,
          {"of": _EVENT, "last": "7 d", "format": "jsonl"}, parameters.ASK),
    _get("/v1/segments", "Segments.", web_kept.Segments, web_kept.LIST, "archived=true"),
    _post("/v1/segments", "Makes one.", kept.NewSegment, kept.Segment, {"name": "buyers", "rule": _RULE}),
    _post("/v1/segments/preview", "Whom a rule means.", kept.Previewed, question.PeopleAnswer, {"rule": _RULE},
          parameters.ASK),
    _post("/v1/segments/snapshot", "Makes a fixed one of the people behind a number.", kept.NewFixedOfToken,
          kept.Segment, {"name": "those", "token": "eJw…"}),
    _get("/v1/segments/{name}", "One, with its versions and who uses it.", web_kept.WholeSegment),
    Call(method="PUT", path="/v1/segments/{name}", summary="Makes its next version.", body=kept.ChangedSegment,
         answer=kept.Segment, example={"description": "bought lately", "if_version": 1}),
    Call(method="DELETE", path="/v1/segments/{name}", summary="Deletes it, if nothing uses it.",
         answer=web_kept.Deleted),
    _get("/v1/segments/{name}/size", "How many people are in it.", kept.Size, parameters.ASK),
    _get("/v1/segments/{name}/people", "Its people.", question.PeopleAnswer, parameters.OF_SEGMENT, "limit=10"),
    _post("/v1/segments/{name}/snapshot", "Makes a fixed one of who is in it now.", kept.NewFixed, kept.Segment,
          {"name": "buyers in March"}),
    _get("/v1/questions", "Saved questions.", web_kept.SavedQuestions, web_kept.LIST),
    _post("/v1/questions", "Saves one.", kept.NewQuestion, kept.SavedQuestion,
          {"name": "views", "kind": "trend", "question": {"series": [{"event": "page_view"}]}}),
    _get("/v1/questions/{name}", "One, with its versions.", web_kept.WholeQuestion),
    Call(method="PUT", path="/v1/questions/{name}", summary="Makes its next version.", body=kept.ChangedQuestion,
         answer=kept.SavedQuestion, example={"archived": True}),
    Call(method="DELETE", path="/v1/questions/{name}", summary="Deletes it.", answer=web_kept.Deleted),
    *(Call(method=method, path="/v1/questions/{name}/answer", summary="Asks it now.",
           query=parameters.ANSWER_PEOPLE, answer=(*get_args(journeys.AnyJourneyAnswer), question.PeopleAnswer))
      for method in ("GET", "POST")),
)  # fmt: skip
"""Every path of the API but this one's own, which takes no key."""

_STATUSES = {
    400: "Something in the request is wrong, or the question is too costly; the code says which.",
    401: "No read key, or none that is in force.",
    403: "With a login, but from another site's page.",
    404: "Nobody or nothing of that name.",
    409: "It cannot be so, as things are.",
    413: "A body that is too large.",
    415: "A body that is not said to be JSON.",
    429: "As many questions of this key as may be are being answered. Again after `Retry-After`.",
    503: "ClickHouse is behind or away, Postgres or the collector is away. Again after `Retry-After`.",
}
_PARAMETERS = {
    "limit": {"type": "integer", "minimum": 1, "maximum": question.LIMIT_MAX, "default": question.LIMIT_DEFAULT},
    "sort": {
        "type": "string",
        "anyOf": [{"enum": list(question.SORTS)}, {"pattern": f"^-?{question.TRAIT_SORT}."}],
        "default": question.SORTS[0],
        "description": f"By a fact, or by a trait: `{question.TRAIT_SORT}plan`.",
    },
    "order": {"type": "string", "enum": list(question.ORDERS)},
    "identified": {"type": "boolean"},
    "archived": {"type": "boolean"},
    "stale": {"type": "string", "enum": ["ok"]},
}


@functools.cache
def document() -> bytes:
    """The whole, as JSON."""
    return msgspec.json.format(msgspec.json.encode(described()), indent=2)


_ASKS = frozenset((*ask.JOURNEYS.values(), ask.AskPeople, ask.Condition, ask.Selection))
"""These refer to themselves, and to nothing that could be one of several."""
_ENTRIES = (question.EventEntry, question.TraitsEntry, question.LinkEntry, question.SessionEntry)


def described() -> dict[str, Any]:
    """The whole, as OpenAPI has it."""
    asked = dict.fromkeys(one for call in CALLS for one in (call.body, *_answers(call)) if one is not None)
    types = [*asked, *_ENTRIES, ErrorAnswer]
    readable = [_readable(one) for one in types]
    schemas, components = msgspec.json.schema_components(readable, ref_template="#/components/schemas/{name}")
    schema_of = dict(zip(types, schemas, strict=True))
    for name, struct in _structs(readable).items():
        properties = components.get(name, {}).get("properties", {})
        for field, words in _field_docs(struct).items():
            if field in properties:
                properties[field] = {**properties[field], "description": words}
    paths: dict[str, dict[str, Any]] = {}
    for call in CALLS:
        paths.setdefault(call.path, {})[call.method.lower()] = _operation(call, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "pugd",
            "version": __version__,
            "description": "Questions about people and what they did. docs/questions.md says what each means, exactly.",
        },
        "servers": [{"url": "/"}],
        "security": [{"read_key": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "read_key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A read key: `pugd keys list` shows them.",
                }
            },
        },
    }


def _answers(call: Call) -> tuple[Any, ...]:
    if call.answer is None:
        return ()
    return call.answer if isinstance(call.answer, tuple) else (call.answer,)


@functools.cache
def _readable(type_: Any) -> Any:
    """The same type, where msgspec can describe it: what may be one of several Structs, which answers tell apart by
    their fields alone, is any of their schemas. `alternatives` are these."""
    origin = get_origin(type_)
    if origin in (Union, UnionType):
        structs = _alternatives(type_)
        if len(structs) < 2:
            return type_
        anyof = [{"$ref": f"#/components/schemas/{one.__name__}"} for one in structs]
        return Annotated[Any, msgspec.Meta(extra_json_schema={"anyOf": anyof})]
    if origin is list:
        (item,) = get_args(type_)
        readable = _readable(item)
        return type_ if readable == item else list[readable]  # type: ignore[valid-type]
    if not (isinstance(type_, type) and issubclass(type_, msgspec.Struct)) or type_ in _ASKS:
        return type_
    hints = get_type_hints(type_, include_extras=True)
    fields = []
    for field in msgspec.structs.fields(type_):
        made = msgspec.field(name=field.encode_name)
        if not field.required:
            made = msgspec.field(
                name=field.encode_name, default=field.default if field.default_factory is msgspec.NODEFAULT else None
            )
        fields.append((field.name, _readable(hints[field.name]), made))
    if all(hint == hints[name] for name, hint, _ in fields):
        return type_
    return msgspec.defstruct(
        type_.__name__, fields, module=type_.__module__, namespace={"__doc__": type_.__doc__}, kw_only=True
    )


def _alternatives(type_: Any) -> list[type[msgspec.Struct]]:
    return [one for one in get_args(type_) if isinstance(one, type) and issubclass(one, msgspec.Struct)]


def _operation(call: Call, schema_of: dict[Any, Any]) -> dict[str, Any]:
    inside = [part.strip("{}") for part in call.path.split("/") if part.startswith("{")]
    given = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in inside]
    given += [
        {
            "name": name,
            "in": "query",
            "required": name in call.needed,
            "schema": _PARAMETERS.get(name, {"type": "string"}),
        }
        for name in call.query
    ]
    if not _answers(call):
        content: dict[str, Any] = {
            type_: {"schema": {"type": "string", "format": "binary"}}
            for type_ in ("text/csv", "application/jsonl", "application/vnd.apache.parquet")
        }
    else:
        found = [schema_of[one] for one in _answers(call)]
        content = {JSON: {"schema": found[0] if len(found) == 1 else {"anyOf": found}}}
    wrong = {JSON: {"schema": schema_of[ErrorAnswer]}}
    operation: dict[str, Any] = {
        "operationId": f"{call.method.lower()}{call.path.removeprefix('/v1').translate(_ID)}",
        "summary": call.summary,
        "parameters": given,
        "responses": {
            "200": {"description": "The answer.", "content": content},
            **{str(status): {"description": words, "content": wrong} for status, words in _STATUSES.items()},
        },
    }
    if call.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {JSON: {"schema": schema_of[call.body], "example": call.example}},
        }
    return operation


_ID = str.maketrans({"/": "_", "{": "", "}": ""})


def anchor(call: Call) -> str:
    """Where the page says it: `post-v1-segments`."""
    return f"{call.method.lower()}{call.path.translate(_ANCHOR)}"


_ANCHOR = str.maketrans({"/": "-", "{": "", "}": ""})


def curl(call: Call) -> str:
    """The call, as a line for a shell."""
    path = call.path.replace("{person}", "p_a3009df47834d44e").replace("{name}", "buyers")
    parts = ["curl", '-H "Authorization: Bearer $READ_KEY"']
    if call.method != "GET" and not (call.method == "POST" and call.body is not None):
        parts.append(f"-X {call.method}")
    if call.body is not None:
        parts += [f"-H 'Content-Type: {JSON}'", f"-d '{msgspec.json.encode(call.example).decode()}'"]
    query = f"?{call.example}" if isinstance(call.example, str) and call.example else ""
    return " ".join([*parts, f"'http://127.0.0.1:7081{path}{query}'"])


def fields(type_: Any) -> list[tuple[str, str, str]]:
    """(name, type, meaning) of each field of a body."""
    schema = msgspec.json.schema_components([type_])[1][type_.__name__]
    words = _field_docs(type_)
    required = schema.get("required", [])
    return [
        (name, _type_in_words(one) + (", needed" if name in required else ""), words.get(name, ""))
        for name, one in schema["properties"].items()
    ]


def _type_in_words(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type_in_words(one) for one in schema["anyOf"]))
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if schema.get("type") == "array":
        items = schema.get("items")
        return f"list of {_type_in_words(items)}" if isinstance(items, dict) and items else "list"
    return str(schema.get("type", "any"))


def _structs(types: list[Any]) -> dict[str, type[msgspec.Struct]]:
    """Every Struct that these types are made of, by name."""
    found: dict[str, type[msgspec.Struct]] = {}

    def look(one: msgspec.inspect.Type) -> None:
        if isinstance(one, msgspec.inspect.StructType):
            if one.cls.__name__ in found:
                return
            found[one.cls.__name__] = one.cls
            for field in one.fields:
                look(field.type)
        for name in ("item_type", "key_type", "value_type"):
            if isinstance(inner := getattr(one, name, None), msgspec.inspect.Type):
                look(inner)
        for inner in (*getattr(one, "types", ()), *getattr(one, "item_types", ())):
            look(inner)

    for type_ in types:
        look(msgspec.inspect.type_info(type_))
    return found


@functools.cache
def _field_docs(struct: type[msgspec.Struct]) -> dict[str, str]:
    """What stands under each field in the source, its bases' too, by the field's name on the wire."""
    named = {field.name: field.encode_name for field in msgspec.structs.fields(struct)}
    found: dict[str, str] = {}
    for base in reversed(struct.__mro__):
        module = sys.modules.get(base.__module__)
        if module is None or not base.__module__.startswith("pugd."):
            continue
        found |= {
            named[name]: words for name, words in _source_docs(module.__name__, base.__name__).items() if name in named
        }
    return found


@functools.cache
def _source_docs(module: str, name: str) -> dict[str, str]:
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    found: dict[str, str] = {}
    for node in tree.body:
        if not isinstance(node, ast.ClassDef) or node.name != name:
            continue
        for field, after in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
                and isinstance(after.value.value, str)
            ):
                found[field.target.id] = inspect.cleandoc(after.value.value)
    return found
