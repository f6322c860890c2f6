"""The fenced blocks of every page of the documentation, and the commands in them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = tuple(
    str(path.relative_to(ROOT))
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    )
)
FENCE = re.compile(r"^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: where it is, what it says it holds, and its text."""

    page: str
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(kind: str, page: str | None = None) -> list[Block]:
    """All blocks of a kind, in the order a reader meets them; of one page, where it is named."""
    found = []
    for name in PAGES if page is None else (page,):
        text = (ROOT / name).read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(name, line, match["kind"], match["text"]))
    return [block for block in found if block.kind == kind]


def commands(block: Block) -> list[list[str]]:
    """The commands of a shell block as words: without comments, with lines put together that belong so."""
    found, begun = [], ""
    for line in block.text.replace("\\\n", " ").splitlines():
        begun += line
        try:
            words = shlex.split(begun, comments=True)
        except ValueError:  # a quote that another line ends
            begun += "\n"
            continue
        if words:
            found.append(words)
        begun = ""
    assert not begun, f"{block}: a quote is not closed"
    return found


def inline() -> list[tuple[str, str]]:
    """(page, command) of every ``fedlease ...`` that stands in a sentence."""
    found = []
    for page in PAGES:
        prose = FENCE.sub("", (ROOT / page).read_text(encoding="utf-8"))
        found += [(page, " ".join(text.split())) for text in re.findall(r"`(fedlease [a-z][^`]*)`", prose)]
    return found
