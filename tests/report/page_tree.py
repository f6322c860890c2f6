"""A page as a tree, read by Python's own parser, and what must hold of every page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise

VOID = {"meta", "br", "col"}


@dataclass
class Node:
    name: str
    attributes: dict[str, str]
    children: list[Node | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def all(self, *names: str) -> Iterator[Node]:
        """Every element below of these names; without names every element."""
        for child in self.children:
            if isinstance(child, Node):
                if not names or child.name in names:
                    yield child
                yield from child.all(*names)

    def one(self, name: str) -> Node:
        found = list(self.all(name))
        assert len(found) == 1, (name, len(found))
        return found[0]

    def by_id(self, name: str) -> Node:
        (found,) = [node for node in self.all() if node.attributes.get("id") == name]
        return found


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open = [Node("", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute twice: {tag} {attrs}"
        node = Node(tag, {key: value or "" for key, value in attrs})
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Node(tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().name == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def parse(page: str) -> Node:
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert len(reader.open) == 1, "an element is not closed"
    return reader.open[0]


def table_of(root: Node, caption: str) -> dict[str, list[str]]:
    """The cells of the one table with such a caption, by the heading of their row; "" is the row of heads."""
    (found,) = [node for node in root.all("table") if caption in node.one("caption").text]
    heads = [cell.text for cell in list(found.one("thead").all("tr"))[-1].all("th", "td")]
    rows = [[cell.text for cell in row.all("th", "td")] for row in found.one("tbody").all("tr")]
    return {"": heads[1:], **{row[0]: row[1:] for row in rows}}


def check(page: str) -> Node:
    """Hold a page to what every page must be; return its tree."""
    root = parse(page)
    _structure(root)
    for table in root.all("table"):
        _table(table)
    for svg in root.all("svg"):
        image = svg.attributes.get("role") == "img" and len(svg.attributes.get("aria-label", "")) > 20
        assert image or svg.attributes.get("aria-hidden") == "true", svg.attributes
    for figure in root.all("figure"):
        assert figure.one("figcaption").text.strip()
        assert any(svg.attributes.get("role") == "img" for svg in figure.all("svg"))
    assert not re.search(r".{,40}(\bnan\b|\bNone\b|<function|\binf\b)", root.one("main").text)
    _nothing_from_elsewhere(root)
    return root


def _structure(root: Node) -> None:
    ids = [node.attributes["id"] for node in root.all() if "id" in node.attributes]
    assert len(ids) == len(set(ids)), "an id twice"
    for node in root.all():
        for key in ("aria-labelledby", "aria-describedby"):
            assert set(node.attributes.get(key, "").split()) <= set(ids)
        if "tabindex" in node.attributes:
            named = node.attributes.get("aria-label") or node.name == "main"
            assert named, "what can be focused has a name"
            assert node.attributes["tabindex"] in ("0", "-1"), "the order of focus is that of the page"
    assert root.one("html").attributes["lang"] == "en"
    assert root.one("head").one("title").text.strip()
    for landmark in ("main", "nav", "header", "footer", "h1"):
        assert root.one(landmark).text.strip()
    levels = [int(node.name[1]) for node in root.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for section in root.one("main").all("section"):
        assert root.by_id(section.attributes["aria-labelledby"]).name == "h2"


def _table(table: Node) -> None:
    assert table.one("caption").text.strip()
    rows = list(table.one("thead").all("tr"))
    width = sum(int(cell.attributes.get("colspan", 1)) for cell in rows[0].all("th", "td"))
    for row in rows:
        for cell in row.all("th"):
            assert cell.attributes["scope"] in ("col", "colgroup")
        assert sum(int(cell.attributes.get("colspan", 1)) for cell in row.all("th", "td")) == width
    for row in table.one("tbody").all("tr"):
        cells = list(row.all("th", "td"))
        assert len(cells) == width
        assert [cell.name for cell in cells] == ["th"] + ["td"] * (width - 1)
        assert cells[0].attributes["scope"] == "row"


def _nothing_from_elsewhere(root: Node) -> None:
    ids = {node.attributes["id"] for node in root.all() if "id" in node.attributes}
    for node in root.all():
        assert node.name not in ("link", "img", "iframe", "object", "embed", "base", "form", "use", "image")
        assert not {"src", "srcset", "data", "style"} & node.attributes.keys()
        assert not [key for key in node.attributes if key.startswith("on")], "a handler in an attribute"
        if "href" in node.attributes:
            assert node.attributes["href"].removeprefix("#") in ids
    for node in root.all("style", "script"):
        assert "//" not in re.sub(r"^\s*//.*$", "", node.text, flags=re.M)
        assert "url(" not in node.text
        assert "@import" not in node.text
