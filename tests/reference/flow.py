"""The plain twin of a flow: the names of what came next to one event of each person or session, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from reference.funnel import timelines


def flow(
    events: Iterable[dict],
    anchor: Callable[[dict], bool],
    *,
    since: int,
    until: int,
    window: int,
    steps: int,
    before: bool = False,
    session: Callable[[dict], object] | None = None,
    merge_repeats: bool = False,
    by: str = "event",
) -> dict[tuple[int, object], list[str]]:
    """`by` is what each is called by.

    (person, its session or None) → up to `steps` names after, or before, the first such event in the range."""
    found: dict[tuple[int, object], list[str]] = {}
    for person, own in timelines(events).items():
        for event in own:
            key = (person, session(event) if session else None)
            if key in found or not anchor(event) or not since <= event["at"] < until:
                continue
            if session and key[1] is None:
                continue
            if before:
                rest = [one for one in own[: event["place"]][::-1] if one["at"] >= event["at"] - window]
            else:
                rest = [one for one in own[event["place"] + 1 :] if one["at"] <= event["at"] + window]
            names = []
            last = event[by]
            for one in rest:
                if session and session(one) != key[1]:
                    continue
                if not merge_repeats or one[by] != last:
                    names.append(one[by])
                last = one[by]
            found[key] = names[:steps]
    return found
