"""Summaries: what people look for first, from the names that clients commonly give it; one line, whatever is sent."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pugd.query import summary


@pytest.mark.parametrize(
    ("name", "properties", "wanted"),
    [
        ("scroll", {"percent": 72}, "scroll 72 %"),
        ("scroll", {"depth": 0.72}, "scroll 72 %"),
        ("scroll", {"scroll_depth": "72%"}, "scroll 72 %"),
        ("video", {"depth": 3}, "video"),
        ("checkout_started", {"value": 416.21, "currency": "USD"}, "checkout_started USD 416.21"),
        ("order_completed", {"total": "416.2", "currency": "usd", "order_id": "o-1"}, "order_completed USD 416.20"),
        ("order_completed", {"revenue": 9}, "order_completed 9"),
        ("add_to_cart", {"product_id": "prod-0198", "quantity": 1}, "add_to_cart prod-0198"),
        ("Product Added", {"productId": 198, "price": 5, "currency": "EUR"}, "Product Added 198 EUR 5.00"),
        ("search", {"query": "shirt"}, "search shirt"),
        ("search", {"search_term": "two\nlines"}, "search two lines"),
        ("page_view", {"path": "/pricing", "title": "Pricing"}, "page_view /pricing"),
        ("page_view", {"url": "https://shop.example/a?b=1"}, "page_view /a?b=1"),
        ("signup", {"plan": "pro"}, "signup pro"),
        ("flag", {"enabled": True}, "flag"),
        ("odd", {"query": {"deep": 1}, "plan": None, "value": True}, "odd"),
        ("app_open", {}, "app_open"),
    ],
)
def test_of_events(name, properties, wanted):
    assert summary.event(name, properties) == wanted


def test_a_page_view_says_where_from_its_context():
    assert summary.event("page_view", {}, path="/pricing") == "page_view /pricing"
    assert summary.event("page_view", {}, url="https://shop.example/pricing") == "page_view /pricing"
    assert summary.event("page_view", {}, title="Pricing") == "page_view Pricing"


def test_of_traits_and_links():
    assert summary.traits([("plan", None, "free")]) == "plan free"
    assert summary.traits([("plan", "free", "free")]) == "traits unchanged"
    assert summary.traits([("plan", "free", None)]) == "plan removed"
    assert summary.traits([(f"k{n}", None, n) for n in range(5)]) == "k0 0, k1 1, k2 2 +2"
    assert summary.link("identify", "anon-1", "ann", "") == "identify ann: history of anon-1 joins"
    assert summary.link("identify", "a", "b", "both_identified") == "identify refused: a and b (both_identified)"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=300), inner, max_size=3),
)
names = (
    st.sampled_from(["percent", "value", "total", "currency", "product_id", "query", "path", "url", "plan"]) | st.text()
)


@given(st.text(max_size=2000), st.dictionaries(names, json_values, max_size=6), st.text(max_size=300))
def test_one_bounded_line_whatever_is_sent(name, properties, text):
    for made in (
        summary.event(name, properties, path=text, url=text, title=text),
        summary.event("page_view", properties, url=text),
        summary.traits((key, None, value) for key, value in properties.items()),
        summary.link("alias", text, name, ""),
    ):
        assert len(made) <= summary.SUMMARY_LENGTH_MAX
        assert len(made.splitlines()) <= 1
        made.encode()


def test_numbers_of_thousands_of_digits():
    properties = summary.members(json.dumps({"value": 1, "plan": "x"}).replace("1", "1" * 5000))
    assert len(summary.event("pay", properties)) <= summary.SUMMARY_LENGTH_MAX
