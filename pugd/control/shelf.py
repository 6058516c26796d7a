"""Where segments and saved questions are kept, as the console and questions see it. Nothing is remembered: each look is
at Postgres, so that what one keeper changed the next question of every keeper uses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any, Protocol, TypeVar

import msgspec

from pugd.ask import AnyAsked, AnySegment, AskPeople
from pugd.control import reports, segments
from pugd.control.postgres import Connection
from pugd.kept import ChangedSegment, NewFixed, NewSegment, SavedQuestion, Segment, Users, Version

T = TypeVar("T")


class Run(Protocol):
    """`Control.run`: work in one transaction."""

    def __call__(self, work: Callable[[Connection], T], /) -> Awaitable[T]: ...


class Shelf:
    """Each method raises ControlError where Postgres is away, KeptError and QuestionError as segments.py and reports.py
    say."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def used(self, project: int, names: Collection[str]) -> dict[str, AnySegment]:
        """Segments by name, with those that they use."""
        return await self._run(lambda connection: segments.used(connection, project, names))

    async def segments(self, project: int, *, archived: bool = False) -> list[Segment]:
        return await self._run(lambda connection: segments.listed(connection, project, archived=archived))

    async def segment(self, project: int, name: str) -> Segment:
        return await self._run(lambda connection: segments.one(connection, project, name))

    async def segment_whole(self, project: int, name: str) -> tuple[Segment, list[Version], Users]:
        """With its versions and who uses it."""

        def look(connection: Connection) -> tuple[Segment, list[Version], Users]:
            found = segments.one(connection, project, name)
            return found, segments.versions(connection, project, name), segments.users(connection, project, name)

        return await self._run(look)

    async def create_segment(self, project: int, made: NewSegment, by: str) -> Segment:
        return await self._run(lambda connection: segments.create(connection, project, made, by))

    async def create_fixed(self, project: int, made: NewFixed, actors: Collection[int], by: str) -> Segment:
        return await self._run(lambda connection: segments.create_fixed(connection, project, made, actors, by))

    async def change_segment(self, project: int, name: str, changed: ChangedSegment, by: str) -> Segment:
        return await self._run(lambda connection: segments.change(connection, project, name, changed, by))

    async def delete_segment(self, project: int, name: str) -> None:
        await self._run(lambda connection: segments.delete(connection, project, name))

    async def questions(self, project: int, *, archived: bool = False) -> list[SavedQuestion]:
        return await self._run(lambda connection: reports.listed(connection, project, archived=archived))

    async def question(self, project: int, name: str) -> SavedQuestion:
        return await self._run(lambda connection: reports.one(connection, project, name))

    async def question_whole(self, project: int, name: str) -> tuple[SavedQuestion, list[Version]]:
        def look(connection: Connection) -> tuple[SavedQuestion, list[Version]]:
            return reports.one(connection, project, name), reports.versions(connection, project, name)

        return await self._run(look)

    async def create_question(
        self, project: int, name: str, description: str, asked: AnyAsked | AskPeople, by: str
    ) -> SavedQuestion:
        return await self._run(lambda connection: reports.create(connection, project, name, description, asked, by))

    async def change_question(
        self,
        project: int,
        name: str,
        *,
        description: str | msgspec.UnsetType,
        archived: bool | msgspec.UnsetType,
        asked: AnyAsked | AskPeople | msgspec.UnsetType,
        if_version: int | None,
        by: str,
    ) -> SavedQuestion:
        given: dict[str, Any] = {
            "description": description, "archived": archived, "asked": asked, "if_version": if_version, "by": by,
        }  # fmt: skip
        return await self._run(lambda connection: reports.change(connection, project, name, **given))

    async def delete_question(self, project: int, name: str) -> None:
        await self._run(lambda connection: reports.delete(connection, project, name))
