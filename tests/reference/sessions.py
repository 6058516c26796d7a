"""The plain twin of sessions: all of each person's events in their lanes, cut where a lane is quiet for too long."""

from __future__ import annotations

from collections.abc import Iterable

from reference.funnel import timelines

MINUTE = 60_000
HOUR = 60 * MINUTE
IDLE, LONGEST, SAME_ID = 30 * MINUTE, 24 * HOUR, 24 * HOUR


def lane(event: dict) -> tuple[str, str] | None:
    """Whose runs an event belongs to: the session that the client names, else its device."""
    if event["session_id"]:
        return "session", event["session_id"]
    if event["platform"] == "server":
        return None
    return "device", event["anonymous_id"] or event["user_id"]


def sessions(events: Iterable[dict]) -> list[list[dict]]:
    """Every session that there ever was, each the list of its events."""
    found = []
    for own in timelines(events).values():
        last: dict[tuple[str, str], list[dict]] = {}
        for event in own:
            key = lane(event)
            if key is None:
                continue
            run = last.get(key)
            if run is not None:
                quiet = event["at"] - run[-1]["at"]
                if key[0] == "session":
                    ended = quiet > SAME_ID
                else:
                    ended = quiet > IDLE or event["at"] - run[0]["at"] > LONGEST
                if ended:
                    run = None
            if run is None:
                run = last[key] = []
                found.append(run)
            run.append(event)
    return found
