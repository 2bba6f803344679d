"""The page in a real Chromium, driven by the keyboard."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from fixtures.patience import PATIENCE
from fixtures.portal import by_role, everybody, portal, serving
from playwright.sync_api import Browser, Page, expect, sync_playwright
from sqlalchemy import Engine, text

from sqla_seqreserve.web import health_app

# Playwright gives up after 5 seconds, in which a busy machine may not have drawn the page.
expect.set_options(timeout=PATIENCE * 1000)

_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium of the machine's own, with a fresh profile."""
    program = os.environ.get("CHROMIUM") or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if program is None:
        pytest.skip("no Chromium: install Debian's package chromium, or name one in CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def complaints() -> list[str]:
    """What the browser found wrong with the page: errors, refused resources, other hosts."""
    return []


@pytest.fixture
def new_page(browser: Browser, complaints: list[str]) -> Iterator[Any]:
    """A function that opens the page at an address; any complaint fails the test."""
    contexts = []

    def open_page(address: str, prefix: str = "", sequences: int = 8, **options: Any) -> Page:
        context = browser.new_context(**options)
        context.set_default_timeout(PATIENCE * 1000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda message: (
                complaints.append(message.text)
                if message.type == "error" and "403" not in message.text
                else None
            ),
        )
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((address, "data:"))
                else complaints.append(request.url)
            ),
        )
        page.goto(f"{address}{prefix}/system/sequences")
        expect(page.locator("#sequences tbody")).to_have_count(sequences)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def drifted(holding: Engine) -> Engine:
    """The fund's sequence is behind by 5."""
    with holding.begin() as connection:
        connection.execute(
            text("INSERT INTO portfolio_funds (id, portfolio_id, fund_name) VALUES (7, 1, 'C')")
        )
    return holding


def next_fund_id(engine: Engine) -> int | None:
    with engine.connect() as connection:
        return connection.scalar(
            text("SELECT nextval(pg_get_serial_sequence('portfolio_funds', 'id'))")
        )


def test_a_repair_by_keyboard(portfolio_url: str, drifted: Engine, new_page: Any) -> None:
    """A repair works by keyboard alone: dry run, its result, confirmation, repair."""
    with portal(portfolio_url) as app, serving(app) as address:
        page = new_page(address)
        expect(page.get_by_role("heading", level=1)).to_have_text("1 sequence needs attention")
        worst = page.locator("#sequences tbody").first
        expect(worst).to_contain_text("portfolio_funds")
        expect(worst).to_contain_text("Needs repair")
        expect(page.get_by_role("button", name="Repair…")).to_be_visible()

        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name="Pause")).to_be_focused()
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name="Check now")).to_be_focused()
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name="Repair…")).to_be_focused()
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog", name="What a repair would do")
        expect(dialog.get_by_role("row")).to_have_count(2)
        expect(dialog).to_contain_text("Nothing has been changed yet")

        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        expect(page.get_by_role("button", name="Repair…")).to_be_focused()
        expect(page.get_by_role("heading", level=1)).to_have_text("1 sequence needs attention")

        page.keyboard.press("Enter")
        expect(dialog.get_by_role("button", name="Repair 1 sequence")).to_be_visible()
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        expect(dialog.get_by_role("button", name="Repair 1 sequence")).to_be_focused()
        page.keyboard.press("Enter")
        done = page.get_by_role("dialog", name="1 sequence repaired")
        expect(done.get_by_role("button", name="Close")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("All 8 sequences are healthy")
        expect(page.get_by_role("button", name="Repair…")).to_be_hidden()
        expect(page.get_by_role("button", name="Check now")).to_be_focused()
        expect(page.locator("#sequences svg").first).to_be_visible()
        assert page.title() == f"{drifted.url.database}: Sequences"
    assert next_fund_id(drifted) == 8


def test_names_stay_text(portfolio_url: str, holding: Engine, new_page: Any) -> None:
    """A sequence whose name is markup is shown as text, under any prefix of the router."""
    name = "<img src=x onerror=document.title='broken'>"
    with holding.begin() as connection:
        connection.execute(text(f'ALTER SEQUENCE portfolios_id_seq RENAME TO "{name}"'))
    with portal(portfolio_url) as app, serving(app) as address:
        page = new_page(address, "/all")
        expect(page.locator("#sequences")).to_contain_text(name)
        expect(page.locator("img")).to_have_count(0)
        assert page.title() == f"{holding.url.database}: Sequences"


def test_the_page_refreshes_by_itself(portfolio_url: str, holding: Engine, new_page: Any) -> None:
    """A new problem appears on the page without any action of the user."""
    with portal(portfolio_url) as app, serving(app) as address:
        page = new_page(address)
        heading = page.get_by_role("heading", level=1)
        expect(heading).to_have_text("All 8 sequences are healthy")
        with holding.begin() as connection:
            connection.execute(
                text("INSERT INTO portfolios (id, portfolio_name) VALUES (9, 'Late')")
            )
        expect(heading).to_have_text("1 sequence needs attention")


def test_the_repair_is_offered_to_those_let_in(
    portfolio_url: str, drifted: Engine, new_page: Any
) -> None:
    """The repair button is shown only to users who may repair."""
    with (
        portal(portfolio_url, everybody, by_role("admin")) as app,
        serving(app) as address,
    ):
        admin = new_page(address, extra_http_headers={"X-Roles": "admin"})
        expect(admin.get_by_role("button", name="Repair…")).to_be_visible()
        viewer = new_page(address)
        viewer.wait_for_load_state("networkidle")  # the answer to whether it may repair is there
        expect(viewer.get_by_role("button", name="Check now")).to_be_visible()
        expect(viewer.get_by_role("button", name="Repair…")).to_be_hidden()


def test_cause_and_remedy_are_told_at_once(
    portfolio_url: str, drifted: Engine, new_page: Any
) -> None:
    """The page shows the database, the cause of each problem and its remedy without a click."""
    with portal(portfolio_url) as app, serving(app) as address:
        page = new_page(address)
        expect(page.get_by_text(f"{drifted.url.database} on ")).to_be_visible()
        why = page.locator("#sequences tbody").first.locator(".why")
        expect(why.get_by_text("already reaches 7: 5 ids behind.")).to_be_visible()
        expect(why.get_by_text("What to do: the button Repair above")).to_be_visible()
        for wording in ("Ahead", "Hands out next", "postgres"):
            expect(page.locator("table thead", has_text=wording)).to_have_count(0)
        assert not page.get_by_text("Ahead").all()


def test_the_filter_and_the_healthy(portfolio_url: str, drifted: Engine, new_page: Any) -> None:
    """The filter finds rows by a part of a name, and healthy rows can be hidden."""
    with portal(portfolio_url) as app, serving(app) as address:
        page = new_page(address)
        groups = page.locator("#sequences tbody")
        page.get_by_role("searchbox", name="Filter by table or sequence").fill("VALUATIONS_id")
        expect(groups).to_have_count(2)
        expect(page.get_by_text("2 of 8 sequences.")).to_be_visible()
        page.get_by_role("checkbox", name="Hide the healthy ones").check()
        expect(page.get_by_text("No table or sequence of that name.")).to_be_visible()
        page.get_by_role("searchbox").fill("")
        expect(groups).to_have_count(1)
        expect(groups).to_contain_text("portfolio_funds")
        page.get_by_role("button", name="Check now").click()
        expect(groups).to_have_count(1)


def test_pause_and_resume(portfolio_url: str, holding: Engine, new_page: Any) -> None:
    """While paused the page sends no request by itself; when resumed it checks at once."""
    with portal(portfolio_url) as app, serving(app) as address:
        page = new_page(address)
        page.clock.install()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.get_by_role("button", name="Pause").click()
        expect(page.get_by_text("paused since.")).to_be_visible()
        page.clock.run_for(60_000)
        page.wait_for_load_state("networkidle")
        assert asked == []
        with page.expect_response("**/sequences/state"):
            page.get_by_role("button", name="Resume").click()
        expect(page.get_by_text("again every 10 s.")).to_be_visible()
        with page.expect_response("**/sequences/state"):
            page.clock.run_for(10_000)


def test_what_has_run_out_has_no_repair(portfolio_url: str, holding: Engine, new_page: Any) -> None:
    """A sequence without ids left is red with a status of its own, and has no repair button."""
    with holding.begin() as connection:
        connection.execute(text("ALTER SEQUENCE portfolios_id_seq MAXVALUE 2"))
        connection.execute(text("SELECT setval('portfolios_id_seq', 2)"))
    with portal(portfolio_url) as app, serving(app) as address:
        page = new_page(address)
        page.wait_for_load_state("networkidle")  # the answer to whether it may repair is there
        worst = page.locator("#sequences tbody").first
        expect(worst).to_contain_text("portfolios_id_seq")
        expect(worst).to_contain_text("No ids left")
        expect(worst.get_by_role("cell", name="none", exact=True)).to_be_visible()
        expect(worst.get_by_text("What to do:")).to_be_visible()
        expect(page.get_by_role("button", name="Repair…")).to_be_hidden()


def test_what_is_wrong_comes_first(database_url: str, new_page: Any, engine: Engine) -> None:
    """Behind, then without ids, then near the end, then warnings, then the healthy; a sequence near
    its end is red, with what is left, until when, and the statement that helps.
    """
    with engine.begin() as connection:
        for statement in (
            "CREATE TABLE a_fine (id serial)",
            "CREATE TABLE b_warned (id serial)",
            "ALTER SEQUENCE b_warned_id_seq CYCLE",
            "CREATE TABLE c_near (id smallserial)",
            "CREATE TABLE d_ended (id smallserial)",
            "SELECT setval('d_ended_id_seq', 32767)",
            "CREATE TABLE e_behind (id serial)",
            "INSERT INTO e_behind VALUES (3)",
        ):
            connection.execute(text(statement))
    with serving(health_app(database_url, authorise=everybody)) as address:
        page = new_page(address, sequences=5)
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO c_near SELECT FROM generate_series(1, 32000)"))
        with page.expect_response("**/sequences/state"):
            page.get_by_role("button", name="Check now").click()
        near = page.locator("#sequences tbody.bad").nth(2)
        expect(near).to_contain_text("Near its end")
        expect(near).to_contain_text("767 left")
        expect(near).to_contain_text("until ")
        expect(near.get_by_text("ALTER TABLE c_near ALTER id TYPE bigint")).to_be_visible()
        names = page.locator("#sequences tbody th > div:first-child").all_text_contents()
        assert names == ["e_behind", "d_ended", "c_near", "b_warned", "a_fine"]
        expect(page.get_by_role("heading", level=1)).to_have_text("3 sequences need attention")
        expect(page.locator("#checked")).to_contain_text("2 of 5 healthy")
        expect(page.get_by_role("link", name="JSON")).to_be_visible()
        expect(page.get_by_role("link", name="Prometheus metrics")).to_be_visible()


def test_nothing_found_is_not_all_well(database_url: str, new_page: Any) -> None:
    """An empty database is shown as empty, and not in green."""
    with serving(health_app(database_url, authorise=everybody)) as address:
        page = new_page(address, sequences=0)
        heading = page.get_by_role("heading", level=1)
        expect(heading).to_have_text("No sequences were found")
        expect(heading).not_to_have_class("good")
        expect(page.get_by_text("is this the right database?")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_it_fits_the_screen_and_the_scheme(
    portfolio_url: str, drifted: Engine, new_page: Any, scheme: str, width: int
) -> None:
    """Nothing overflows at any width, and all text has enough contrast (WCAG AA)."""
    with portal(portfolio_url) as app, serving(app) as address:
        page = new_page(address, color_scheme=scheme, viewport={"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(_WORST_CONTRAST) >= 4.5
        page.get_by_role("button", name="Repair…").click()
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_role("row")).to_have_count(2)
        assert dialog.evaluate("d => d.scrollWidth <= d.clientWidth")
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert dark == ("rgb(16, 19, 25)" if scheme == "dark" else "rgb(245, 246, 248)")


# The lowest contrast between a text and the nearest ground behind it that is not transparent.
_WORST_CONTRAST = """
() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  let worst = 21;
  for (const node of document.querySelectorAll("body *:not(script)")) {
    const own = [...node.childNodes].some((c) => c.nodeType === 3 && c.textContent.trim());
    if (!own || !node.checkVisibility()) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(ground(node))];
    worst = Math.min(worst, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
  }
  return worst;
}
"""
