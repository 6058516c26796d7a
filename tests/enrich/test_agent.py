"""User agents, as they are in the wild: what they say, and which are bots."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pugd.enrich import agent
from pugd.enrich.agent import Agent, read

MOZILLA = "Mozilla/5.0"
CHROME = (
    f"{MOZILLA} (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
)
IPHONE = (
    f"{MOZILLA} (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5"
    " Mobile/15E148 Safari/604.1"
)

IPAD = IPHONE.replace("iPhone;", "iPad;").replace("iPhone OS", "OS")
FIREFOX = f"{MOZILLA} (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0"


@pytest.fixture(autouse=True)
def fresh():
    agent.renew()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("", Agent()),
        (CHROME, Agent("Chrome", "131", "Windows", "10", "desktop")),
        (IPHONE, Agent("Mobile Safari", "17", "iOS", "17.5", "mobile")),
        (IPAD, Agent("Mobile Safari", "17", "iOS", "17.5", "tablet")),
        (
            f"{MOZILLA} (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5"
            " Safari/605.1.15",
            Agent("Safari", "17", "macOS", "10.15", "desktop"),
        ),
        (FIREFOX, Agent("Firefox", "133", "Linux", "", "desktop")),
        (
            f"{MOZILLA} (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile"
            " Safari/537.36",
            Agent("Chrome Mobile", "131", "Android", "14", "mobile"),
        ),
        (
            f"{MOZILLA} (Linux; Android 14; SM-X710) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0"
            " Safari/537.36",
            Agent("Chrome", "131", "Android", "14", "tablet"),
        ),
    ],
)  # fmt: skip
def test_what_an_agent_says(said, told):
    assert read(said) == told
    assert read(said) is read(said)


@pytest.mark.parametrize(
    "said",
    [
        f"{MOZILLA} (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        f"{MOZILLA} AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0) Chrome/116.0 Safari/537.36",
        f"{MOZILLA} (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/131.0.0.0 Safari/537.36",
        f"{MOZILLA} (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
        "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
        f"{CHROME} Chrome-Lighthouse",
        f"{MOZILLA} (compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
        f"{MOZILLA} AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
    ],
)
def test_bots(said):
    assert read(said).bot


@pytest.mark.parametrize(
    "said",
    [
        *("curl/8.5.0", "python-requests/2.31.0", "Go-http-client/1.1", "okhttp/4.12.0", "axios/1.6.0", "node"),
        *("Java/17", "Wget/1.21", "connect-es/2.1.2", "analytics-node/3.1.0", "PostmanRuntime/7.3"),
        "Dart/3.5 (dart:io)",
        CHROME,
        IPHONE,
    ],
)  # fmt: skip
def test_no_bots(said):
    assert not read(said).bot


@given(st.text(max_size=2_000))
def test_whatever_is_said_is_read(said):
    agent.renew()
    told = read(said)
    assert all(len(value) <= agent.LENGTH_MAX for value in (told.browser, told.os, told.os_version))


def test_new_strings_are_bounded_between_two_wake_ups():
    strings = [f"{MOZILLA} (Windows NT 10.0) Made{number}/1.0 Chrome/{number}.0" for number in range(agent.NEW_MAX + 5)]
    read_once = [read(one) for one in strings]
    assert all(one.os == "Windows" for one in read_once[: agent.NEW_MAX])
    assert read_once[agent.NEW_MAX :] == [agent.NOBODY] * 5
    agent.renew()
    assert read(strings[-1]).os == "Windows", "what was left unread is not remembered as such"
