"""Several pictures at once, the order, and the date ruler."""

from zipfile import ZipFile

from playwright.sync_api import Page, expect

from .acting import names, query_of, search, searched, settled


def test_several_are_downloaded_copied_and_searched_with(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    search(page, "a cat")
    found = names(page)
    page.click("#selecting")
    expect(page.locator("#download")).to_be_disabled()
    page.locator(".tile").nth(1).click()
    page.locator(".tile").nth(3).click(modifiers=["Shift"])
    expect(page.locator("#grid .chosen")).to_have_count(3)
    expect(page.locator(".tile").nth(2)).to_have_attribute("aria-pressed", "true")
    with page.expect_download() as download:
        page.click("#download")
    with ZipFile(download.value.path()) as archive:
        inside = [name.rpartition("/")[2] for name in archive.namelist()]
    assert inside == [name.split(", score")[0] for name in found[1:4]]
    page.click("#copy")
    expect(page.locator(".note").last).to_contain_text("3")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert [path.rpartition("/")[2] for path in copied.split("\n")] == inside
    page.locator(".tile").nth(1).click()
    expect(page.locator("#grid .chosen")).to_have_count(2)
    with searched(page):
        page.click("#steer-selected")
    expect(page.locator("#chosen .liked")).to_have_count(2)
    expect(page.locator("#selection")).to_be_hidden()


def test_selecting_with_the_keyboard_alone(page: Page) -> None:
    page.locator(".tile").first.focus()
    page.keyboard.press("x")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("x")
    expect(page.locator("#grid .chosen")).to_have_count(2)
    page.keyboard.press("Escape")
    expect(page.locator("#selection")).to_be_hidden()
    expect(page.locator("#grid .chosen")).to_have_count(0)


def test_the_order_is_part_of_the_address(page: Page, opened) -> None:
    page.click("#filtering")
    with page.expect_response("**/v1/images?**"):
        page.select_option("#sort", "name")
    settled(page)
    assert query_of(page) == {"sort": "name"}
    every = names(page)  # once: the next ones may be on their way
    assert every == sorted(every)
    search(page, "a cat")
    every = names(page)  # once: the next ones may be on their way
    assert every == sorted(every)
    expect(opened(page.url).locator("#sort")).to_have_value("name")


def test_the_date_ruler_sets_the_dates(page: Page) -> None:
    page.route("**/v1/index", dated)
    page.reload()
    page.click("#filtering")
    expect(page.locator("#ruler button")).to_have_count(3)
    expect(page.locator("#ruler button").nth(1)).to_be_disabled()
    page.locator("#ruler button").nth(0).click()
    settled(page)
    assert query_of(page) == {"from": "2001-01-01", "to": "2001-12-31"}
    page.locator("#ruler button").nth(2).click(modifiers=["Shift"])
    settled(page)
    assert query_of(page) == {"from": "2001-01-01", "to": "2003-12-31"}
    page.locator("#ruler button").nth(2).click()
    page.locator("#ruler button").nth(2).click()
    settled(page)
    assert query_of(page) == {}
    page.unroute("**/v1/index")


def dated(route) -> None:
    """The index, as if its pictures were of three years."""
    answer = route.fetch()
    periods = [
        {"first": f"{year}-01-01", "last": f"{year}-12-31", "rows": rows}
        for year, rows in ((2001, 4), (2002, 0), (2003, 9))
    ]
    route.fulfill(response=answer, json=answer.json() | {"dates": {"field": "modified", "periods": periods}})
