"""Channels, by examples of each; and whatever addresses say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pugd.enrich.campaign import Campaign, read

HERE = "https://www.shop.example/pricing"


@pytest.mark.parametrize(
    ("url", "referrer", "channel"),
    [
        (HERE, "", "direct"),
        (HERE, "https://www.google.com/", "organic search"),
        (HERE, "https://www.google.co.uk/search?q=x", "organic search"),
        (HERE, "https://duckduckgo.com/", "organic search"),
        (HERE, "https://t.co/abc", "social"),
        (HERE, "https://l.facebook.com/l.php", "social"),
        (HERE, "https://mail.google.com/mail/u/0/", "email"),
        (HERE, "https://chatgpt.com/", "ai"),
        (HERE, "https://blog.other.example/post", "referral"),
        (HERE, "https://shop.example/", "internal"),
        (HERE, "https://help.shop.example/", "internal"),
        (f"{HERE}?gclid=1", "https://www.google.com/", "paid search"),
        (f"{HERE}?gclid=1", "", "paid search"),
        (f"{HERE}?utm_source=google&utm_medium=cpc", "", "paid search"),
        (f"{HERE}?utm_source=facebook&utm_medium=paid", "", "paid social"),
        (f"{HERE}?ttclid=1", "", "paid social"),
        (f"{HERE}?utm_source=someone&utm_medium=cpc", "", "paid"),
        (f"{HERE}?utm_source=x&utm_medium=banner", "", "display"),
        (f"{HERE}?utm_source=news&utm_medium=email", "https://mail.google.com/", "email"),
        (f"{HERE}?utm_source=newsletter-mail", "", "email"),
        (f"{HERE}?utm_medium=affiliate", "https://blog.other.example/", "affiliate"),
        (f"{HERE}?utm_medium=sms", "", "sms"),
        (f"{HERE}?utm_source=poster", "", "other campaign"),
        (f"{HERE}?utm_source=linkedin", "", "social"),
        ("", "", ""),
        ("/pricing", "", ""),
    ],
)
def test_channels(url, referrer, channel):
    assert read(url, referrer, {}).channel == channel


def test_what_a_client_says_wins_over_the_address():
    told = read(f"{HERE}?utm_source=a&utm_medium=b&utm_campaign=c&utm_term=d&utm_content=e", "https://google.com", {
        "source": "s", "name": "n", "medium": 7,
    })  # fmt: skip
    assert told == Campaign("shop.example", "google.com", "other campaign", "s", "b", "n", "d", "e")
    assert read(HERE, "https://shop.example/", {}).referrer_domain == "", "a site does not lead to itself"


@given(
    st.text(max_size=300),
    st.text(max_size=300),
    st.dictionaries(st.text(max_size=8), st.none() | st.text(max_size=300)),
)
def test_whatever_is_said_is_read(url, referrer, said):
    for one in (url, f"https://{url}", f"https://h/?{url}"):
        told = read(one, referrer, said)
        assert all(len(getattr(told, name)) <= 255 for name in told.__struct_fields__)
