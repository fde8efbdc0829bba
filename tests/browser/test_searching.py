"""Searching with words, filters and links, with a mouse and without one."""

import pytest
from playwright.sync_api import Page, Route, expect

from .acting import names, query_of, search, searched, settled


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("an elephant", "elephant"),
        ("一只猫", "cat"),
        pytest.param("ピザ", "pizza", marks=pytest.mark.long),
        pytest.param("un parapluie", "umbrella", marks=pytest.mark.long),
        pytest.param("قلب أحمر", "red-heart", marks=pytest.mark.long),
    ],
    ids=["en", "zh", "ja", "fr", "ar"],
)
def test_words_in_five_languages(page: Page, words: str, name: str) -> None:
    found = search(page, words)
    assert any(name in one for one in found[:8]), found[:8]
    assert query_of(page)["q"] == words
    expect(page.locator("#status")).to_contain_text("nearest so far")


def test_what_is_being_typed_stays_when_the_index_answers_late(page: Page) -> None:
    held: list[Route] = []
    page.route("**/v1/index", lambda route: held.append(route))  # noqa: PLW0108 - playwright marks the handler
    with page.expect_request("**/v1/index"):
        page.reload()
    page.wait_for_selector(".tile img.here")
    page.fill("#words", "an elephant")
    with page.expect_response("**/v1/index"):
        held[0].continue_()
    expect(page.locator("#about")).to_contain_text("pictograms")
    expect(page.locator("#words")).to_have_value("an elephant")
    page.unroute("**/v1/index")


def test_more_pictures_as_one_scrolls_without_a_shift(page: Page) -> None:
    search(page, "a happy face")
    before = page.locator("#grid li:visible").count()
    places = "all => all.slice(0, 40).map((one) => [one.offsetLeft, one.offsetTop, one.offsetWidth, one.offsetHeight])"
    first = page.locator("#grid li").evaluate_all(places)
    page.mouse.wheel(0, 20_000)
    expect(page.locator("#grid li:visible").nth(before + 20)).to_be_attached()
    assert page.locator("#grid li").evaluate_all(places) == first
    every = names(page)  # once: the next ones may be on their way
    assert len(set(every)) == len(every)


def test_rows_are_justified(page: Page) -> None:
    boxes = page.locator("#grid li:visible").evaluate_all(
        "all => all.map((one) => one.getBoundingClientRect().toJSON())"
    )
    width = page.locator("#grid").evaluate("one => Math.floor(one.getBoundingClientRect().width)")
    rows: dict[float, list[dict[str, float]]] = {}
    for box in boxes:
        rows.setdefault(box["top"], []).append(box)
    full = list(rows.values())[:-1]
    assert len(full) > 2
    for row in full:
        assert len({box["height"] for box in row}) == 1
        assert row[-1]["right"] - row[0]["left"] == pytest.approx(width, abs=0.5)


def test_filters_keep_to_folder_date_and_size(page: Page) -> None:
    page.click("#filtering")
    page.select_option("#folder", "animals-and-nature")
    settled(page)
    expect(page.locator("#filtered")).to_have_text("1")
    search(page, "red")
    assert query_of(page) == {"q": "red", "folder": "animals-and-nature"}
    names_with_folder = page.evaluate("fetch('v1/images?k=200').then((a) => a.json())")["rows"]
    folders = {row["payload"]["name"]: row["payload"]["folder"] for row in names_with_folder}
    assert {folders.get(one.split(", score")[0]) for one in names(page)} <= {"animals-and-nature", None}
    page.fill("#to", "2001-01-01")
    page.dispatch_event("#to", "change")
    expect(page.locator("#state h2")).to_have_text("Nothing fits")
    page.click("text=Without filters")
    settled(page)
    assert query_of(page) == {"q": "red"}
    assert len(names(page)) > 20


def test_the_threshold_takes_away_what_is_far(page: Page) -> None:
    search(page, "a pizza")
    page.click("#filtering")
    page.locator("#min").focus()
    with searched(page):
        page.locator("#min").fill("80")
    assert 1 <= len(names(page)) < 40
    least = float(query_of(page)["min"])
    assert all(float(one.split("score ")[1]) >= least - 0.001 for one in names(page))
    expect(page.locator("#status")).to_contain_text("found")
    page.click("#filters [type=reset]")
    settled(page)
    assert "min" not in query_of(page)


def test_scores_on_demand(page: Page) -> None:
    expect(page.locator("#scoring")).to_be_disabled()
    search(page, "a dog")
    expect(page.locator(".score").first).to_be_hidden()
    page.click("#scoring")
    expect(page.locator(".score").first).to_be_visible()


def test_a_link_is_the_whole_search_and_back_and_forward_work(page: Page, opened) -> None:
    search(page, "a dog")
    dogs = names(page)[:20]
    search(page, "a pizza")
    page.locator(".tile").nth(1).click()
    expect(page.locator("#viewer")).to_be_visible()
    name = page.locator("#name").inner_text()
    link = page.url
    page.go_back()
    expect(page.locator("#viewer")).to_be_hidden()
    assert query_of(page) == {"q": "a pizza"}
    page.go_back()
    expect(page.locator("#words")).to_have_value("a dog")
    assert names(page)[:20] == dogs
    page.go_forward()
    expect(page.locator("#words")).to_have_value("a pizza")
    other = opened(link)
    expect(other.locator("#viewer")).to_be_visible()
    expect(other.locator("#name")).to_have_text(name)
    expect(other.locator("#words")).to_have_value("a pizza")


def test_keyboard_alone(page: Page) -> None:
    page.keyboard.press("/")
    expect(page.locator("#words")).to_be_focused()
    page.keyboard.type("a cat")
    with searched(page):
        page.keyboard.press("Enter")
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className") == "tile":
            break
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    expect(page.locator(".tile").nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#viewer")).to_be_visible()
    first = page.locator("#name").inner_text()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#name")).not_to_have_text(first)
    page.keyboard.press("Escape")
    expect(page.locator("#viewer")).to_be_hidden()
    expect(page.locator(".tile").nth(2)).to_be_focused()
    page.keyboard.press("Tab")
    assert "More like" in page.evaluate("document.activeElement.getAttribute('aria-label')")
    with searched(page):
        page.keyboard.press("Enter")
    expect(page.locator("#chosen .liked")).to_have_count(1)
