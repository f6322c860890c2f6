"""The page in a real Chromium: it opens fast, fits a phone, follows the dark, and works by keyboard."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, opened
from page_runs import entry, large

from fedlease.report.page import make_page

SECONDS = 2.0
SIZES = {"desktop": (1280, 900), "phone": (390, 844), "narrow": (320, 640)}


def waiting() -> float:
    """How many times longer things take here now than with a core of their own: others may be at work."""
    wall, spent = time.perf_counter(), time.process_time()
    while time.process_time() - spent < 0.1:
        pass
    return max(1.0, (time.perf_counter() - wall) / (time.process_time() - spent))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with opened() as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    long = entry("fedit-with-a-name-that-does-not-end-before-a-line-of-a-phone-does", folder / "b")
    several = [
        entry(folder=folder / "a"),
        long,
        *(entry("flora", folder / f"c{i}", seed=i) for i in range(4)),
    ]
    made = {"large": [large()], "several": several}
    found = {}
    for name, runs in made.items():
        found[name] = folder / f"{name}.html"
        found[name].write_text(make_page(runs), encoding="utf-8")
    return found


@pytest.mark.parametrize("name", ["large", "several"])
def test_it_opens_in_two_seconds_without_a_complaint_or_a_request(
    browser: Browser, pages: dict[str, Path], name: str
) -> None:
    browser.screen(*SIZES["desktop"])
    taken: list[float] = []
    while len(taken) < 5 and min(taken, default=SECONDS) >= SECONDS:
        before = waiting()
        taken.append(browser.open(pages[name]) / max(before, waiting()))
    assert min(taken) < SECONDS, taken
    assert browser.complaints() == []
    assert browser.requests() == [pages[name].resolve().as_uri()]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["large", "several"])
def test_nothing_is_wider_than_the_screen(
    browser: Browser, pages: dict[str, Path], name: str, size: str
) -> None:
    browser.screen(*SIZES[size])
    browser.open(pages[name])
    for state in ("as it opens", "with everything unfolded"):
        width = browser.ask("document.documentElement.scrollWidth")
        assert width <= SIZES[size][0], state
        browser.ask("document.querySelectorAll('details').forEach(one => { one.open = true; })")


def test_pictures_have_a_size_and_their_labels_can_be_read(browser: Browser, pages: dict[str, Path]) -> None:
    browser.screen(*SIZES["phone"])
    browser.open(pages["large"])
    small = browser.ask(
        """[...document.querySelectorAll('svg[role=img]')].filter(svg => {
          const shown = svg.getBoundingClientRect(), drawn = svg.viewBox.baseVal;
          return shown.width < 100 || 12 * shown.width / drawn.width < 10;
        }).length"""
    )
    assert small == 0


def test_dark_and_light_are_followed(browser: Browser, pages: dict[str, Path], tmp_path: Path) -> None:
    shades = {}
    for dark in (False, True):
        browser.screen(*SIZES["phone"], dark=dark)
        browser.open(pages["large"])
        shades[dark] = browser.ask("getComputedStyle(document.body).backgroundColor")
        browser.picture(tmp_path / f"{dark}.png")
        assert (tmp_path / f"{dark}.png").read_bytes().startswith(b"\x89PNG")
    assert shades == {False: "rgb(255, 255, 255)", True: "rgb(20, 23, 27)"}


def test_keys_reach_the_report_and_what_scrolls(browser: Browser, pages: dict[str, Path]) -> None:
    browser.screen(*SIZES["phone"])
    browser.open(pages["large"])
    browser.press("Tab")
    assert browser.ask("document.activeElement.textContent") == "Skip to the report"
    assert browser.ask("document.activeElement.getBoundingClientRect().top >= 0")
    seen = []
    for _ in range(80):
        browser.press("Tab")
        seen.append(browser.ask("document.activeElement.className || document.activeElement.tagName"))
    assert seen[:12] == ["A"] * 12  # the sections
    assert {"scroll", "SUMMARY", "BUTTON"} <= set(seen)


def test_columns_sort_and_say_so(browser: Browser, pages: dict[str, Path]) -> None:
    browser.screen(*SIZES["desktop"])
    browser.open(pages["large"])
    table = "document.querySelector('#clients table')"
    column = f"[...{table}.tBodies[0].rows].map(row => Number(row.cells[6].textContent))"
    browser.ask(f"{table}.tHead.rows[0].cells[6].querySelector('button').click()")
    values = browser.ask(column)
    assert len(values) == 64
    assert values == sorted(values)
    browser.ask(f"{table}.tHead.rows[0].cells[6].querySelector('button').click()")
    assert browser.ask(column) == values[::-1]
    assert browser.ask(f"{table}.tHead.rows[0].cells[6].getAttribute('aria-sort')") == "descending"


def test_screen_readers_hear_names(browser: Browser, pages: dict[str, Path]) -> None:
    browser.screen(*SIZES["desktop"])
    browser.open(pages["several"])
    nodes = [node for node in browser.call("Accessibility.getFullAXTree")["nodes"] if not node["ignored"]]
    named: dict[str, list[str]] = {}
    for node in nodes:
        named.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
    for role in ("image", "table", "navigation", "region", "link", "button"):
        assert named.get(role), role
        assert all(name.strip() for name in named[role]), (role, named[role])
    assert len(named["main"]) == 1
