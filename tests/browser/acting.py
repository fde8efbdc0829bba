"""What a person does with the page, and what they see."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs

from playwright.sync_api import Page, Response, expect

CARRY = """([name, type, data]) => {
  const carried = new DataTransfer();
  const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
  carried.items.add(new File([bytes], name, { type }));
  return carried;
}"""
TILE = ".tile"


def settled(page: Page) -> None:
    """Wait until something was looked for and nothing is any more; a page that has just been opened has not begun."""
    expect(page.locator("#results")).to_have_attribute("aria-busy", "false")


@contextmanager
def searched(page: Page) -> Iterator[None]:
    """What is done in this block starts a search; afterwards, its first hits are there.

    Further hits of an earlier search may still be on their way: their answer is not the one to wait for.
    """
    with page.expect_response(first_hits):
        yield
    settled(page)


def first_hits(response: Response) -> bool:
    return response.url.endswith("/v1/search") and response.request.post_data_json["offset"] == 0


def search(page: Page, words: str) -> list[str]:
    """Type and press Enter; the names of what is found."""
    page.fill("#words", words)
    with searched(page):
        page.press("#words", "Enter")
    return names(page)


def names(page: Page) -> list[str]:
    """The pictures' names, as a screen reader says them, in order."""
    return page.locator("#grid .tile").evaluate_all("all => all.map((one) => one.getAttribute('aria-label'))")


def query_of(page: Page) -> dict[str, str]:
    """What the address says."""
    return {name: value[0] for name, value in parse_qs(page.evaluate("location.search.slice(1)")).items()}


def carried(page: Page, file: Path, kind: str = "image/webp") -> object:
    """A file in a hand."""
    data = base64.b64encode(file.read_bytes()).decode()
    return page.evaluate_handle(CARRY, [file.name, kind, data])


def drop(page: Page, zone: str, file: Path) -> None:
    """Drag a file over the page and let it go over a zone."""
    if zone == "#drop-add":
        expect(page.locator("#add")).to_be_visible()  # the page knows by now that pictures may be added
    hand = {"dataTransfer": carried(page, file)}
    page.dispatch_event("main", "dragenter", hand)
    expect(page.locator(zone)).to_be_visible()
    page.dispatch_event(zone, "dragover", hand)
    page.dispatch_event(zone, "drop", hand)
