"""Some hundred hostile requests, always the same; PUGD_FUZZ_CASES has more, and fuzz.py says how to replay one."""

from __future__ import annotations

import os

import pytest
from dialects import fuzz
from dialects.hostile import Case, case

from pugd import errors

CASES = int(os.environ.get("PUGD_FUZZ_CASES", "600"))


async def test_nothing_that_is_sent_breaks_the_collector_or_is_answered_in_foreign_words() -> None:
    report = await fuzz.run(CASES)
    assert report.wrong == [], report
    assert report.grown_bytes < fuzz.GROWN_BYTES_MAX, report
    # It tries something: each dialect took some of it, and refused some.
    assert set(report.by_dialect) >= {"segment", "posthog", "mixpanel", "amplitude", "pug"}, report
    assert report.rows > CASES / 20, report
    assert report.statuses[400] > CASES / 10, report


async def test_whatever_datagrams_say_those_without_the_secret_say_nothing_of_people() -> None:
    heard = await fuzz.datagrams(CASES // 2)
    assert heard.about_people == 0, heard
    assert heard.about_people_signed > CASES / 8, heard
    assert heard.rows > CASES / 4, heard
    assert errors.INTERNAL not in heard.refused, heard
    assert {errors.UNSIGNED, errors.INVALID_SIGNATURE, errors.INVALID_JSON, errors.INVALID_KEY} <= set(heard.refused)


def test_a_number_and_a_seed_are_always_the_same_request() -> None:
    assert [case(7, number) for number in range(20)] == [case(7, number) for number in range(20)]
    assert case(7, 0) != case(8, 0)


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/v1/track", 500, b"{}"),
        ("/v1/track", 400, b'{"code":1,"message":"x"}'),
        ("/v1/track", 200, b'{"status":1}'),
        ("/e", 200, b'{"success":true}'),
        ("/e", 400, b'{"code":"x","message":"y"}'),
        ("/e", 400, b"bad request"),
        ("/2/httpapi", 400, b'{"error":"x"}'),
        ("/import", 200, b'{"success":true}'),
        ("/v1/batch", 400, b"0"),
        ("/sdk.events.v1.EventsService/BatchCreate", 400, b'{"message":"x"}'),
    ],
)
def test_what_clients_cannot_read_is_told(path: str, status: int, body: bytes) -> None:
    headers = {"content-type": "text/plain" if body in (b"0", b"bad request") else "application/json"}
    assert fuzz.wrong_answer(Case("POST", path, "", [], b""), status, headers, body) is not None
