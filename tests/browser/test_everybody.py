"""For everybody: languages, themes, a screen reader, a key, a server that is away, an index without pictures."""

import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from .acting import search, searched
from .serving import served, tuwen

pytestmark = pytest.mark.long
MOTIONLESS = {"reduced_motion": "reduce"}
TRANSFERRED = """() => [performance.getEntriesByType("navigation")[0], ...performance.getEntriesByType("resource")]
  .filter((one) => !one.name.includes("/v1/"))
  .map((one) => one.transferSize)"""


def accessible(page: Page, where: str, rules: str = "all") -> None:
    """No rule of axe is broken, colour contrast among them; or only that, where all else is known."""
    page.wait_for_timeout(60)
    chosen = {} if rules == "all" else {"runOnly": [rules]}
    found = Axe().run(page, options={"resultTypes": ["violations"], **chosen}).response["violations"]
    assert found == [], f"{where}: {[(one['id'], [node['html'] for node in one['nodes']][:3]) for one in found]}"


@pytest.mark.parametrize(("scheme", "rules"), [("light", "all"), ("dark", "color-contrast")])
def test_no_rule_of_accessibility_is_broken(opened, url: str, scheme: str, rules: str) -> None:
    page = opened(url, color_scheme=scheme, **MOTIONLESS)
    page.wait_for_selector(".tile img.here")
    accessible(page, "all pictures", rules)
    search(page, "a cat")
    page.click("#filtering")
    page.click("#scoring")
    for place, how in enumerate(("like", "unlike")):
        page.locator("#grid li").nth(place).hover()
        with searched(page):
            page.locator("#grid li").nth(place).locator(f"[data-how={how}]").click()
    page.wait_for_selector(".tile img.here")
    accessible(page, "hits, filters, scores, tray", rules)
    page.locator(".tile").first.click()
    page.fill("#labels", "cat,dog")
    page.press("#labels", "Enter")
    expect(page.locator("#bars li")).to_have_count(2)
    page.click("#remove")
    accessible(page, "viewer, bars, confirmation", rules)
    page.keyboard.press("Escape")
    page.wait_for_function("!location.search.includes('show=')")  # the step back would abort what is gone to
    page.goto(f"{url}?q=cat&folder=nowhere")
    expect(page.locator("#state h2")).to_be_visible()
    accessible(page, "nothing fits", rules)
    page.click("#share")
    expect(page.locator(".note")).to_be_visible()
    accessible(page, "a note", rules)


def test_on_a_phone(opened, url: str) -> None:
    page = opened(url, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True, **MOTIONLESS)
    page.wait_for_selector(".tile img.here")
    search(page, "una mela rossa")
    accessible(page, "hits on a phone")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.locator(".tile").first.click()
    expect(page.locator("#close")).to_be_in_viewport()
    accessible(page, "viewer on a phone")


def test_chinese_by_the_browsers_language_and_by_the_switch(opened, url: str) -> None:
    page = opened(url, locale="zh-CN")
    page.wait_for_selector(".tile img.here")
    assert page.evaluate("document.documentElement.lang") == "zh-Hans"
    expect(page.locator("#words")).to_have_attribute("placeholder", "输入任何语言的文字，或放入一张图片")
    search(page, "披萨")
    expect(page.locator("#status")).to_contain_text("最相近的")
    page.click("#language")
    expect(page.locator("#status")).to_contain_text("nearest so far")
    assert page.evaluate("document.documentElement.lang") == "en"
    page.reload()
    expect(page.locator("#language")).to_have_text("中文")


def test_the_theme_is_the_systems_until_one_is_chosen(opened, url: str) -> None:
    page = opened(url, color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.click("#theme")
    light = page.evaluate(ground)
    assert light != dark
    page.reload()
    assert page.evaluate(ground) == light
    page.click("#theme")
    page.click("#theme")
    expect(page.locator("#theme")).to_have_attribute("aria-label", "Theme: as the system")
    assert page.evaluate(ground) == dark


def test_the_page_is_light(opened, url: str) -> None:
    """What is sent for the page itself to who has never seen it, without pictures and answers."""
    page = opened(url, locale="en-GB")
    page.wait_for_selector(".tile img.here")
    sizes = page.evaluate(TRANSFERRED)
    assert len(sizes) > 15
    assert all(sizes)
    assert sum(sizes) < 60_000, sum(sizes)


def test_a_server_that_wants_a_key(opened, home: Path, index: Path, tmp_path: Path) -> None:
    tuwen(home, "index", "build", str(home / "photos" / "food-and-drink"), "--index", str(tmp_path / "food.tuwen"))
    with served(home, tmp_path / "food.tuwen", "--read-key", "sesame-sesame-sesame") as address:
        page = opened(address, quiet=False, **MOTIONLESS)
        expect(page.locator("#door")).to_be_visible()
        accessible(page, "the door")
        page.fill("#key", "wrong")
        page.press("#key", "Enter")
        expect(page.locator("#refused")).to_be_visible()
        page.fill("#key", "sesame-sesame-sesame")
        page.press("#key", "Enter")
        page.wait_for_selector(".tile img.here")
        expect(page.locator("#add")).to_be_hidden()
        page.locator(".tile").first.click()
        expect(page.locator("#large.here")).to_be_visible()
        expect(page.locator("#original")).to_have_attribute("href", re.compile("^blob:"))
        page.reload()
        expect(page.locator("#door")).to_be_hidden()


def test_an_index_without_pictures_and_a_server_that_is_away(opened, home: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    tuwen(home, "index", "build", str(tmp_path / "none"), "--index", str(tmp_path / "none.tuwen"))
    with served(home, tmp_path / "none.tuwen", "--allow-upload") as address:
        page = opened(address, quiet=False, **MOTIONLESS)
        expect(page.locator("#state h2")).to_have_text("No pictures yet")
        accessible(page, "no pictures")
    page.fill("#words", "a cat")
    page.press("#words", "Enter")
    expect(page.locator("#state h2")).to_have_text("The server cannot be reached")
    accessible(page, "offline")


def test_an_error_has_a_next_step_and_a_busy_server_is_asked_again(opened, url: str) -> None:
    page = opened(url, quiet=False, **MOTIONLESS)
    page.wait_for_selector(".tile img.here")
    page.goto(f"{url}?q=cat&like=0b0b0b0b-0000-4000-8000-000000000000")
    expect(page.locator("#state h2")).to_have_text("That did not work")
    accessible(page, "an error")
    page.click("#state >> text=All pictures")
    page.wait_for_selector(".tile img.here")
    answers = [429]

    def busy(route) -> None:
        if answers:
            route.fulfill(status=answers.pop(), headers={"retry-after": "1"}, json={"error": {"message": "full"}})
        else:
            route.continue_()

    page.route("**/v1/search", busy)
    page.fill("#words", "a dog")
    page.press("#words", "Enter")
    expect(page.locator("#state h2")).to_have_text("The server is busy")
    expect(page.locator("#status")).to_contain_text("nearest so far")
