"""What mkdocs does not do by itself: README and its neighbours as pages, and formulas as MathML."""

from __future__ import annotations

import html
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Files of the repository's root that are pages of the site."""

LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s#]*)(?P<anchor>#[^)\s]*)?\)")
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside of the docs folder."""
    root = Path(config.config_file_path).parent
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(root / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Point links at the site's pages; a file that is none keeps its name and loses its link."""
    at = page.file.src_uri
    names = {made: source for source, made in PAGES.items()}
    return rewritten(markdown, names.get(at, f"docs/{at}"), at)


def rewritten(markdown: str, source: str, page: str) -> str:
    """The text of a file of the repository with the links of a page of the site."""

    def link(found: re.Match[str]) -> str:
        text, target = found["text"], found["target"]
        if not target or ":" in target:
            return found[0]
        meant = os.path.normpath(PurePosixPath(source).parent / target)
        there = PAGES.get(meant, meant.removeprefix("docs/") if meant.startswith("docs/") else None)
        if there is None:
            return f"{text} (`{meant}`)" if text.strip("`") != meant else text
        relative = os.path.relpath(there, PurePosixPath(page).parent)
        return f"{found['image']}[{text}]({relative}{found['anchor'] or ''})"

    return LINK.sub(link, markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Turn formulas into MathML, which browsers show without any script."""
    return FORMULA.sub(lambda found: mathml(html.unescape(found[3]), block=found[2] == "["), content)


def mathml(latex: str, *, block: bool) -> str:
    """A formula as MathML; its LaTeX is the text for whoever cannot see it. A wide one scrolls by itself."""
    numbered = re.sub(r"\\tag\{(\d+)\}", r"\\qquad (\1)", " ".join(latex.split()))
    made = convert(numbered, display="block" if block else "inline")
    if "\\" in made:
        raise PluginError(f"this formula has a command that cannot be shown: {latex}")
    made = made.replace("<math ", f'<math aria-label="{html.escape(latex.strip(), quote=True)}" ', 1)
    return f'<div style="overflow-x: auto" tabindex="0">{made}</div>' if block else made
