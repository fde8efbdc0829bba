"""Texts of the index on the page: cards among the pictures, large in the viewer, filtered by kind."""

import shutil
from pathlib import Path

from playwright.sync_api import Page, expect

from tuwen.demo import demo_gallery

from .acting import names, query_of, search, settled
from .serving import served, tuwen

TEXTS = ("a slice of pizza on a plate", "<b>一只猫</b> & a cat")


def test_texts_stand_among_pictures(home: Path, opened) -> None:
    (home / "mixed").mkdir()
    for name in ("pizza", "cat", "dog"):
        shutil.copy(next(demo_gallery().rglob(f"{name}.webp")), home / "mixed")
    (home / "notes.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    index = home / "mixed.tuwen"
    tuwen(home, "index", "build", str(home / "mixed"), "--index", str(index))
    tuwen(home, "index", "add", "--texts", str(home / "notes.txt"), "--index", str(index))
    asked: list[str] = []
    with served(home, index) as url:
        page: Page = opened(url)
        page.on("request", lambda request: asked.append(request.url))
        page.wait_for_selector(".tile .card")
        assert search(page, "pizza")[0].startswith((TEXTS[0], "pizza.webp"))
        assert set(page.locator(".tile .card").all_inner_texts()) == set(TEXTS)
        place = next(place for place, one in enumerate(names(page)) if one.startswith(TEXTS[1]))
        page.locator(".tile").nth(place).click()
        expect(page.locator("#said")).to_have_text(TEXTS[1])
        for away in ("#large", "#original", "#save", "#classify"):
            expect(page.locator(away)).to_be_hidden()
        shown = query_of(page)["show"]
        page.click("#like")
        settled(page)
        expect(page.locator("#chosen .words")).to_have_text(TEXTS[1])
        page.click("#untray")
        page.click("#filtering")
        page.select_option("#type", "text")
        settled(page)
        assert query_of(page) == {"q": "pizza", "type": "text"}
        assert len(names(page)) == len(TEXTS)
        page.select_option("#type", "image")
        settled(page)
        page.locator(".tile").first.click()
        expect(page.locator("#large")).to_be_visible()
        expect(page.locator("#said")).to_be_hidden()
        page.click("#like")
        settled(page)
        expect(page.locator("#chosen img.here")).to_have_count(1)
        expect(page.locator("#chosen .words")).to_have_count(0)
        assert not [one for one in asked if f"{shown}/thumbnail" in one]
        page.close()  # before the server ends: the page would miss it
