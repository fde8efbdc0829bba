"""What a person does with the page, and what they see."""

import base64
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page, expect

CARRY = """([name, type, data]) => {
  const carried = new DataTransfer();
  const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
  carried.items.add(new File([bytes], name, { type }));
  return carried;
}"""
FACE = ".tile"


def settled(page: Page) -> None:
    """Wait until nothing is searched for."""
    expect(page.locator("body.busy")).to_have_count(0)
    expect(page.locator("#status")).not_to_have_text("Searching …")


def search(page: Page, words: str) -> list[str]:
    """Type and press Enter; the names of what is found."""
    page.fill("#words", words)
    with page.expect_response("**/v1/search"):
        page.press("#words", "Enter")
    settled(page)
    return names(page)


def names(page: Page) -> list[str]:
    """The pictures' names, as a screen reader says them, in order."""
    return page.locator("#grid .tile").evaluate_all("all => all.map((one) => one.getAttribute('aria-label'))")


def said(page: Page) -> dict[str, str]:
    """What the address says."""
    return {name: value[0] for name, value in parse_qs(urlsplit(page.url).query).items()}


def carried(page: Page, file: Path, kind: str = "image/webp") -> object:
    """A file in a hand."""
    data = base64.b64encode(file.read_bytes()).decode()
    return page.evaluate_handle(CARRY, [file.name, kind, data])


def drop(page: Page, zone: str, file: Path) -> None:
    """Drag a file over the page and let it go over a zone."""
    hand = {"dataTransfer": carried(page, file)}
    page.dispatch_event("main", "dragenter", hand)
    expect(page.locator(zone)).to_be_visible()
    page.dispatch_event(zone, "dragover", hand)
    page.dispatch_event(zone, "drop", hand)
