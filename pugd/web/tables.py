"""Exports, sent piece by piece."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from pugd.ask import ExportEvents, ExportPeople
from pugd.model import Project
from pugd.web import parameters
from pugd.web.access import Access, Exporter, Table
from pugd.web.api import failed, json_body
from pugd.web.login import asking
from pugd.web.turns import GoneError, unless_gone

log = logging.getLogger(__name__)


def routes(access: Access, exporter: Exporter) -> list[Route]:
    """Their paths."""

    async def people(request: Request, project: Project) -> Table:
        stale = parameters.stale(parameters.given(request.query_params, parameters.ASK))
        asked = parameters.asked(await json_body(request), ExportPeople)
        return await unless_gone(request, lambda: exporter.people(project, asked, stale=stale))

    async def events(request: Request, project: Project) -> Table:
        stale = parameters.stale(parameters.given(request.query_params, parameters.ASK))
        asked = parameters.asked(await json_body(request), ExportEvents)
        return await unless_gone(request, lambda: exporter.events(project, asked, stale=stale))

    def streamed(ask: Callable[[Request, Project], Awaitable[Table]]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            held = ExitStack()
            try:
                project = await asking(request, access)
                held.enter_context(request.app.state.turns.taken(request))
                return Streamed(await ask(request, project), held)
            except BaseException as error:
                held.close()
                if not isinstance(error, Exception):
                    raise
                return failed(error)

        return answer

    return [
        Route("/v1/export/people", streamed(people), methods=["POST"]),
        Route("/v1/export/events", streamed(events), methods=["POST"]),
    ]


class Streamed(Response):
    """A table, piece by piece, as fast as the client takes it. It ends before its end where something goes wrong or the
    client is gone: over HTTP/1.1 without the last chunk."""

    def __init__(self, table: Table, held: ExitStack) -> None:
        """`held`: given up when it has ended."""
        self._table = table
        self._held = held
        headers = {"Content-Disposition": f'attachment; filename="{table.name}"'}
        super().__init__(None, 200, headers, table.media_type)
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._held:
            try:
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                await unless_gone(Request(scope, receive), partial(self._pieces, send))
            except GoneError:
                log.info("an export (%s) was given up by its client", self._table.name)
            finally:
                await self._table.close()

    async def _pieces(self, send: Send) -> None:
        while piece := await self._table.read():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
