"""The console: the private port's one application, put together from what the keeper hands in.

Nothing here opens a connection: questions go to `Asker`, keys and logins to `Access`, and how the parts are is asked
through functions. The keeper serves it on its own socket (hypercorn, Trio).

Every answer forbids a browser to load anything from elsewhere, to run scripts, to be framed, and to tell others where
it was: what is shown was written by strangers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pugd.control.shelf import Shelf
from pugd.errors import ControlError
from pugd.web import api, kept, metrics, openapi, tables
from pugd.web.access import Access, Asker, Crowd, Exporter, Health
from pugd.web.pages import Pages
from pugd.web.turns import AT_ONCE, Turns

__all__ = ["Access", "Asker", "Health", "console"]

STATIC = Path(__file__).parent / "static"

SAFETY = {
    "content-security-policy": (
        "default-src 'self'; script-src 'none'; object-src 'none'; base-uri 'none'; form-action 'self';"
        " frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # not no-referrer: browsers would then send our own forms with `Origin: null`
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


def console(
    *,
    asker: Asker,
    crowd: Crowd,
    exporter: Exporter,
    access: Access,
    shelf: Shelf,
    health: Callable[[], Health],
    statistics: Callable[[], Awaitable[Mapping[str, Any]]],
    collector: str,
    at_once: int = AT_ONCE,
) -> ASGIApp:
    """`statistics`: each part's frozen record by the part's name, this process's and the collector's (a Struct, or a
    mapping of numbers as it came over a socket). `collector`: the address where events go, such as
    `http://127.0.0.1:7080`, for the curl line that a newcomer is shown. `at_once`: questions of one read
    key or login."""
    pages = Pages(asker, access, crowd, shelf, collector)

    async def live(_: Request) -> Response:
        return api.said(200, {"live": True})

    async def ready(_: Request) -> Response:
        found = health()
        return api.said(200 if found.ready else 503, found)

    async def measured(_: Request) -> Response:
        return Response(metrics.rendered(await statistics()), media_type=metrics.CONTENT_TYPE)

    async def described(_: Request) -> Response:
        return Response(openapi.document(), media_type=openapi.JSON)

    async def wrong(request: Request, error: Exception) -> Response:
        """A path that is none, or a method that it does not take."""
        assert isinstance(error, HTTPException)
        words = (
            api.Error(
                "method_not_allowed",
                f"{request.method} is not for this path. Ask with {(error.headers or {}).get('Allow', 'GET')}.",
            )
            if error.status_code == 405
            else api.Error(
                "not_found",
                f"There is nothing at this path. Ask at /v1/people or /v1/timeline; send events to {collector}.",
            )
        )
        if request.url.path.startswith(("/v1/", "/health/")):
            return api.said(error.status_code, {"error": words}, dict(error.headers or {}))
        return await pages.wrong(error.status_code, words.message)

    async def broken(request: Request, _: Exception) -> Response:
        """Our own fault; it is logged by whoever serves us."""
        words = api.Error("internal", "This is a fault of pugd's own. The keeper's log says more.")
        if request.url.path.startswith("/v1/"):
            return api.said(500, {"error": words})
        return await pages.wrong(500, words.message)

    async def unavailable(request: Request, error: Exception) -> Response:
        if request.url.path.startswith("/v1/"):
            return api.failed(error)
        return await pages.wrong(503, str(error))

    application = Starlette(
        routes=[
            Route("/health/live", live),
            Route("/health/ready", ready),
            Route("/metrics", measured),
            *api.routes(asker, access, crowd),
            *kept.routes(access, crowd, shelf),
            *tables.routes(access, exporter),
            Route("/v1/openapi.json", described),
            *pages.routes(),
            Mount("/static", StaticFiles(directory=STATIC), name="static"),
        ],
        exception_handlers={HTTPException: wrong, ControlError: unavailable, Exception: broken},
    )
    application.state.turns = Turns(at_once)
    return _Safe(application)


class _Safe:
    """Adds SAFETY to every answer, and lets nothing but the static files be kept (and those be asked about again)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kept = "no-cache" if str(scope.get("path", "")).startswith("/static/") else "no-store"
        headers = [(name.encode(), value.encode()) for name, value in {**SAFETY, "cache-control": kept}.items()]

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in headers}
                said = [(name, value) for name, value in message.get("headers", []) if name.lower() not in own]
                message = {**message, "headers": [*said, *headers]}
            await send(message)

        await self._app(scope, receive, send_safely)
