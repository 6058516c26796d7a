"""Requests whose events are in the journal and not yet on the disk: each is answered once its position is flushed."""

from __future__ import annotations

from heapq import heappop, heappush

from pugd.edge.connection import Request


class Unflushed:
    """By the position that they wait for."""

    def __init__(self) -> None:
        self._flushed = 0
        self._held: dict[int, list[Request]] = {}
        self._order: list[int] = []

    def __len__(self) -> int:
        return sum(map(len, self._held.values()))

    def hold(self, position: int, request: Request) -> None:
        """Answer `request` with what it holds once `position` is flushed; now, if it is."""
        held = self._held.get(position)
        if held is not None:
            held.append(request)
        elif position <= self._flushed:
            assert request.held is not None
            request.answer(request.held)
        else:
            self._held[position] = [request]
            heappush(self._order, position)

    def release(self, flushed: int) -> None:
        """All before `flushed` is on the disk."""
        self._flushed = flushed
        order = self._order
        while order and order[0] <= flushed:
            for request in self._held.pop(heappop(order)):
                assert request.held is not None
                request.answer(request.held)

    def give_up(self) -> list[Request]:
        """Those that wait, which are then forgotten."""
        found = [request for held in self._held.values() for request in held]
        self._held.clear()
        self._order.clear()
        return found
