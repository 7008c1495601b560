"""The page in a real browser, as a user sees it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from host.conftest import HostOfTest
from playwright.sync_api import Browser, expect

import cloudfn
from page.conftest import Seen
from page.page_app import SCRIPT, app

pytestmark = [pytest.mark.slow, pytest.mark.machine, pytest.mark.xdist_group("browser")]

expect.set_options(timeout=60_000)


def function(name: str) -> cloudfn.Function:
    return cloudfn.Function.from_name("shop", name)


def test_an_empty_host_says_what_to_do_next(seen: Seen, host: HostOfTest) -> None:
    seen.sign_in()
    page = seen.page
    expect(page.get_by_role("heading", name="Nothing is deployed yet")).to_be_visible()
    expect(page.get_by_text("cloudfn deploy hello.py")).to_be_visible()
    seen.picture("empty")
    for place, words in (("schedules", "Nothing is scheduled"), ("workers", "No worker runs"), ("runs", "No run was")):
        page.get_by_role("navigation", name="Main").get_by_role("link", name=place).click()
        expect(page.get_by_text(words)).to_be_visible()


def test_apps_functions_calls_and_plots(seen: Seen, host: HostOfTest, tmp_path: Path) -> None:
    app.deploy()
    for i in range(3):
        function("say").spawn(f"hello {i}").get(timeout=60)
    function("say").remote("past the host")
    with pytest.raises(ValueError, match="on purpose"):
        function("fail").spawn("on purpose").get(timeout=60)
    held = function("work").spawn(str(tmp_path / "go"))
    waiting = function("work").spawn(str(tmp_path / "go"))
    seen.sign_in()
    page = seen.page
    row = page.get_by_role("row", name="shop")
    expect(row).to_contain_text("ready")
    seen.picture("apps")
    row.get_by_role("link", name="shop").click()
    expect(page.get_by_role("heading", name="shop")).to_contain_text("version 1")
    expect(page.get_by_role("row", name=re.compile("^work"))).to_have_text(re.compile(r"work\s*1\s*1\s*1"))
    expect(page.get_by_role("row", name=re.compile("^nightly"))).to_contain_text("0 2 * * * (Europe/Paris)")
    said = page.get_by_role("row", name=re.compile("^say")).locator("td")
    expect(said.nth(4)).to_have_text("3")  # durable ones
    expect(said.nth(8)).to_have_text("4")  # all
    ended = page.locator("figure", has_text="Inputs that ended").locator("path.running").first
    expect(ended).to_have_attribute("data-most", re.compile("[1-9]"))
    latency = page.locator("figure", has_text="Latency").locator("path.running").first
    expect(latency).to_have_attribute("data-most", re.compile("[1-9]"))
    expect(latency).to_have_attribute("d", re.compile("^M"))
    seen.picture("functions")
    page.get_by_role("navigation", name="Parts of shop").get_by_role("link", name="Calls").click()
    expect(page.get_by_role("row", name=re.compile(held.object_id))).to_contain_text("0 of 1")
    expect(page.get_by_role("row", name=re.compile("fail"))).to_contain_text("failed")
    seen.picture("calls")
    (tmp_path / "go").touch()
    waiting.get(timeout=60)
    expect(page.get_by_role("row", name=re.compile(held.object_id))).to_contain_text("1 of 1")
    page.get_by_role("row", name=re.compile("fail")).get_by_role("link").click()
    expect(page.get_by_text("ValueError: on purpose")).to_contain_text(
        f'File "{__file__.rpartition("/")[0]}/page_app.py"'
    )
    seen.picture("call")
    seen.go("#/schedules")
    expect(page.get_by_role("row", name=re.compile("nightly")).locator("li")).to_have_count(5)
    seen.picture("schedules")
    seen.go("#/workers")
    expect(page.get_by_role("row", name=re.compile("shop work"))).to_contain_text(re.compile("idle|in use"))
    seen.picture("workers")
    app.deploy(tag="second")
    seen.go("#/apps/shop/versions")
    expect(page.get_by_role("row", name=re.compile("^2"))).to_contain_text("current")
    seen.picture("versions")
    page.get_by_role("button", name="Dark").click()
    seen.go("#/apps/shop")
    expect(page.locator("figure")).to_have_count(3)
    seen.picture("functions-dark")
    page.set_viewport_size({"width": 400, "height": 800})
    seen.picture("functions-narrow")


def test_lines_come_live_and_what_looks_like_markup_is_text(seen: Seen, host: HostOfTest) -> None:
    app.deploy()
    seen.sign_in()
    page = seen.page
    seen.go("#/apps/shop/logs")
    expect(page.get_by_text("Nothing was printed yet")).to_be_visible()
    call = function("say").spawn(f"good morning {SCRIPT}")
    expect(page.get_by_text(f"good morning {SCRIPT}")).to_be_visible()
    page.get_by_role("searchbox").fill("evening")
    expect(page.get_by_text("good morning")).to_be_hidden()
    function("say").spawn("good evening").get(timeout=60)
    expect(page.get_by_text("good evening")).to_be_visible()
    page.get_by_role("searchbox").fill("")
    expect(page.get_by_text("good morning")).to_be_visible()
    seen.picture("logs")
    with pytest.raises(ValueError, match="img"):
        function("fail").spawn(SCRIPT).get(timeout=60)
    seen.go("#/apps/shop/calls")
    page.get_by_role("row", name=re.compile("fail")).get_by_role("link").click()
    expect(page.get_by_text(f"ValueError: {SCRIPT}")).to_be_visible()
    for place in (f"#/apps/{SCRIPT}/calls/{SCRIPT}", f"#/apps/{SCRIPT}", f"#/{SCRIPT}", "#/apps/%"):
        seen.go(place)
        page.get_by_role("navigation", name="Main").wait_for()
    assert call.get(timeout=60)
    assert page.evaluate("window.hit") is None
    assert page.locator("main img, main script").count() == 0
    seen.errors = [error for error in seen.errors if "400" not in error]  # a call of that name is asked for


def test_a_flood_of_lines_drowns_nobody(seen: Seen, host: HostOfTest) -> None:
    app.deploy()
    seen.sign_in()
    page = seen.page
    seen.go("#/apps/shop/logs")
    page.get_by_role("log").wait_for(state="attached")
    assert function("flood").spawn(100_000).get(timeout=120) == 100_000
    expect(page.locator(".lines > :last-child")).to_contain_text("line 99999")
    assert page.locator(".lines > div").count() <= 2000
    page.get_by_role("searchbox").fill("99998")
    expect(page.locator(".lines > :not([hidden])")).to_have_count(1)
    expect(page.locator(".lines > :not([hidden])")).to_contain_text("line 99998")


def test_dead_inputs_are_replayed_from_the_page(seen: Seen, host: HostOfTest, tmp_path: Path) -> None:
    app.deploy()
    call = function("die").spawn(str(tmp_path / "mended"))
    with pytest.raises(cloudfn.exception.Error):
        call.get(timeout=120)
    seen.sign_in()
    page = seen.page
    expect(page.get_by_role("row", name="shop")).to_contain_text("1")
    seen.go("#/apps/shop/dead")
    row = page.get_by_role("row", name=re.compile(call.object_id))
    expect(row).to_contain_text("die")
    seen.picture("dead")
    (tmp_path / "mended").touch()
    row.get_by_role("button", name="Replay").click()
    expect(page.get_by_role("status")).to_contain_text("Put back 1 input.")
    expect(page.get_by_text("No dead inputs")).to_be_visible()
    assert call.get(timeout=60) == "mended"


def test_a_link_opens_one_browser_once(seen: Seen, browser: Browser, host: HostOfTest) -> None:
    url = seen.sign_in()
    assert "ticket" not in seen.page.url
    other = browser.new_context()
    page = other.new_page()
    page.goto(url)
    expect(page.get_by_role("alert")).to_contain_text("was used already")
    expect(page.get_by_text("cloudfn host open")).to_be_visible()
    page.goto(url.partition("#")[0])
    expect(page.get_by_role("heading", name="This page opens with a link")).to_be_visible()
    other.close()
    seen.page.reload()
    expect(seen.page.get_by_text("live", exact=True)).to_be_visible()
    seen.page.get_by_role("button", name="Sign out").click()
    expect(seen.page.get_by_text("cloudfn host open")).to_be_visible()
    assert seen.page.evaluate("Object.keys(localStorage)") == []


def test_it_comes_back_when_the_host_does(seen: Seen, host: HostOfTest) -> None:
    seen.sign_in()
    host.kill()
    expect(seen.page.get_by_text("no connection")).to_be_visible()
    host.forget()
    host.place.start()
    expect(seen.page.get_by_text("cloudfn host open")).to_be_visible()  # nobody is signed in at the new one
    seen.sign_in()
    seen.errors = []  # while there was none, the browser said so


def test_the_keyboard_is_enough(seen: Seen, host: HostOfTest) -> None:
    app.deploy()
    function("say").spawn("hello").get(timeout=60)
    seen.sign_in()
    page = seen.page
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.get_by_role("link", name="shop").focus()
    page.keyboard.press("Enter")
    queue = page.get_by_role("img", name=re.compile("^Queue"))
    queue.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("line.cursor")).to_have_count(1)
    expect(queue).to_be_focused()  # what was drawn anew is the same element
    page.keyboard.press("Escape")
    expect(page.locator("line.cursor")).to_have_count(0)
