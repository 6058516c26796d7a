"""Routes, preflights, health: what each method and path leads to."""

from __future__ import annotations

import json

import pytest
from running_edge import split_head

from pugd.edge.gate import SEGMENT
from pugd.edge.head import Head, parse
from pugd.edge.health import JOURNAL_FULL, Health
from pugd.edge.response import Refused, refusal_response, response
from pugd.edge.routes import ROUTES, Found, Route, find
from pugd.model import Refusal


def head(method: str, path: str, *lines: str) -> Head:
    parsed = parse("\r\n".join((f"{method} {path} HTTP/1.1", "Host: x", *lines, "", "")).encode())
    assert isinstance(parsed, Head)
    return parsed


@pytest.mark.parametrize("path", ROUTES)
def test_every_path_with_and_without_slash(path: str) -> None:
    method = ROUTES[path].methods[0]
    filled, part = path.replace("*", "wk%2Da"), "wk-a" if "*" in path else ""
    for sent in (filled, filled + "/", filled + "?writeKey=a"):
        assert find(head(method, sent)) == Found(ROUTES[path], part)


def test_a_star_is_one_part_of_a_path() -> None:
    assert find(head("GET", "/v1/projects/*/settings")) == Found(ROUTES["/v1/projects/*/settings"], "*")
    for path in ("/v1/projects//settings", "/v1/projects/settings", "/v1/projects/a/b/settings"):
        assert isinstance(find(head("GET", path)), Refused)


def test_segment_paths_say_their_call() -> None:
    calls = {path: route.call for path, route in ROUTES.items() if route.handler == "segment"}
    assert calls["/v1/track"] == calls["/v1/t"] == "track"
    assert calls["/v1/batch"] == calls["/v1/b"] == "batch"
    assert calls["/v1/alias"] == calls["/v1/a"] == "alias"


def test_unknown_paths_say_what_there_is() -> None:
    for path in ("/", "/v1", "/v1/nothing", "/v1/track/more", "//v1/track", "/%761/track"):
        found = find(head("POST", path))
        assert isinstance(found, Refused)
        assert found.status == 404
        assert found.refusal.code == "not_found"
        assert "/v1/batch" in found.refusal.message


def test_other_methods_are_405_and_named() -> None:
    found = find(head("GET", "/v1/track"))
    assert isinstance(found, Refused)
    status, headers = split_head(found.response().partition(b"\r\n\r\n")[0])
    assert (status, headers["allow"]) == (405, "POST, OPTIONS")
    found = find(head("POST", "/health/live"))
    assert isinstance(found, Refused)
    assert ("Allow", "GET, HEAD, OPTIONS") in found.headers


@pytest.mark.parametrize("path", ROUTES)
def test_preflight_is_granted(path: str) -> None:
    asked = head(
        "OPTIONS",
        path,
        "Origin: https://a.example",
        "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: authorization, x-new",
    )
    found = find(asked)
    assert isinstance(found, bytes)
    status, headers = split_head(found.partition(b"\r\n\r\n")[0])
    assert status == 204
    assert "content-length" not in headers
    assert headers["access-control-allow-headers"] == "authorization, x-new"
    assert headers["access-control-max-age"] == "7200"
    if ROUTES[path].methods == ("POST",):
        assert headers["access-control-allow-methods"] == "GET, POST, OPTIONS"
    assert found.endswith(b"\r\n\r\n")
    assert b"Access-Control-Allow-Origin: https://a.example\r\n" in asked.extra


def test_preflight_without_named_headers() -> None:
    for lines in ((), ("Access-Control-Request-Headers: " + "a" * 5000,), ("Access-Control-Request-Headers: hé",)):
        found = find(head("OPTIONS", "/v1/track", *lines))
        assert isinstance(found, bytes)
        assert b"Access-Control-Allow-Headers: authorization, content-type" in found


def test_answers() -> None:
    assert response(200) == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    typed = response(200, content_type="application/proto")
    assert typed == b"HTTP/1.1 200 OK\r\nContent-Type: application/proto\r\nContent-Length: 0\r\n\r\n"
    assert response(200, b"{}") == b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    assert response(200) == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(AssertionError):
        response(200, headers=(("A", "b\r\nC: d"),))
    with pytest.raises(AssertionError):
        response(204, b"x")
    waits = set()
    for _ in range(50):
        answer = refusal_response(503, Refusal("unavailable", 'a "reason"\r\n', "batch[0]"))
        top, _, body = answer.partition(b"\r\n\r\n")
        status, headers = split_head(top)
        assert status == 503
        assert json.loads(body) == {"code": "unavailable", "message": 'a "reason"\r\n', "field": "batch[0]"}
        waits.add(int(headers["retry-after"]))
    assert len(waits) > 1
    assert b"Retry-After" not in refusal_response(400, Refusal("invalid_json", "no"))


def test_health() -> None:
    health = Health()
    assert health.live()[0] == 200
    assert health.readiness()[0] == 503
    assert json.loads(health.readiness()[1])["reasons"].keys() == {"starting"}
    health.started()
    assert health.readiness() == (200, b'{"ready":true,"reasons":{}}')
    health.say(JOURNAL_FULL, "the journal holds 1 GiB that ClickHouse does not take")
    assert not health.ready
    health.clear(JOURNAL_FULL)
    health.clear(JOURNAL_FULL)
    assert health.ready
    health.draining()
    assert health.reasons.keys() == {"draining"}
    with pytest.raises(AssertionError):
        health.clear("draining")


def test_route_is_a_value() -> None:
    assert Route("segment", "track", ways=SEGMENT) == ROUTES["/v1/track"]
