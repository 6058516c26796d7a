"""Who is asking: a program by its read key, a browser by its session.

A browser cannot send a Bearer key, so a login link that works once puts a session into a cookie: not readable by
scripts, sent on our own pages and on links that lead to them, never with a request that another site makes by itself.
Cookies know hosts and not ports, so the cookie's name has the port.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from pugd.model import Project
from pugd.web.access import Access

LIFETIME_SECONDS = 30 * 86_400
_TOKEN_LENGTH_MAX = 512


class NotAllowedError(Exception):
    """Nobody we know is asking."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ElsewhereError(Exception):
    """A page of somebody else's makes the browser ask."""

    message = "With a login, this is done from the console's own pages only. A program sends a read key."


async def asking(request: Request, access: Access) -> Project:
    """The project that the request may ask about: by its key if it gives one, else by its session. By a session,
    something is changed from our own pages only.

    raises   NotAllowedError, ElsewhereError, ControlError
    """
    header = request.headers.get("authorization")
    if header is not None:
        scheme, _, key = header.partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not 0 < len(key) <= _TOKEN_LENGTH_MAX:
            raise NotAllowedError("Send a read key as `Authorization: Bearer <read key>`.")
        project = await access.check_read_key(key)
        if project is None:
            raise NotAllowedError(
                "This read key opens nothing here. `pugd keys list` shows the keys; a write key can only send events."
            )
        return project
    session = request.cookies.get(cookie(request))
    if session and len(session) <= _TOKEN_LENGTH_MAX and (found := await access.check_session(session)) is not None:
        if request.method not in ("GET", "HEAD") and not own(request):
            raise ElsewhereError
        return found
    raise NotAllowedError(
        "Send a read key as `Authorization: Bearer <read key>`, or log in with the link of `pugd login`."
    )


def who(request: Request) -> str:
    """Who changes something, to be kept beside the change: a read key as `pugd keys list` shows it, or the console."""
    key = request.headers.get("authorization", "").partition(" ")[2].strip()
    if not key:
        return "console"
    return f"{key[:8]}…" if len(key) > 16 else "…"


async def redeem(request: Request, access: Access) -> Response | None:
    """Use a login link's token: a redirect that carries the cookie; None where the token is unknown or was used."""
    token = request.query_params.get("token", "")
    if not 0 < len(token) <= _TOKEN_LENGTH_MAX:
        return None
    session = await access.redeem_login(token)
    if session is None:
        return None
    response = RedirectResponse(local(request.query_params.get("next", "")), status_code=303)
    response.set_cookie(
        cookie(request),
        session,
        max_age=LIFETIME_SECONDS,
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
    return response


async def log_out(request: Request, access: Access) -> Response:
    """End the session. Only our own pages may ask for it."""
    response = RedirectResponse("/login", status_code=303)
    session = request.cookies.get(cookie(request))
    if session and own(request):
        await access.end_session(session[:_TOKEN_LENGTH_MAX])
        response.delete_cookie(cookie(request), httponly=True, samesite="lax")
    return response


def own(request: Request) -> bool:
    """Does one of our own pages ask, or no page at all?

    What browsers say of it themselves counts; one that says nothing of either kind is no browser of these years, or a
    program. source: Go's http.CrossOriginProtection, and filippo.io/csrf
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host", "")


def cookie(request: Request) -> str:
    """The session's cookie on this host and port."""
    host = request.headers.get("host", "")
    port = host.rpartition(":")[2]
    return f"pugd_{port}" if port.isascii() and port.isdigit() and len(port) <= 5 else "pugd"


def local(path: str) -> str:
    """Where to go after login: a path of ours, never another site."""
    parts = urlsplit(path) if path.isascii() and path.isprintable() else None
    if parts is None or not path.startswith("/") or path.startswith(("//", "/\\")) or parts.netloc or "\\" in path:
        return "/people"
    return path
