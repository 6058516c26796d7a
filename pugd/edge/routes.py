"""Method and path → who handles it, or the answer that needs nobody.

Every path may end in a slash. A path nobody has is 404 and says what there is; a known one with another method is 405
with `Allow`. OPTIONS on a path that takes events is a browser's preflight, and is granted to whoever asks: the write
key, not the origin, decides what may be appended.
"""

from __future__ import annotations

from typing import Final

import msgspec

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
    """`segment` takes events in that dialect; `live` and `ready` are health."""
    call: str = ""
    """What the path says of the body: `track`, …, or `batch`; empty where the body says it itself."""
    methods: tuple[str, ...] = ("POST",)


def _routes() -> dict[str, Route]:
    table = {
        f"/v1/{call}": Route("segment", call) for call in ("track", "identify", "alias", "page", "screen", "group")
    }
    short = {"t": "track", "i": "identify", "a": "alias", "p": "page", "s": "screen", "g": "group", "b": "batch"}
    table["/v1/batch"] = Route("segment", "batch")
    table["/v1/import"] = Route("segment", "batch")
    table |= {f"/v1/{letter}": Route("segment", call) for letter, call in short.items()}
    table["/health/live"] = Route("live", methods=("GET", "HEAD"))
    table["/health/ready"] = Route("ready", methods=("GET", "HEAD"))
    return table


ROUTES: Final = _routes()
_EXISTS: Final = ", ".join(path for path in ROUTES if len(path.rpartition("/")[2]) > 1)


def find(head: Head) -> Route | Refused | bytes:
    """returns  the Route; or the answer itself: a Refused (404, 405), or the bytes that grant a preflight

    cost  a look-up; keep it in `head.note` where even that is too much
    """
    path = head.path
    route = ROUTES.get(path)
    if route is None:
        route = ROUTES.get(path.rstrip("/") or "/")
        if route is None:
            return Refused(
                404,
                Refusal(
                    NOT_FOUND,
                    f"nothing at this path; there is {_EXISTS}. Questions go to the console, on a port of its own",
                ),
            )
    if head.method in route.methods:
        return route
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
