"""Keys of a running daemon: rotated while events come, revoked, limited, and told of; and the project's time zone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from live.daemon import READ_KEY, WRITE_KEY, Answer, Daemon, http_request, root

WITHIN_S = 2.0


def pugd(daemon: Daemon, *words: str) -> str:
    return daemon.command(*words).stdout


def line_of(daemon: Daemon, key: str) -> str:
    [line] = [line for line in pugd(daemon, "keys", "list").splitlines() if key in line]
    return line


def number_of(daemon: Daemon, key: str) -> str:
    return line_of(daemon, key).split()[0]


def within(seconds: float, true: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if true():
            return True
        time.sleep(0.05)
    return False


def status(daemon: Daemon, key: str, **headers: str) -> int:
    event = {"event": "probe", "anonymousId": "prober"}
    return daemon.post("/v1/track", event, key=key, headers=headers).status


def test_a_key_is_rotated_while_events_come_and_none_that_was_acked_is_lost(daemon: Daemon) -> None:
    old = pugd(daemon, "keys", "add", "write", "--name", "the shop").strip()
    assert within(WITHIN_S, lambda: status(daemon, old) == 200)
    acked: list[str] = []
    refused: list[tuple[str, int]] = []
    keys, stop = [old], threading.Event()

    def send(which: int) -> None:
        number = 0
        while not stop.is_set():
            one, key = f"{which}-{number}", keys[-1]
            event = {"event": "sale", "anonymousId": f"shopper-{which}", "messageId": one}
            answer = daemon.post("/v1/track", event, key=key)
            if answer.status == 200:
                acked.append(one)
            else:
                refused.append((key, answer.status))
            number += 1

    senders = [threading.Thread(target=send, args=(which,)) for which in range(3)]
    for sender in senders:
        sender.start()
    try:
        time.sleep(0.5)
        new = pugd(daemon, "keys", "rotate", number_of(daemon, old), "--overlap", "4s").strip()
        assert new not in (old, "")
        assert within(WITHIN_S, lambda: status(daemon, new) == 200)
        assert status(daemon, old) == 200, "both open"
        keys.append(new)
        assert within(8, lambda: status(daemon, old) == 401), "its time is over"
        before = len(acked)
        time.sleep(0.5)
        assert len(acked) > before
    finally:
        stop.set()
        for sender in senders:
            sender.join()
    assert refused == []
    for which in range(3):
        seen = [entry["event_id"] for entry in daemon.entries(f"shopper-{which}")]
        assert sorted(seen) == sorted(one for one in acked if one.startswith(f"{which}-"))
    assert "name 'the shop'" in line_of(daemon, new)
    assert "ended" in line_of(daemon, old)
    assert within(15, lambda: "last used" in line_of(daemon, new))


def test_a_revoked_key_is_refused_within_two_seconds(daemon: Daemon) -> None:
    key = pugd(daemon, "keys", "add", "secret-write").strip()
    assert within(WITHIN_S, lambda: status(daemon, key) == 200)
    number = number_of(daemon, key[:8])
    pugd(daemon, "keys", "revoke", number)
    assert within(WITHIN_S, lambda: status(daemon, key) == 401)


def test_an_origin_that_is_not_allowed_is_told_so(daemon: Daemon) -> None:
    key = pugd(daemon, "keys", "add", "write", "--origin", "https://*.shop.example").strip()
    assert within(WITHIN_S, lambda: status(daemon, key) == 200)
    assert status(daemon, key, Origin="https://de.shop.example") == 200
    answer = daemon.post(
        "/v1/track", {"event": "e", "anonymousId": "a"}, key=key, headers={"Origin": "https://evil.example"}
    )
    assert answer.status == 403
    assert answer.json()["code"] == "forbidden"
    assert answer.headers["access-control-allow-origin"] == "https://evil.example"
    pugd(daemon, "keys", "limit", number_of(daemon, key), "--origin", "any")
    assert within(WITHIN_S, lambda: status(daemon, key, Origin="https://evil.example") == 200)


def test_a_days_quota_holds_over_a_restart_of_the_collector(daemon: Daemon) -> None:
    key = pugd(daemon, "keys", "add", "write", "--per-day", "5").strip()
    event = {"type": "track", "event": "e", "anonymousId": "quota"}
    batch = {"batch": [event] * 5}
    assert within(WITHIN_S, lambda: daemon.post("/v1/batch", {"batch": []}, key=key).status == 200)
    assert daemon.post("/v1/batch", batch, key=key).status == 200
    answer = daemon.post("/v1/batch", batch, key=key)
    assert answer.status == 429
    assert answer.json()["code"] == "quota_exceeded"
    assert re.fullmatch("[0-9]+", answer.headers["retry-after"])
    usage = daemon.data / "usage.json"
    number = number_of(daemon, key)
    assert within(15, lambda: usage.exists() and number in json.loads(usage.read_text())["keys"])
    assert "5 events today" in line_of(daemon, key)
    killed = daemon.kill("collector")
    daemon.wait_pid("collector", other_than=killed)
    daemon.wait_ready()
    assert daemon.post("/v1/batch", batch, key=key).status == 429
    pugd(daemon, "keys", "limit", number, "--per-day", "100")
    assert within(WITHIN_S, lambda: daemon.post("/v1/batch", batch, key=key).status == 200)
    assert len(list(daemon.entries("quota"))) == 10


def test_refusals_are_listed_for_their_project_and_for_the_operator(daemon: Daemon) -> None:
    assert daemon.post("/v1/batch", {"batch": [{"type": "track", "anonymousId": "a"}]}).status == 400
    assert status(daemon, "nobody's key") == 401
    answer = daemon.read("/v1/refusals?code=missing_field")
    [found] = [one for one in answer["refusals"] if one["field"] == "batch[].event"]
    assert (found["path"], found["dialect"]) == ("/v1/batch", "segment")
    assert found["sample"] == '{"type":"track","anonymousId":"a"}'
    assert answer["counts"]["missing_field"] >= 1
    assert "invalid_key" not in answer["counts"], "an unknown key's refusals are no project's"
    assert daemon.ask("/v1/refusals?cursor=x").status == 400
    assert daemon.ask("/v1/refusals", key=None).status == 401
    page = daemon.ask("/refusals")
    assert page.status == 200
    assert b"missing_field" in page.body
    assert b"batch[].event" in page.body
    assert daemon.ask("/refusals?keys=unknown").status == 401, "a read key sees its own project alone"
    assert "invalid_key" in pugd(daemon, "refusals", "--project", "0")
    assert "missing_field" in pugd(daemon, "refusals")


def test_another_time_zone_holds_from_the_next_question_on(daemon: Daemon) -> None:
    def put(body: object, key: str = READ_KEY) -> Answer:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        return http_request(daemon.console, "PUT", "/v1/project", json.dumps(body).encode(), headers)

    def days() -> list[str]:
        """Where the days of a range begin in which Berlin's clocks go forward."""
        asked = {"series": [{}], "from": "2026-03-28", "to": "2026-03-31", "interval": "day"}
        headers = {"Authorization": f"Bearer {READ_KEY}", "Content-Type": "application/json"}
        answer = http_request(daemon.console, "POST", "/v1/ask/trend", json.dumps(asked).encode(), headers)
        assert answer.status == 200, answer
        return [point["begins"] for point in answer.json()["series"][0]["points"]]

    midnights = [f"2026-03-{day}T00:00:00.000Z" for day in (28, 29, 30)]
    berlin = ["2026-03-27T23:00:00.000Z", "2026-03-28T23:00:00.000Z", "2026-03-29T22:00:00.000Z"]
    assert daemon.read("/v1/project") == {"id": 1, "name": "default", "time_zone": "UTC"}
    assert days() == midnights
    assert put({"time_zone": "Europe/Berlin"}).json()["time_zone"] == "Europe/Berlin"
    assert days() == berlin
    refused = put({"time_zone": "Berlin"})
    assert refused.status == 400
    assert refused.json()["error"]["field"] == "time_zone"
    assert "Europe/Berlin" in refused.json()["error"]["message"]
    assert put({}).json()["error"]["field"] == "time_zone"
    assert put({"time_zone": "UTC", "name": "x"}).json()["error"]["field"] == "name"
    assert put({"time_zone": "UTC"}, key=WRITE_KEY).status == 401
    assert days() == berlin
    assert "Europe/Berlin" in pugd(daemon, "projects", "list")
    assert pugd(daemon, "projects", "zone", "UTC") == "project 1 (default): UTC\n"
    assert within(WITHIN_S, lambda: days() == midnights)


def told(daemon: Daemon, language: str) -> str:
    """The example of docs/udp.md in a language, for this daemon's port."""
    page = (root / "docs/udp.md").read_text().partition("## Signed datagrams")[2]
    [block] = re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return str(block).replace("7080", str(daemon.port))


def test_the_documented_ways_to_sign_datagrams_sign_them(daemon: Daemon) -> None:
    key = pugd(daemon, "keys", "add", "write").strip()
    number = number_of(daemon, key)
    secret = pugd(daemon, "keys", "sign", number).strip()
    assert secret.startswith("sig_")
    assert "signs datagrams" in line_of(daemon, key)

    def unsigned(name: str) -> None:
        daemon.datagram({"type": "identify", "anonymousId": f"{name}-1", "userId": f"{name}-2"}, key=key)

    def refused(code: str) -> int:
        return int(daemon.read("/v1/refusals")["counts"].get(code, 0))

    def counted(code: str) -> bool:
        unsigned("early")
        return refused(code) > 0

    assert within(WITHIN_S, lambda: counted("unsigned")), "it holds at once"
    unsigned("sly")
    for language, runs, visitor in (("python", [sys.executable], "1"), ("bash", ["bash"], "2")):
        script = daemon.directory / f"signs.{language}"
        script.write_text(told(daemon, language))
        env = {"PATH": "/usr/bin:/bin", "WRITE_KEY": key, "SIGNING_SECRET": secret}
        done = subprocess.run([*runs, str(script)], env=env, capture_output=True, text=True, check=False, timeout=30)
        assert (done.returncode, done.stderr) == (0, ""), done
        answer = f"/v1/people?distinct_id=visitor-{visitor}"
        assert within(WITHIN_S, lambda answer=answer: daemon.ask(answer).status == 200)  # type: ignore[misc]
        found = daemon.read(answer)["person"]
        assert {one["id"] for one in found["ids"]} == {f"visitor-{visitor}", f"user-{visitor}"}
        assert found["traits"] == {"plan": "pro"}
    assert refused("invalid_signature") == 0
    script.write_text(told(daemon, "bash").replace("user-2", "user-3").replace("7080", str(daemon.port)))
    env["SIGNING_SECRET"] = secret[:-1]
    subprocess.run(["bash", str(script)], env=env, check=True, timeout=30)
    assert within(WITHIN_S, lambda: refused("invalid_signature") == 1)
    new, another = pugd(daemon, "keys", "rotate", number).split()
    assert (new[:4], another[:4]) == ("pub_", "sig_")
    assert another != secret
    assert pugd(daemon, "keys", "sign", number, "--off") == f"key {number} signs no datagrams\n"

    def linked() -> bool:
        unsigned("open")
        return daemon.ask("/v1/people?distinct_id=open-1").status == 200

    assert within(WITHIN_S, linked)
    assert daemon.ask("/v1/people?distinct_id=sly-1").status == 404
    assert daemon.ask("/v1/people?distinct_id=user-3").status == 404
