"""`pugd demo`: one visitor's story, sent to a running pugd as browsers, apps and servers would, and read back.

An anonymous visitor looks round on the web, then in an app, half of it by UDP; signs up, which says who it was; a
server reports the order. Then the timeline is asked for and must be one. Only the standard library: what is done here
can be done from anywhere.
"""

from __future__ import annotations

import base64
import http.client
import json
import secrets
import socket
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

import click
import msgspec

from pugd.config import Address, Config, address, reachable
from pugd.data import DataDirectory
from pugd.errors import PugdError
from pugd.model import KeyFile

UDP_WAIT_S: Final = 10.0
"""Datagrams are not answered: how long to look for them on the timeline."""


def tell(config: Config, user_id: str | None) -> None:
    """Send the story and print what became of it. Raises PugdError when pugd does not answer as it should."""
    directory = DataDirectory(config.data)
    collector, console = reachable(address(config.collector)), reachable(address(config.console))
    write_key = config.write_key or _write_key(directory)
    read_key = config.read_key or _read_key(directory)
    mark = secrets.token_hex(3)
    visitor = f"visitor-{mark}"
    user = user_id or "user_123"
    if user_id is None and _get(console, f"/v1/people?distinct_id={user}", read_key):
        user = f"user_123-{mark}"  # told before: another one, so that each telling is a whole story

    click.echo(f"An anonymous visitor, {visitor}, on the web and in the app:")
    begun = datetime.now(UTC) - timedelta(minutes=30)
    web = {"library": {"name": "demo-web"}, "page": {"url": "https://shop.example/shirts", "path": "/shirts"}}
    app = {"library": {"name": "demo-app"}, "app": {"version": "4.2.0"}, "os": {"name": "iOS"}}
    steps: list[tuple[str, int, str, dict[str, Any], dict[str, Any]]] = [
        ("http", 0, "page_view", {"path": "/shirts", "title": "Shirts"}, web),
        ("udp", 1, "scroll", {"percent": 72}, web),
        ("http", 2, "search", {"query": "shirt"}, web),
        ("http", 3, "add_to_cart", {"product_id": "prod-0198", "quantity": 1}, web),
        ("http", 5, "checkout_started", {"value": 416.21, "currency": "USD"}, web),
        ("udp", 15, "app_open", {}, app),
        ("udp", 18, "app_close", {"seconds": 171}, app),
    ]
    for transport, minute, event, properties, context in steps:
        call = {
            "event": event,
            "anonymousId": visitor,
            "messageId": f"demo-{mark}-{event}",
            "timestamp": _time(begun + timedelta(minutes=minute)),
            "properties": properties,
            "context": context,
        }
        if transport == "udp":
            _datagram(collector, {"type": "track", "writeKey": write_key, **call})
        else:
            _post(collector, "/v1/track", write_key, call)
        click.echo(f"  {transport:4}  {event}")
    expected = len(steps)
    _wait_for(console, read_key, visitor, expected)

    click.echo(f"identify({user!r}): the history joins. Then a sign-up, and an order that a server reports:")
    server = {"library": {"name": "demo-server"}}
    identify = {
        "userId": user,
        "anonymousId": visitor,
        "messageId": f"demo-{mark}-identify",
        "timestamp": _time(begun + timedelta(minutes=25)),
        "traits": {"plan": "free", "email": f"{user}@shop.example"},
        "context": web,
    }
    _post(collector, "/v1/identify", write_key, identify)
    for minute, event, properties, context in (
        (26, "signup", {"method": "email"}, web),
        (28, "order_completed", {"order_id": f"order-{mark}", "value": 416.21, "currency": "USD"}, server),
    ):
        call = {
            "event": event,
            "userId": user,
            **({"anonymousId": visitor} if context is web else {}),
            "messageId": f"demo-{mark}-{event}",
            "timestamp": _time(begun + timedelta(minutes=minute)),
            "properties": properties,
            "context": context,
        }
        _post(collector, "/v1/track", write_key, call)
        click.echo(f"  http  {event}")
    answer = _wait_for(console, read_key, user, expected + 2)

    click.echo("")
    click.echo(_shown(answer))
    click.echo(f"Its page: http://{console}/people/{answer['person']['id']}   (log in with `pugd login`)")


def _wait_for(console: Address, read_key: str, distinct_id: str, events: int) -> dict[str, Any]:
    """The timeline, once it holds so many events. Datagrams may come a moment after their sender is done."""
    end = time.monotonic() + UDP_WAIT_S
    while True:
        answer = _get(console, f"/v1/timeline?distinct_id={quote(distinct_id)}&order=asc&limit=100", read_key)
        found = sum(entry["type"] == "event" for entry in answer["entries"]) if answer else 0
        if answer and found >= events:
            return answer
        if time.monotonic() > end:
            raise PugdError(f"only {found} of {events} events are on the timeline of {distinct_id}: see pugd's log")
        time.sleep(0.1)


def _shown(answer: dict[str, Any]) -> str:
    person = answer["person"]
    traits = ", ".join(f"{key} {value}" for key, value in sorted(person["traits"].items()))
    ids = ", ".join(f"{one['id']} ({one['kind']})" for one in person["ids"])
    lines = [f"One person: {person['user_id']}", f"  ids     {ids}", f"  traits  {traits or 'none'}", ""]
    for entry in answer["entries"]:
        at = entry["occurred_at"][11:16]
        who = entry["user_id"] or entry["anonymous_id"] or ""
        what = entry["summary"] or entry.get("event") or entry["type"]
        if entry["type"] == "link":
            lines.append(f"  {at}  ── {what} " + "─" * max(2, 58 - len(what)))
        else:
            lines.append(f"  {at}  {what:36} {who:18} {entry['transport'] or '':5} {entry['platform'] or ''}".rstrip())
    return "\n".join([*lines, ""])


def _post(where: Address, path: str, write_key: str, call: dict[str, Any]) -> None:
    basic = base64.b64encode(f"{write_key}:".encode()).decode()
    headers = {"Authorization": f"Basic {basic}", "Content-Type": "application/json"}
    status, body = _exchange(where, "POST", path, headers, json.dumps(call))
    if status != 200:
        raise PugdError(f"http://{where}{path} answered {status}: {body[:300]}")


def _get(where: Address, path: str, read_key: str) -> dict[str, Any] | None:
    """The answer; None where nobody is known yet."""
    status, body = _exchange(where, "GET", path, {"Authorization": f"Bearer {read_key}"}, None)
    if status == 404:
        return None
    if status != 200:
        raise PugdError(f"http://{where}{path} answered {status}: {body[:300]}")
    answer: dict[str, Any] = json.loads(body)
    return answer


def _exchange(where: Address, method: str, path: str, headers: dict[str, str], body: str | None) -> tuple[int, str]:
    connection = http.client.HTTPConnection(where.host, where.port, timeout=30)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise PugdError(
            f"nothing answers at http://{where} ({error}): is pugd running? `make run` starts it"
        ) from error
    finally:
        connection.close()


def _datagram(where: Address, event: dict[str, Any]) -> None:
    family = socket.AF_INET6 if ":" in where.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as out:
        out.sendto(json.dumps(event).encode(), (where.host, where.port))


def _time(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _write_key(directory: DataDirectory) -> str:
    try:
        known = msgspec.json.decode(directory.keys.read_bytes(), type=KeyFile)
    except (OSError, msgspec.DecodeError) as error:
        raise PugdError(f"no keys in {directory.path}: start pugd there, or set PUGD_DATA or PUGD_WRITE_KEY") from error
    for key, opens in known.write_keys.items():
        if not opens.secret:
            return key
    raise PugdError("there is no public write key: `pugd keys add write` makes one, or set PUGD_WRITE_KEY")


def _read_key(directory: DataDirectory) -> str:
    try:
        return directory.read_key.read_text().strip()
    except OSError as error:
        raise PugdError(f"{directory.read_key} cannot be read ({error.strerror}): set PUGD_READ_KEY") from error
