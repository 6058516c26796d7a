"""Method and path → who handles it, or the answer that needs nobody.

Every path may end in a slash. A path nobody has is 404 and says what there is; a known one with another method is 405
with `Allow`. OPTIONS on a path that takes events is a browser's preflight, and is granted to whoever asks: the write
key, not the origin, decides what may be appended.
"""

from __future__ import annotations

from typing import Final

import msgspec

from pugd.edge.form import unquoted
from pugd.edge.gate import IMPORT, PUG, SEGMENT, Ways
from pugd.edge.head import Head
from pugd.edge.response import Refused, response
from pugd.errors import METHOD_NOT_ALLOWED, NOT_FOUND
from pugd.model import Refusal

PREFLIGHT_AGE_S: Final = 7200
_PREFLIGHT_HEADERS: Final = "authorization, content-type, x-retry-count, x-api-key"
_PREFLIGHT_HEADERS_BYTES_MAX: Final = 1024


class Route(msgspec.Struct, frozen=True):
    """Where a path leads."""

    handler: str
    """The dialect that it speaks; `live` and `ready` are health, `snippet` is our script for browsers."""
    call: str = ""
    """What the path says of the body: `track`, …, or `batch`; empty where the body says it itself."""
    methods: tuple[str, ...] = ("POST",)
    ways: Ways = Ways()
    """Where the head may hold the write key."""
    others: tuple[str, ...] = ()
    """Dialects that use the same path: where a body speaks one of them, it is theirs (dialects/known.py)."""
    asks: bool = False
    """Nothing is sent here: a client asks for its settings, with whatever key."""


Table = dict[str, Route]


def _segment() -> Table:
    calls = ("track", "identify", "alias", "page", "screen", "group")
    short = {"t": "track", "i": "identify", "a": "alias", "p": "page", "s": "screen", "g": "group", "b": "batch"}
    paths = {**{call: call for call in calls}, **short, "batch": "batch", "import": "batch"}
    table = {f"/v1/{path}": Route("segment", call, ways=SEGMENT) for path, call in paths.items()}
    table["/beacon/v1/batch"] = Route("segment", "batch", ways=SEGMENT)
    table["/sourceConfig"] = Route("segment", "source", ("GET",), asks=True)
    table["/v1/projects/*/settings"] = Route("segment", "settings", ("GET",), asks=True)
    return table


def _posthog() -> Table:
    both = ("GET", "POST")
    table = {path: Route("posthog", "capture", both) for path in ("/e", "/i/v0/e", "/capture")}
    table["/batch"] = Route("posthog", "capture", others=("amplitude",))
    table["/i/v0/ai/batch"] = Route("posthog", "capture")
    table["/i/v1/analytics/events"] = Route("posthog", "v1", ways=Ways(bearer=True))
    for path, call in {
        "/s": "recording",
        "/flags": "flags",
        "/decide": "decide",
        "/flags/definitions": "definitions",
        "/api/feature_flag/local_evaluation": "definitions",
        "/api/surveys": "surveys",
        "/api/early_access_features": "features",
        "/api/web_experiments": "experiments",
        "/array/*/config": "config",
        "/array/*/config.js": "config.js",
        "/static/*": "static",
    }.items():
        posted = path in ("/s", "/flags", "/decide")
        table[path] = Route("posthog", call, both if posted else ("GET",), asks=True)
    return table


def _mixpanel() -> Table:
    both = ("GET", "POST")
    table = {f"/{call}": Route("mixpanel", call, both, others=("posthog",)) for call in ("track", "engage")}
    table["/groups"] = Route("mixpanel", "groups", both)
    table["/import"] = Route("mixpanel", "import", both, ways=IMPORT)
    return table


def _pug() -> Table:
    calls = {"events.v1.EventsService/BatchCreate": "batch", "profiles.v1.ProfilesSDKService/Identify": "identify"}
    calls["devices.v1.DevicesService/Subscribe"] = "device"
    return {f"/sdk.{path}": Route("pug", call, ways=PUG) for path, call in calls.items()}


def _routes() -> Table:
    """Each dialect its table; a star stands for one part of a path, such as a write key."""
    table = _segment() | _posthog() | _mixpanel() | _pug()
    table["/2/httpapi"] = Route("amplitude", "events")
    table["/health/live"] = Route("live", methods=("GET", "HEAD"))
    table["/health/ready"] = Route("ready", methods=("GET", "HEAD"))
    table["/pugd.js"] = Route("snippet", methods=("GET", "HEAD"))
    return table


ROUTES: Final = _routes()
_STARRED: Final = [(path.partition("*"), route) for path, route in ROUTES.items() if "*" in path]
_EXISTS: Final = ", ".join(path for path in ROUTES if len(path.rpartition("/")[2]) > 1)


class Found(msgspec.Struct, frozen=True):
    """A route, and what its path holds in the place of its star."""

    route: Route
    part: str = ""


def look_up(path: str) -> Found | None:
    """Who has this path, whatever the method."""
    route = ROUTES.get(path)
    if route is not None and "*" not in path:
        return Found(route)
    path = path.rstrip("/") or "/"
    route = ROUTES.get(path)
    if route is not None and "*" not in path:
        return Found(route)
    for (before, _, after), starred in _STARRED:
        part = path[len(before) : len(path) - len(after)]
        if path.startswith(before) and path.endswith(after) and part and "/" not in part:
            return Found(starred, unquoted(part.encode()).decode("utf-8", "replace"))
    return None


def find(head: Head) -> Found | Refused | bytes:
    """returns  the route; or the answer itself: a Refused (404, 405), or the bytes that grant a preflight

    cost  a look-up; keep it in `head.note` where even that is too much
    """
    found = look_up(head.path)
    if found is None:
        return Refused(
            404,
            Refusal(
                NOT_FOUND,
                f"nothing at this path; there is {_EXISTS}. Questions go to the console, on a port of its own",
            ),
        )
    route = found.route
    if head.method in route.methods:
        return found
    if head.method == "OPTIONS":
        return preflight(head, route)
    allowed = ", ".join((*route.methods, "OPTIONS"))
    return Refused(
        405,
        Refusal(METHOD_NOT_ALLOWED, f"{head.method} is not taken here, only {allowed}"),
        (("Allow", allowed),),
    )


def preflight(head: Head, route: Route) -> bytes:
    """204 for whoever asks. The edge adds the headers that name the Origin, as it does to every answer."""
    wanted = head.preflight_headers
    if wanted is None or len(wanted) > _PREFLIGHT_HEADERS_BYTES_MAX or not wanted.isascii():
        named = _PREFLIGHT_HEADERS
    else:
        named = wanted.decode("ascii")
    methods = ", ".join(
        ("GET", *route.methods, "OPTIONS") if "GET" not in route.methods else (*route.methods, "OPTIONS")
    )
    return response(
        204,
        headers=(
            ("Allow", ", ".join((*route.methods, "OPTIONS"))),
            ("Access-Control-Allow-Methods", methods),
            ("Access-Control-Allow-Headers", named),
            ("Access-Control-Max-Age", str(PREFLIGHT_AGE_S)),
        ),
    )
