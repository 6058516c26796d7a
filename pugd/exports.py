"""Tables of people and of events, written by ClickHouse and handed on piece by piece, whatever their length.

An export reads as a question does: at one place of the link log, with what was acked before it. It is opened before
anything is answered, so what is wrong with it is told as with any question; what goes wrong later ends the answer
before its end, which HTTP shows. Closing it, at any time, stops ClickHouse.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pugd import ask
from pugd.answer import Answer
from pugd.everyone import Everyone
from pugd.limits import refusing
from pugd.model import Project
from pugd.query import export, meaning, times
from pugd.query.conditions import ALWAYS, All, Whose
from pugd.query.sql import Sql, plan
from pugd.query.values import TEXT_LENGTH_MAX, invalid

FORMS = {ask.CSV: "CSV", ask.JSONL: "JSONEachRow", ask.PARQUET: "Parquet"}
"""As ClickHouse calls them; of CSV the first line is ours, since it writes one only to what it holds whole."""
MEDIA_TYPES = {
    ask.CSV: "text/csv; charset=utf-8; header=present",
    ask.JSONL: "application/jsonl",
    ask.PARQUET: "application/vnd.apache.parquet",
}
SETTINGS: dict[str, int | str] = {
    "date_time_output_format": "iso",
    "format_csv_null_representation": "",
    "output_format_json_quote_64bit_integers": 0,
    "output_format_parquet_string_as_string": 1,
    "output_format_parquet_row_group_size": 65_536,
    "join_algorithm": "grace_hash,hash",  # what is joined goes beside memory where it does not fit
}
_PLAIN_KEY = re.compile(r"[^\x00-\x1f\x7f\"'`\\]+")
"""Trait keys that can be a column's name wherever ClickHouse writes it."""


class Stream(Protocol):
    """`store.clickhouse.Stream`."""

    async def read(self) -> bytes: ...

    async def close(self) -> None: ...


class Streamer(Protocol):
    """`store.clickhouse.Store`, as far as exports need it."""

    async def stream(
        self, sql: str, parameters: Mapping[str, Any], settings: Mapping[str, Any], *, form: str
    ) -> Stream: ...


class Export:
    """A table on its way: its name, what it is, and its pieces. To be closed."""

    def __init__(self, name: str, media_type: str, stream: Stream, head: bytes) -> None:
        """`head`: what comes before all that the stream gives."""
        self.name = name
        self.media_type = media_type
        self._stream = stream
        self._head = head

    async def read(self) -> bytes:
        """The next piece; b'' at the end. raises StoreUnavailableError, StoreError"""
        if self._head:
            head, self._head = self._head, b""
            return head
        return await self._stream.read()

    async def close(self) -> None:
        await self._stream.close()


class Exports:
    """Makes exports. Safe to share between tasks."""

    def __init__(self, answer: Answer, everyone: Everyone, store: Streamer) -> None:
        self._answer = answer
        self._everyone = everyone
        self._store = store

    async def people(self, project: Project, asked: ask.ExportPeople, *, stale: bool = False) -> Export:
        """Whom `Everyone.people` lists. raises QuestionError, StoreUnavailableError, StoreError"""
        _format(asked.format)
        keys = _keys(asked)

        async def statement(asked: ask.ExportPeople, asked_at: str, _: str | None) -> Sql:
            reading = await self._everyone.reading(
                project, asked_at, asked, include_bots=asked.include_bots, kept=False
            )
            chosen = ask.AskPeople(
                **{name: getattr(asked, name) for name in ("from_", "to", "last", "where", "token", "of")}
            )
            only = self._everyone.chosen(chosen, reading)[0]
            return export.persons(
                reading, only, search=asked.search, identified=asked.identified, keys=keys, csv=asked.format == ask.CSV
            )

        found = await self._answer.counted(statement, asked, stale)
        columns = [*export.PERSON_COLUMNS]
        columns += [export.TRAITS] if keys is None else [f"{export.TRAITS}.{key}" for key in keys]
        return await self._opened("people", asked, found, columns)

    async def events(self, project: Project, asked: ask.ExportEvents, *, stale: bool = False) -> Export:
        """raises QuestionError, StoreUnavailableError, StoreError"""
        _format(asked.format)

        async def statement(asked: ask.ExportEvents, asked_at: str, _: str | None) -> Sql:
            reading = await self._everyone.reading(
                project, asked_at, asked, include_bots=asked.include_bots, kept=False
            )
            since, until = meaning.range_of(asked, reading)
            everywhere = [] if asked.where is None else [reading.condition(asked.where, "where")]
            if asked.token is not None:
                # Read apart: a token's question has a condition of its own on every event.
                only = self._everyone.chosen(ask.AskPeople(token=asked.token), copy.copy(reading))[0]
                assert only is not None
                everywhere.append(Whose(only))
            reading.everywhere = All(everywhere) if everywhere else ALWAYS
            met = [] if asked.of is None else [asked.of]
            return export.events(reading, met, since, until, csv=asked.format == ask.CSV)

        found = await self._answer.counted(statement, asked, stale)
        return await self._opened("events", asked, found, export.EVENT_COLUMNS)

    async def _opened(
        self, name: str, asked: ask.ExportPeople | ask.ExportEvents, statement: Sql, columns: Sequence[str]
    ) -> Export:
        form, limits = asked.format, self._answer.limits.of_export()
        planned = plan(statement)
        settings = await self._answer.settings({**limits.settings(), **SETTINGS})
        with refusing(limits):
            stream = await self._store.stream(planned.sql, planned.parameters, settings, form=FORMS[form])
            try:
                first = await stream.read()
            except BaseException:
                await stream.close()
                raise
        if form == ask.CSV:
            first = ",".join(_quoted(column) for column in columns).encode() + b"\n" + first
        at = times.text(self._answer.clock())[:10]
        return Export(f"{name}-{at}.{form}", MEDIA_TYPES[form], stream, first)


def _format(said: str) -> None:
    if said not in ask.FORMATS:
        raise invalid("format", f"must be one of {', '.join(ask.FORMATS)}")


def _keys(asked: ask.ExportPeople) -> tuple[str, ...] | None:
    keys = asked.traits
    if keys is None:
        return None
    if not 1 <= len(keys) <= ask.TRAITS_MAX or len(set(keys)) < len(keys):
        raise invalid("traits", f"must be 1 to {ask.TRAITS_MAX} different keys of traits, or not be given for all")
    for place, key in enumerate(keys):
        if not 0 < len(key) <= TEXT_LENGTH_MAX:
            raise invalid(f"traits[{place}]", f"must have 1 to {TEXT_LENGTH_MAX} characters")
        if asked.format != ask.CSV and not _PLAIN_KEY.fullmatch(key):
            raise invalid(f"traits[{place}]", "cannot name a column of this format: ask for csv, or for all traits")
    return keys


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
