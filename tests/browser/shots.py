"""Pictures of the page in every state, four widths and both themes, to be looked at.

    python -m tests.browser.shots ADDRESS FOLDER PHOTO

The address is of a service of `demo-output/photos.tuwen`, which `tuwen demo` makes. The pictures in the docs are
`steered-1200-light` and `viewer-1200-dark`. Asserts nothing: what is beautiful is for people to say.
"""

import itertools
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from .acting import carried, drop, search, settled
from .conftest import QUIET

SIZES = {390: 844, 820: 1180, 1200: 750, 1440: 900}
STEERING = {"like": "kitten", "unlike": "black-cat"}


class Walk:
    """A walk through the states of the page, with a picture of each."""

    def __init__(self, page: Page, address: str, photo: Path, target: str) -> None:
        self.page, self.address, self.photo, self.target = page, address, photo, target

    def shot(self, state: str) -> None:
        self.page.wait_for_timeout(450)
        self.page.screenshot(path=self.target.format(state))

    def hits(self) -> None:
        page = self.page
        page.goto(self.address)
        page.wait_for_selector(".tile img.here")
        page.wait_for_load_state("networkidle")
        self.shot("all")
        search(page, "a cat")
        self.shot("hits")
        page.click("#filtering")
        page.click("#scoring")
        for how, name in STEERING.items():
            tile = page.locator("#grid li").filter(has=page.locator(f'.tile[aria-label^="{name}.jpg"]'))
            tile.hover()
            tile.locator(f"[data-how={how}]").dispatch_event("click")
            settled(page)
        self.shot("steered")

    def viewer(self) -> None:
        page = self.page
        page.locator(".tile").first.click()
        page.fill("#labels", "cat, dog, tree")
        page.press("#labels", "Enter")
        page.wait_for_selector("#bars li")
        self.shot("viewer")
        page.click("#close")

    def dropping(self) -> None:
        page = self.page
        page.goto(f"{self.address}?q=cat&folder=nowhere")
        self.shot("nothing")
        hand = {"dataTransfer": carried(page, self.photo)}
        page.dispatch_event("main", "dragenter", hand)
        page.dispatch_event("#drop-search", "dragover", hand)
        self.shot("dropping")
        page.goto(self.address)
        drop(page, "#drop-search", self.photo)
        settled(page)
        page.set_input_files("#files", [self.photo, Path(__file__)])
        page.wait_for_selector(".note .new, .note ul")
        self.shot("picture-and-note")

    def away(self) -> None:
        page = self.page
        page.route("**/v1/search", lambda route: route.abort())
        page.fill("#words", "away")
        page.press("#words", "Enter")
        self.shot("offline")
        page.unroute("**/v1/search")
        page.click("#language")
        page.goto(f"{self.address}?q=猫")
        self.shot("chinese")


def main(address: str, target: str, photo: str) -> None:
    folder = Path(target)
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(QUIET))
        for (width, height), scheme in itertools.product(SIZES.items(), ("light", "dark")):
            viewport = {"width": width, "height": height}
            context = browser.new_context(viewport=viewport, color_scheme=scheme, locale="en-US", has_touch=width < 400)
            page = context.new_page()
            walk = Walk(page, address, Path(photo), f"{folder}/{{}}-{width}-{scheme}.png")
            for part in (walk.hits, walk.viewer, walk.dropping, walk.away):
                part()
            context.close()
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
