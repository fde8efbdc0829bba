"""Pictures as questions, as answers, as guests: dropped, pasted, liked, looked at, added, removed."""

import re
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect

from tuwen.demo import demo_gallery

from .acting import carried, drop, names, query_of, search, searched, settled
from .conftest import CREDIT, HOSTILE
from .serving import served, tuwen

PIZZA = next(demo_gallery().rglob("pizza.webp"))


def test_a_dropped_picture_is_searched_with_and_not_in_the_link(page: Page, opened) -> None:
    with searched(page):
        drop(page, "#drop-search", PIZZA)
    expect(page.locator("#chip .look img")).to_be_visible()
    assert names(page)[0].startswith("pizza.webp, score 1")
    assert query_of(page) == {"picture": "1"}
    expect(page.locator("#about")).to_contain_text("leaves your picture out")
    search(page, "red")
    assert query_of(page) == {"picture": "1", "q": "red"}
    other = opened(page.url)
    expect(other.locator(".note")).to_contain_text("not part of its link")
    page.click("#chip .out")
    settled(page)
    assert query_of(page) == {"q": "red"}
    page.go_back()
    expect(page.locator("#chip")).to_be_visible()


def test_a_pasted_and_a_chosen_picture(page: Page) -> None:
    with searched(page):
        page.evaluate(
            "hand => document.body.dispatchEvent("
            "new ClipboardEvent('paste', { clipboardData: hand, bubbles: true, cancelable: true }))",
            carried(page, PIZZA),
        )
    assert names(page)[0].startswith("pizza.webp")
    with searched(page):
        page.set_input_files("#file", next(demo_gallery().rglob("elephant.webp")))
    assert names(page)[0].startswith("elephant.webp")


def test_the_large_view_names_the_author_and_links_to_the_source(page: Page) -> None:
    search(page, "pizza")
    page.locator('.tile[aria-label^="pizza.webp"]').click()
    for word in ("A pizza", "Google", "OFL-1.1"):
        expect(page.locator("#facts")).to_contain_text(word)
    expect(page.locator("#facts a")).to_have_attribute("href", CREDIT["source"])
    expect(page.locator("#facts a")).to_have_text("example.org")


def test_what_is_no_picture_says_so(page: Page, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture", encoding="utf-8")
    hand = {"dataTransfer": carried(page, tmp_path / "notes.txt", "text/plain")}
    page.dispatch_event("main", "dragenter", hand)
    page.dispatch_event("#drop-search", "drop", hand)
    expect(page.locator(".note")).to_contain_text("not a picture")


def test_liked_and_disliked_pictures_steer(page: Page, opened) -> None:
    plain = search(page, "an animal")
    page.locator("#grid li").nth(0).hover()
    with searched(page):
        page.locator("#grid li").nth(0).locator("[data-how=unlike]").click()
    steered = names(page)
    assert steered[0].split(",")[0] != plain[0].split(",")[0]
    page.locator(".tile").nth(2).click()
    with searched(page):
        page.click("#like")
    expect(page.locator("#viewer")).to_be_hidden()
    expect(page.locator("#chosen .liked")).to_have_count(1)
    expect(page.locator("#chosen .unliked")).to_have_count(1)
    assert {"q", "like", "unlike"} == set(query_of(page))
    other = opened(page.url)
    expect(other.locator("#chosen .liked")).to_have_count(1)
    settled(other)
    assert names(other)[:10] == names(page)[:10]
    page.click("#untray")
    settled(page)
    assert names(page)[:10] == plain[:10]


def test_a_picture_large_with_its_facts_and_the_next(page: Page) -> None:
    search(page, "a red apple")
    page.locator(".tile").first.click()
    expect(page.locator("#large.here")).to_be_visible()
    assert re.fullmatch(r"\d\.\d{3}", page.locator("#facts dd").first.inner_text())
    expect(page.locator("#facts")).to_contain_text("128 × 128")
    expect(page.locator("#before")).to_be_hidden()
    page.click("#after")
    expect(page.locator("#before")).to_be_visible()
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename == page.locator("#name").inner_text()
    page.click("#close")
    expect(page.locator(".tile").nth(1)).to_be_focused()


def test_classify_shows_bars(page: Page) -> None:
    search(page, "pizza")
    page.locator(".tile").first.click()
    page.fill("#labels", "a dog, 披萨，a car")
    page.press("#labels", "Enter")
    expect(page.locator("#bars li")).to_have_count(3)
    expect(page.locator("#bars li").first).to_contain_text("披萨")
    shares = [float(one.rstrip("%")) for one in page.locator("#bars b").all_inner_texts()]
    assert shares == sorted(shares, reverse=True)
    assert abs(sum(shares) - 100) < 0.5


def test_an_adapter_classifies(index: Path, home: Path, opened) -> None:
    copy, folder = shutil.copytree(index, home / "classified.tuwen"), home / "groups"
    tuwen(home, "adapt", "demo", "-o", str(folder), "--index", str(copy), "--label-field", "folder", "--method", "gda")
    with served(home, copy, "--adapter", str(folder)) as address:
        page = opened(address)
        page.wait_for_selector(".tile img.here")
        search(page, "pizza")
        page.locator(".tile").first.click()
        page.select_option("#adapter", "groups")
        expect(page.locator("#labels")).to_be_hidden()
        page.click("#classify button")
        expect(page.locator("#bars li").first).to_contain_text("food-and-drink")
        page.select_option("#adapter", "")
        expect(page.locator("#labels")).to_be_visible()
        page.close()  # before the server ends: the page would miss it


def test_own_picture_is_classified_too(page: Page) -> None:
    with searched(page):
        drop(page, "#drop-search", PIZZA)
    page.click("#chip .look")
    page.fill("#labels", "dog, pizza")
    page.press("#labels", "Enter")
    expect(page.locator("#bars li").first).to_contain_text("pizza")


def test_pictures_are_added_by_dropping_them_and_removed_again(page: Page, tmp_path: Path) -> None:
    new = tmp_path / "brand new.png"
    Image.effect_mandelbrot((96, 64), (-2, -1, 1, 1), 40).convert("RGB").save(new)
    with page.expect_response("**/v1/images"):
        drop(page, "#drop-add", new)
    expect(page.locator(".note")).to_contain_text("1 picture added")
    page.click(".new button")
    expect(page.locator("#viewer")).to_be_visible()
    expect(page.locator("#facts")).to_contain_text("96 × 64")
    page.click("#remove")
    expect(page.locator("#no")).to_be_focused()
    page.click("#no")
    expect(page.locator("#sure")).to_be_hidden()
    page.click("#remove")
    with page.expect_response("**/v1/images/*"):
        page.click("#yes")
    expect(page.locator("#notes")).to_contain_text("Removed.")
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with page.expect_response("**/v1/images"):
        page.set_input_files("#files", tmp_path / "torn.png")
    expect(page.locator("#notes")).to_contain_text("torn.png")


def test_a_hostile_name_is_a_name(page: Page) -> None:
    search(page, "a dog's face")
    place = next(place for place, one in enumerate(names(page)) if one.startswith("<img"))
    page.locator(".tile").nth(place).click()
    expect(page.locator("#name")).to_have_text(HOSTILE)
    with searched(page):
        page.click("#like")
    assert HOSTILE in page.locator("#chosen .look").get_attribute("aria-label")
    assert "bitten" not in page.title()
    assert page.locator("img[src=x], b:has-text('.webp')").count() == 0
    page.goto(page.url.split("?")[0] + "?q=" + "<script>document.title='bitten'</script>")
    settled(page)
    expect(page).to_have_title("<script>document.title='bitten'</script> – tuwen")
