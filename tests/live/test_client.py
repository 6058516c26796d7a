"""pugd.client with the real daemon, whose collector is killed meanwhile: each event once, in one person's history."""

from __future__ import annotations

from collections import Counter

from live.daemon import WRITE_KEY, Daemon

from pugd.client import Client, SendError

EVENTS = 3_000


def test_what_a_program_says_is_there_once_though_the_collector_is_killed(daemon: Daemon) -> None:
    told: list[str] = []
    host = f"http://127.0.0.1:{daemon.port}"
    with Client(WRITE_KEY, host, flush_interval_s=0.01, on_error=lambda error, _: told.append(error.code)) as client:
        for number in range(EVENTS):
            client.track("step", anonymous_id="visitor-client", properties={"n": number}, message_id=f"client-{number}")
            if number in (EVENTS // 3, 2 * EVENTS // 3):
                before = daemon.kill("collector")
                daemon.wait_pid("collector", other_than=before)
        client.identify(user_id="user-client", anonymous_id="visitor-client", traits={"plan": "pro"})
        assert client.flush(60)
        assert client.statistics()[1:4] == (EVENTS + 1, 0, 0)
    assert told == []
    entries = list(daemon.entries("user-client"))
    counts = Counter(entry["event_id"] for entry in entries if entry["type"] == "event")
    assert counts == {f"client-{number}": 1 for number in range(EVENTS)}
    person = daemon.read("/v1/people?distinct_id=visitor-client")["person"]
    assert (person["user_id"], person["traits"], person["events"]) == ("user-client", {"plan": "pro"}, EVENTS)


def test_refusals_of_the_collector_reach_the_program(daemon: Daemon) -> None:
    told: list[tuple[int | None, str]] = []

    def on_error(error: SendError, _: object) -> None:
        told.append((error.status, error.code))

    with Client(WRITE_KEY, f"127.0.0.1:{daemon.port}", on_error=on_error) as client:
        client.track("fine", user_id="u")
        client.track("bad", user_id="u" * 600)
        assert client.flush(60)
        assert client.statistics()[1:3] == (1, 1)
    with Client("no such key", f"127.0.0.1:{daemon.port}", on_error=on_error) as client:
        client.track("fine", user_id="u")
        assert client.flush(60)
    assert told == [(200, "invalid_id"), (401, "invalid_key")]
