"""YAML for people to review: block style, queries as literal blocks, quotes only where they are needed.

It writes what rule files consist of (mappings, lists, strings, numbers, booleans), so that the package needs
no YAML library. Reading is another matter and is left to one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

__all__ = ["to_yaml"]

Value = Mapping[str, "Value"] | Sequence["Value"] | str | int | float | bool

_PLAIN = re.compile(r"[A-Za-z_/](?:[A-Za-z0-9_./()%#-]|:(?=\w))*(?: [A-Za-z0-9_./()%-]+)*|\d+[smhdwy]")
_WORDS_WITH_MEANING = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def to_yaml(value: Value, *, heading: str = "") -> str:
    """Write *value* as a YAML document; *heading* becomes a comment above it."""
    comment = "".join(f"# {line}".rstrip() + "\n" for line in heading.splitlines())
    return comment + "".join(line + "\n" for line in _block(value, 0))


def _block(value: Value, indent: int) -> Iterator[str]:
    pad = " " * indent
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _entry(f"{pad}{_scalar(key)}:", item, indent)
    elif isinstance(value, Sequence) and not isinstance(value, str) and value:
        for item in value:
            first, *rest = _block(item, indent + 2)
            yield f"{pad}- {first[indent + 2 :]}"
            yield from rest
    else:
        yield pad + _scalar(value)


def _entry(key: str, item: Value, indent: int) -> Iterator[str]:
    if isinstance(item, str) and _fits_a_literal_block(item):
        yield f"{key} |" if item.endswith("\n") else f"{key} |-"
        for line in item.removesuffix("\n").split("\n"):
            yield " " * (indent + 2) + line if line else ""
    elif isinstance(item, Mapping | Sequence) and not isinstance(item, str) and item:
        yield key
        yield from _block(item, indent + 2)
    else:
        yield f"{key} {_scalar(item)}"


def _fits_a_literal_block(text: str) -> bool:
    """Tell whether *text* has lines, and ones a block keeps as they are.

    A block's first line must be neither indented nor empty, and it ends in one newline or in none.
    """
    lines = text.removesuffix("\n").split("\n")
    return (
        "\n" in text
        and all(line.isprintable() and line == line.rstrip() for line in lines)
        and bool(lines[0] and lines[-1])
        and not lines[0].startswith(" ")
    )


def _scalar(value: Value) -> str:
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return "{}" if isinstance(value, Mapping) else "[]"


def _string(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.casefold() not in _WORDS_WITH_MEANING:
        return text
    if ('"' in text or "\\" in text) and text.isprintable():
        return "'" + text.replace("'", "''") + "'"
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character == "\n":
        return "\\n"
    if character == "\t":
        return "\\t"
    return character if character.isprintable() else f"\\U{ord(character):08x}"
