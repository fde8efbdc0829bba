"""The page as a person has it: Debian's chromium, a service in a process of its own, the packaged demo."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tuwen.demo import demo_gallery
from tuwen.index.index import VectorIndex

from .serving import served, tuwen

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
)
PATIENCE = 60_000
"""milliseconds: a busy machine paints late, and a test that waits is no slower for it"""
EVERY = 10
WINDOW = {"width": 1000, "height": 640}
NEEDED = ("cat", "dog", "red-apple", "pizza", "elephant", "red-heart", "umbrella")
CREDITED = "food-and-drink/pizza.webp"
CREDIT = {"title": "A pizza", "author": "Google", "licence": "OFL-1.1", "source": "https://example.org/pizza?a=1"}
"""further fields of a row"""
HOSTILE = "<img src=x onerror=document.title='bitten'>&lt;b&gt;.webp"


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One browser for all tests."""
    if not CHROMIUM:
        pytest.skip("there is no chromium here: apt-get install chromium")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the service's caches go."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="package")
def index(home: Path) -> Path:
    """An index of a part of the gallery, and of a picture whose name is an attack."""
    photos = home / "photos"
    every = sorted(path for path in demo_gallery().rglob("*.webp"))
    for picture in {*every[::EVERY], *(path for path in every if path.stem in NEEDED)}:
        (photos / picture.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, photos / picture.parent.name)
    shutil.copy(next(demo_gallery().rglob("dog-face.webp")), photos / "objects" / HOSTILE)
    tuwen(home, "index", "build", str(photos), "--index", str(home / "photos.tuwen"))
    with VectorIndex.open(home / "photos.tuwen", encoder=None) as index:
        index.update_payloads({CREDITED: {**index.payloads([CREDITED])[CREDITED], **CREDIT}})
    return home / "photos.tuwen"


@pytest.fixture(scope="package")
def url(home: Path, index: Path) -> Iterator[str]:
    """A service that pictures may be added to."""
    with served(home, index, "--allow-upload") as address:
        yield address


@pytest.fixture(scope="package")
def profiles(browser: Browser) -> Callable[..., BrowserContext]:
    """A browser's profile for each way to look at the page: what it has fetched once, it has."""
    made: dict[str, BrowserContext] = {}

    def profile(**options: object) -> BrowserContext:
        name = repr(sorted(options.items()))
        if name not in made:
            made[name] = browser.new_context(**{"viewport": WINDOW, "locale": "en-US", **options})
        return made[name]

    return profile


@pytest.fixture
def opened(profiles: Callable[..., BrowserContext]) -> Iterator[Callable[..., Page]]:
    """Opens addresses, each in a tab of its own; the page must not err, nor ask anybody else for anything."""
    pages, troubles = [], []

    def open_page(address: str, *, quiet: bool = True, **options: object) -> Page:
        origin = "/".join(address.split("/")[:3])
        page = profiles(**options).new_page()
        pages.append(page)
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        if quiet:
            page.on("console", lambda line: line.type in ("error", "warning") and troubles.append(line.text))
        own = (origin, "data:", "blob:")
        page.on("request", lambda asked: asked.url.startswith(own) or troubles.append(asked.url))
        page.goto(address)
        return page

    yield open_page
    for page in (page for page in pages if not page.is_closed()):
        page.unroute_all(behavior="ignoreErrors")
        page.evaluate("localStorage.clear()")
        page.close()
    assert troubles == []


@pytest.fixture
def page(opened: Callable[..., Page], url: str) -> Page:
    """The page, with its first pictures."""
    page = opened(url)
    page.wait_for_selector(".tile img.here")
    return page
