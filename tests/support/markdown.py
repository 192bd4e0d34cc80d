"""Read the documentation as its readers do: fenced blocks, headings, links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,}) *(?P<language>[\w+-]*)[^`]*$")
_HIDDEN = "<!-- python"
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)[^)]*\)")
_HEADING = re.compile(r"^(#+) +(.*?) *#*$")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block; *line* is where its first line of content stands, counted from 1."""

    language: str
    text: str
    line: int


def blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a document, in order.

    A comment that opens with ``<!-- python`` and closes with ``-->``, each on a line of its own, is a Python
    block too: what a page needs to run, and its reader does not need to see.
    """
    found: list[Block] = []
    opened: tuple[str, str, str, int] | None = None
    content: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if opened is None:
            match = _FENCE.match(line)
            if match:
                opened = (match["fence"], match["indent"], match["language"].lower(), number + 1)
            elif line.strip() == _HIDDEN:
                opened = ("-->", "", "python", number + 1)
            content = []
        elif line.strip() == opened[0] or (opened[0] != "-->" and line.strip().startswith(opened[0])):
            found.append(Block(opened[2], "\n".join(content) + "\n", opened[3]))
            opened = None
        else:
            content.append(line.removeprefix(opened[1]))
    if opened is not None:
        raise ValueError(f"the block opened on line {opened[3] - 1} is never closed")
    return found


def prose(text: str) -> list[tuple[int, str]]:
    """Return the numbered lines that stand outside every fenced block, without their inline code."""
    inside: str | None = None
    lines: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        match = _FENCE.match(line)
        if inside is None and match:
            inside = match["fence"]
        elif inside is not None:
            inside = None if line.strip() == inside else inside
        else:
            lines.append((number, re.sub(r"`[^`]*`", "", line)))
    return lines


def links(text: str) -> list[tuple[int, str]]:
    """Return the targets of the links, each with its line."""
    return [(number, match["target"]) for number, line in prose(text) for match in _LINK.finditer(line)]


def anchors(text: str) -> set[str]:
    """Return the anchors that a reader's browser knows: headings in small letters, spaces as hyphens."""
    lines = text.splitlines()
    outside = {number for number, _ in prose(text)}
    headings = [
        match[2] for n, line in enumerate(lines, 1) if n in outside and (match := _HEADING.match(line))
    ]
    plain = (re.sub(r"[^\w\- ]", "", re.sub(r"`|\*", "", heading)).strip().lower() for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def under(text: str, heading: str) -> list[Block]:
    """Return the blocks that stand under *heading*, up to the next heading of its level or above."""
    start, end, level = 0, len(text.splitlines()) + 1, 0
    for number, line in prose(text):
        match = _HEADING.match(line)
        if match and not start and match[2] == heading:
            start, level = number, len(match[1])
        elif match and start and len(match[1]) <= level:
            end = number
            break
    if not start:
        raise ValueError(f"there is no heading '{heading}'")
    return [block for block in blocks(text) if start < block.line < end]
