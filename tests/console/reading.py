"""Read the page as a browser does: a tree, its tables by their headings, its forms by their fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "input", "br"}


@dataclass
class Node:
    tag: str
    attributes: dict[str, str | None] = field(default_factory=dict)
    children: list[Node | str] = field(default_factory=list)

    def all(self, tag=None, **attributes):
        """Return the nodes below, in order; ``class_`` and ``for_`` stand for Python's words."""
        wanted = {key.rstrip("_"): value for key, value in attributes.items()}
        found = []
        for child in self.children:
            if isinstance(child, str):
                continue
            if tag in (None, child.tag) and all(child.attributes.get(k) == v for k, v in wanted.items()):
                found.append(child)
            found += child.all(tag, **attributes)
        return found

    def one(self, tag=None, **attributes):
        (found,) = self.all(tag, **attributes)
        return found

    @property
    def text(self):
        parts = [child if isinstance(child, str) else child.text for child in self.children]
        return " ".join("".join(parts).split())


class Reader(HTMLParser):
    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.open = [Node("document")]
        self.feed(source)
        self.close()
        assert [node.tag for node in self.open] == ["document"], f"never closed: {self.open[1:]}"

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice: {names}"
        node = Node(tag, dict(attrs))
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_endtag(self, tag):
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data):
        self.open[-1].children.append(data)


class Page:
    """One answer of the console."""

    def __init__(self, response):
        assert response.mimetype == "text/html", response.text
        self.response = response
        self.status = response.status_code
        self.tree = Reader(response.text).open[0]

    @property
    def text(self):
        return self.tree.one("body").text

    def table(self, heading):
        """Return the rows under *heading* as dicts."""
        section = self.tree.one("section", **{"aria-labelledby": heading})
        tables = section.all("table")
        if not tables:
            return []
        head = [cell.text for cell in tables[0].one("thead").all("th")]
        rows = tables[0].one("tbody").all("tr")
        cells = [[cell.text for cell in row.children if not isinstance(cell, str)] for row in rows]
        return [dict(zip(head, row, strict=True)) for row in cells]

    def circuit(self, name):
        (row,) = [row for row in self.table("circuits") if row["Circuit"] == name]
        return row

    @property
    def journal(self):
        return self.table("journal")

    @property
    def concerns(self):
        return [item.text for item in self.tree.one("section", **{"aria-labelledby": "now"}).all("li")]

    @property
    def switch(self):
        section = self.tree.one("section", **{"aria-labelledby": "maintenance"})
        return {row.one("dt").text: row.one("dd").text for row in section.one("dl").all("div")}

    @property
    def alert(self):
        found = self.tree.all("p", role="alert")
        return found[0].text if found else None

    @property
    def notes(self):
        return [
            node.text for node in self.tree.all("p") if "note" in (node.attributes.get("class") or "").split()
        ]

    @property
    def links(self):
        return [link.attributes["href"] for link in self.tree.all("a")]

    @property
    def forms(self):
        return self.tree.all("form")

    def choices(self, name="action"):
        """Return the values of the forms' radio buttons and hidden fields of this name."""
        return [
            node.attributes["value"]
            for node in self.tree.all("input", name=name)
            if node.attributes.get("type") in ("radio", "hidden")
        ]

    def filled(self, name):
        return [node.attributes.get("value") for node in self.tree.all("input", name=name)]
