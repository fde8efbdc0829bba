"""Pictures of the page in every state, three widths and both themes, to be looked at.

    python -m tests.browser.shots ADDRESS FOLDER [PHOTO]

Asserts nothing: what is beautiful is for people to say.
"""

import itertools
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from .acting import carried, drop, search, settled
from .conftest import QUIET

SIZES = {390: 844, 820: 1180, 1440: 900}


def everything(page: Page, address: str, photo: Path, folder: Path, name: str) -> None:
    """Walk through the states of the page."""

    def shot(state: str) -> None:
        page.wait_for_timeout(450)
        page.screenshot(path=folder / f"{state}-{name}.png")

    page.goto(address)
    page.wait_for_selector(".tile img.here")
    page.wait_for_load_state("networkidle")
    shot("all")
    search(page, "a cat")
    shot("hits")
    page.click("#filtering")
    page.click("#scoring")
    for place, how in enumerate(("like", "unlike")):
        page.locator("#grid li").nth(place).hover()
        page.locator("#grid li").nth(place).locator(f"[data-how={how}]").click()
        settled(page)
    shot("steered")
    page.locator(".tile").nth(2).click()
    page.fill("#labels", "cat, dog, tree")
    page.press("#labels", "Enter")
    page.wait_for_selector("#bars li")
    shot("viewer")
    page.click("#close")
    page.goto(f"{address}?q=cat&folder=nowhere")
    shot("nothing")
    hand = {"dataTransfer": carried(page, photo)}
    page.dispatch_event("main", "dragenter", hand)
    page.dispatch_event("#drop-search", "dragover", hand)
    shot("dropping")
    page.dispatch_event("#drop-search", "drop", hand)
    settled(page)
    page.goto(address)
    drop(page, "#drop-search", photo)
    settled(page)
    page.set_input_files("#files", [photo, Path(__file__)])
    page.wait_for_selector(".note .new, .note ul")
    shot("picture-and-note")
    page.route("**/v1/search", lambda route: route.abort())
    page.fill("#words", "away")
    page.press("#words", "Enter")
    shot("offline")
    page.unroute("**/v1/search")
    page.click("#language")
    page.goto(f"{address}?q=猫")
    shot("chinese")


def main(address: str, target: str, photo: str) -> None:
    folder = Path(target)
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(QUIET))
        for (width, height), scheme in itertools.product(SIZES.items(), ("light", "dark")):
            viewport = {"width": width, "height": height}
            context = browser.new_context(
                viewport=viewport, color_scheme=scheme, locale="en-US", has_touch=width < 400
            )
            page = context.new_page()
            everything(page, address, Path(photo), folder, f"{width}-{scheme}")
            context.close()
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
