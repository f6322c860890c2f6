"""The documentation as a site: built without a warning, opened without a network, true to the code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pages import ROOT

from fedlease.algorithms.registry import methods
from fedlease.core.adapter import Modules
from fedlease.training.shapes import modules_of, on_meta
from method_facts import MODEL, PAGES, page_with_facts

pytest.importorskip("mkdocs", reason="the site is built by fedlease[docs]")

LOADS = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
"""Elements that make a browser load something, by the attribute that says what."""


class Loaded(HTMLParser):
    """What a page has a browser load, and how many formulas it shows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.places: list[str] = []
        self.formulas = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.formulas += tag == "math"
        place = dict(attrs).get(LOADS.get(tag, ""))
        if place:
            self.places.append(place)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(
        build,
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return folder


def test_the_site_loads_nothing_from_anywhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) >= 20
    for page in pages:
        for place in Loaded(page.read_text()).places:
            assert not re.match(r"[a-z]+:|//", place) or place.startswith("data:"), f"{page.name}: {place}"
            if page.name != "404.html":  # its paths are those of a server's root
                assert (page.parent / place.partition("?")[0].partition("#")[0]).exists(), place
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(https?:)?//", sheet.read_text()), sheet.name


def test_formulas_are_mathml(site: Path) -> None:
    written = (ROOT / "docs" / "fedlease.md").read_text()
    blocks = len(re.findall(r"^\$\$\n.*?^\$\$$", written, re.DOTALL | re.MULTILINE))
    inline = len(re.findall(r"\$[^$]+\$", re.sub(r"^\$\$\n.*?^\$\$$", "", written, flags=re.DOTALL | re.M)))
    assert blocks >= 9
    html = (site / "fedlease.html").read_text()
    assert Loaded(html).formulas == blocks + inline
    assert "arithmatex" not in html
    for number in range(1, 6):  # the equations keep the paper's numbers
        assert re.search(rf"&#x00028;</mo><mn>{number}</mn><mo[^>]*>&#x00029;</mo></mrow></math>", html)


def test_readme_and_its_neighbours_are_pages(site: Path) -> None:
    start = (site / "index.html").read_text()
    assert 'href="methods.html"' in start
    assert 'href="contributing.html"' in start
    assert 'src="images/allocation.png"' in start
    assert 'href="index.html#results-on-glue"' in (site / "using.html").read_text()


@pytest.fixture(scope="module")
def modules() -> Modules:
    """The adapted modules of the model that pages count on."""
    return modules_of(on_meta(MODEL))


@pytest.mark.parametrize("name", list(methods()))
def test_a_methods_page_tells_what_the_code_does(name: str, modules: Modules) -> None:
    page = (PAGES / f"{name}.md").read_text()
    assert page_with_facts(page, methods()[name], modules) == page, "run python docs/tools/method_facts.py"


def test_every_page_of_a_method_is_of_one() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} == set(methods())
