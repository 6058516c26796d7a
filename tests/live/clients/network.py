"""What lies between a client library and the collector, and does to each POST what it is told, one after the other."""

from __future__ import annotations

from collections import Counter

from live.faulty_proxy import Handler, Proxy

_QUESTIONS = ("/flags", "/decide")
"""Paths of POSTs that send nothing."""


class Network(Proxy):
    """In front of 127.0.0.1:`port`. `faults` are names of faulty_proxy.py, '' for none; when all are used up, nothing
    happens any more."""

    def __init__(self, port: int, *faults: str) -> None:
        super().__init__(port, seed=0, odds=0.0)
        self.left = list(faults)
        self.statuses: Counter[int] = Counter()
        """What the collector answered to POSTs, whatever became of it on the way."""

        class Bound(_Handler):
            proxy = self

        self.server.RequestHandlerClass = Bound

    def fault(self, insert: bool) -> str:
        with self.lock:
            fault = self.left.pop(0) if self.left else ""
            self.met[fault] += 1
            return fault

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()


class _Handler(Handler):
    own = ("transfer-encoding", "content-length")

    def forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        answered = super().forward(body)
        if self.command == "POST" and isinstance(self.proxy, Network):
            with self.proxy.lock:
                self.proxy.statuses[answered[0]] += 1
        return answered

    def do_GET(self) -> None:
        """Questions are answered."""
        self.answer(*self.forward(self.body()))

    def do_POST(self) -> None:
        if self.path.startswith(_QUESTIONS):
            self.do_GET()
        else:
            super().do_POST()

    do_OPTIONS = do_GET
