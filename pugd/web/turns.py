"""How a question is let in and let go: so many at once for each key, and none for whom nobody waits any more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import trio
from starlette.requests import Request

from pugd.web.login import cookie

T = TypeVar("T")

AT_ONCE = 8


class BusyError(Exception):
    """As many questions as may be are being answered for this key."""

    def __init__(self, at_once: int) -> None:
        super().__init__(f"{at_once} questions of this key are being answered already. Ask again when one is.")


class GoneError(Exception):
    """The client has closed the connection."""


class Turns:
    """Counts what is being answered."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._running: Counter[str] = Counter()

    @contextmanager
    def taken(self, request: Request) -> Iterator[None]:
        """A turn of the request's key or login. raises BusyError"""
        key = request.headers.get("authorization") or request.cookies.get(cookie(request), "")
        if self._running[key] >= self._at_once:
            raise BusyError(self._at_once)
        self._running[key] += 1
        try:
            yield
        finally:
            self._running[key] -= 1
            if not self._running[key]:
                del self._running[key]


async def unless_gone(request: Request, work: Callable[[], Awaitable[T]]) -> T:
    """Work that is cancelled when the client goes. The request's body must have been read.

    raises   GoneError, and what `work` raises
    """
    result: list[T] = []
    failure: list[Exception] = []

    async def do(scope: trio.CancelScope) -> None:
        try:
            result.append(await work())
        except Exception as error:  # noqa: BLE001  raised again outside, where it is no group
            failure.append(error)
        scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(do, nursery.cancel_scope)
        while (await request.receive())["type"] != "http.disconnect":
            pass
        nursery.cancel_scope.cancel()
    if failure:
        raise failure[0]
    if not result:
        raise GoneError
    return result[0]
