"""The front of live/clickhouse_front.py in a process of its own: a ClickHouse server, for those who need one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

FRONT = Path(__file__).with_name("live") / "clickhouse_front.py"


class Server:
    """The front in its process; may be killed and started again on the same data and port."""

    def __init__(self, directory: Path, settings: str = "") -> None:
        """`settings`: `name = value, …`, of its users' profile."""
        self.directory = directory
        self.settings = settings
        self.port = 0
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(FRONT), str(self.directory), str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "FRONT_PASSWORD": "s3cret/with:odd@signs", "FRONT_SETTINGS": self.settings},
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().split()[1])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    @property
    def url(self) -> str:
        return self.url_at(self.port, "other")

    @staticmethod
    def url_at(port: int, database: str) -> str:
        return f"http://default:s3cret%2Fwith%3Aodd%40signs@127.0.0.1:{port}/{database}"

    def spoil(self, how: str) -> dict:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/front?next={how}", data=b"") as answer:
            return json.loads(answer.read())
