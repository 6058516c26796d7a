"""The console's pages: what they show and lead to, and that what strangers wrote stays text."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from engine import opened_store
from histories import insert
from web.consoles import BEGAN, HOSTILE, PROJECT, Page, harmless, joined, opened

from pugd.model import Project


async def test_the_list():
    async with opened() as (_, client):
        answer = await client.get("/people?limit=2&sort=-events")
        page = Page(answer.text)
        harmless(page)
        assert "user_123" in page.text
        assert len(page.of("a", "who")) == 2
        (following,) = [link["href"] for link in page.of("a") if link.get("rel") == "next"]
        assert "sort=-events" in following
        seen = [link["href"] for link in page.of("a", "who")]
        while following:
            page = Page((await client.get(following)).text)
            seen += [link["href"] for link in page.of("a", "who")]
            following = next((link["href"] for link in page.of("a") if link.get("rel") == "next"), None)
        count = (await client.get("/v1/people")).json()["count"]
        assert len(seen) == len(set(seen)) == count
        offered = [option["value"] for option in page.of("option")]
        assert "-events" in offered
        assert "-trait:plan" in [option["value"] for option in Page((await client.get("/people")).text).of("option")]
        first = Page((await client.get("/people?limit=1&sort=-trait:plan")).text)
        harmless(first)
        assert [option["value"] for option in first.of("option") if "selected" in option] == ["-trait:plan"]
        (listed,) = first.of("a", "who")
        (wanted,) = (await client.get("/v1/people?limit=1&sort=-trait:plan")).json()["people"]
        assert listed["href"] == f"/people/{wanted['id']}"
        assert wanted["traits"]["plan"]
        odd = "/people?sort=trait:" + quote('["a.b","<b>"]', safe="")
        harmless(Page((await client.get(odd)).text))
        nobody = Page((await client.get("/people?search=%3Cb%3Enobody")).text)
        harmless(nobody)
        assert "Nobody matches" in nobody.text
        assert {"search": "<b>nobody"}.items() <= {i["name"]: i["value"] for i in nobody.of("input")}.items()


async def test_a_timeline():
    async with opened() as (made, client):
        canonical = f"p_{made.history.actor('user_123'):016x}"
        redirect = await client.get(f"/people/p_{made.history.actor('anon-1'):016x}?order=asc")
        assert (redirect.status_code, redirect.headers["location"]) == (303, f"/people/{canonical}?order=asc")
        redirect = await client.get("/people?distinct_id=anon-1")
        assert redirect.headers["location"] == f"/people/{canonical}"
        page = Page((await client.get(f"/people/{canonical}")).text)
        harmless(page)
        for text in (
            "user_123",
            "anon-1",
            "scroll 72 %",
            "order_completed USD 416.21",
            "History joined here",
            "Not joined",
        ):
            assert text in page.text, text
        assert "<img src=x onerror=alert(1)>" in page.text
        assert "</script><script>alert(2)</script>" in page.text
        assert "\u202egnp.exe" in page.text
        # The project's day and hour: 22:13 UTC is 23:13 in Berlin.
        assert "23:13:20" in page.text
        assert [time["datetime"] for time in page.of("time") if len(time["datetime"]) == 10] == [
            "2023-11-15",
            "2023-11-14",
        ]
        assert len(page.of("div", "run")) == 2
        assert len(page.of("details", "refused")) == 1
        filtered = Page((await client.get(f"/people/{canonical}?search=416.21&event=&from=&to=")).text)
        assert "scroll" not in filtered.text
        for path in (f"/people/{canonical}?from=nonsense", "/people/p_00", "/people/p_0000000000000002", "/nothing"):
            wrong = await client.get(path)
            assert wrong.status_code in (400, 404)
            harmless(Page(wrong.text))


async def test_pages_explain_unlink_and_merge():
    async with joined() as (made, client):
        person = f"p_{made.history.actor('ann'):016x}"
        page = Page((await client.get(f"/people/{person}")).text)
        harmless(page)
        unlink = [link["href"] for link in page.of("a") if "/unlink" in (link["href"] or "")]
        assert unlink == [f"/people/{person}/unlink?distinct_id={id_}" for id_ in ("ann", "bob", "phone", "laptop")]
        assert [form["action"] for form in page.of("form")][1:4] == [
            f"/people/{person}/why", f"/people/{person}/merge", f"/people/{person}"
        ]  # fmt: skip
        why = Page((await client.get(f"/people/{person}/why?a=phone&b=laptop")).text)
        harmless(why)
        assert "an identify call" in why.text
        assert "an alias call" in why.text
        assert [li["class"] for li in why.of("li")] == ["id", "step", "id", "step", "id", "step", "id"]
        (apart,) = [link["href"] for link in why.of("a", "button")]
        assert apart == f"/people/{person}/unlink?a=phone&b=laptop"
        before = len(made.history.world.links)
        preview = Page((await client.get(unlink[0])).text)
        harmless(preview)
        assert "3 persons would result" in preview.text
        assert len(preview.of("article")) == 3
        assert len(made.history.world.links) == before, "looking does nothing"
        (form,) = preview.of("form")[1:]
        assert (form["method"], form["action"]) == ("post", f"/people/{person}/unlink")
        fields = {field["name"]: field["value"] for field in preview.of("input")}
        answer = await client.post(form["action"], data=fields)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/people/{person}")
        alone = Page((await client.get(f"/people/{person}")).text)
        assert "Taken apart by hand ann from all other ids" in alone.text
        assert not [link for link in alone.of("a") if "/unlink" in (link["href"] or "")]
        phone = f"p_{made.history.actor('phone'):016x}"
        both = Page((await client.get(f"/people/{phone}/merge?a=phone&b=ann")).text)
        harmless(both)
        assert "Make phone and ann one person?" in both.text
        fields = {field["name"]: field["value"] for field in both.of("input")}
        answer = await client.post(f"/people/{phone}/merge", data=fields)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/people/{person}")
        merged = Page((await client.get(f"/people/{person}")).text)
        assert "Merged by hand phone and ann" in merged.text
        already = Page((await client.get(f"/people/{phone}/merge?a=phone&b=ann")).text)
        assert "are one person already" in already.text
        redirect = await client.get(f"/people/{phone}")
        assert redirect.headers["location"] == f"/people/{person}"


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("why?a=phone&b=cat", 404, "Not one person"),
        ("why?a=phone&b=nobody", 404, "Nobody by that id"),
        ("why?a=phone", 400, "That cannot be asked"),
        ("unlink", 400, "That cannot be asked"),
        ("unlink?distinct_id=cat", 404, "Not one person"),
        ("unlink?distinct_id=%3Cb%3E", 404, "<b>"),
        ("merge?a=phone&b=%3Cb%3E", 404, "<b>"),
        ("merge?a=phone&b=", 400, "That cannot be asked"),
    ],
)
async def test_pages_say_what_is_wrong(path, status, text):
    async with joined() as (made, client):
        answer = await client.get(f"/people/p_{made.history.actor('ann'):016x}/{path}")
        page = Page(answer.text)
        harmless(page)
        assert answer.status_code == status
        assert text in page.text


async def test_a_page_of_traits_as_they_were():
    async with opened() as (made, client):
        path = f"/people/p_{made.history.actor('user_123'):016x}"
        now, then = [Page((await client.get(path + said)).text) for said in ("", "?as_of=2023-11-14")]
        assert "as of 14 Nov 2023, 00:00" in then.text
        assert "None at that time." in then.text
        assert "as of 14 Nov" not in now.text
        harmless(then)


async def test_hostile_ids_on_the_pages_that_change_something():
    async with joined() as (made, client):
        for text in HOSTILE:
            made.history.identify("ann", text, at=BEGAN)
        await insert(await opened_store(), made.history)
        path = f"/people/p_{made.history.actor('ann'):016x}"
        person = Page((await client.get(path)).text)
        harmless(person)
        for text in filter(str.strip, HOSTILE):  # a blank id is never linked
            asked = quote(text, safe="")
            assert f"{path}/unlink?distinct_id={asked}" in [link["href"] for link in person.of("a")]
            for page in (f"why?a={asked}&b=laptop", f"unlink?distinct_id={asked}", f"merge?a={asked}&b=cat"):
                answer = await client.get(f"{path}/{page}")
                assert answer.status_code == 200, (text, answer.text)
                shown = Page(answer.text)
                harmless(shown)
                assert text.strip() in "".join(shown.texts)


async def test_a_newcomer_is_told_how_to_begin():
    async with opened() as (made, client):

        async def nobody(key: str) -> Project:
            return Project(PROJECT + 2, "Empty")

        made.keys.check_read_key = nobody
        page = Page((await client.get("/people")).text)
        harmless(page)
        assert "curl http://127.0.0.1:7080/v1/track -u 'pub'\"'\"'key:'" in page.text
