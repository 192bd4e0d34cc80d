"""The layout of prometheus_client's multiprocess files, written and read defensively.

    4 bytes   how many bytes are in use, this header included (native int)
    4 bytes   padding
    then, for each value:
    4 bytes   length of the key (native int)
    n bytes   the key: JSON of [metric name, sample name, labels, help], UTF-8
    padding   spaces, so that the value starts at a multiple of eight; at least one
    8 bytes   the value (native double)
    8 bytes   its time in seconds since the epoch, 0.0 for none (native double)

What follows the bytes in use is ignored by every reader. :mod:`.compaction` keeps there the names of the
files it has absorbed.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

__all__ = [
    "HEADER_SIZE",
    "CorruptFileError",
    "Key",
    "Value",
    "build",
    "entries",
    "entry",
    "key_text",
    "pack_used",
    "parse_key",
    "tail",
]

HEADER_SIZE = 8
_INT = struct.Struct("i")
_PAIR = struct.Struct("dd")
_LONGEST_KEY = 1 << 20
"""A longer key than a mebibyte is damage, not data."""


class CorruptFileError(Exception):
    """A multiprocess file whose bytes cannot be what a process wrote."""


class Key(NamedTuple):
    """What a value is called."""

    metric: str
    sample: str
    labels: tuple[tuple[str, str], ...]
    help: str


Value = tuple[float, float]
"""A value and its time."""


def key_text(metric: str, sample: str, names: Sequence[str], values: Sequence[str], help_text: str) -> str:
    """Return a key as it stands in a file; equal keys are equal texts."""
    return json.dumps([metric, sample, dict(zip(names, values, strict=True)), help_text], sort_keys=True)


@lru_cache(maxsize=1 << 16)
def parse_key(raw: bytes) -> Key:
    """Read a key back.

    Raises:
        CorruptFileError: *raw* is not a key.
    """
    try:
        metric, sample, labels, help_text = json.loads(raw)
        pairs = tuple(sorted((str(name), str(value)) for name, value in labels.items()))
        float(labels.get("le", 0))
    except (ValueError, TypeError, AttributeError):
        raise CorruptFileError("it holds a key that is not a metric's name") from None
    if not (isinstance(metric, str) and isinstance(sample, str) and isinstance(help_text, str)):
        raise CorruptFileError("it holds a key that is not a metric's name")
    return Key(metric, sample, pairs, help_text)


def pack_used(used: int) -> bytes:
    """Return the header's four bytes that make the first *used* bytes visible."""
    return _INT.pack(used)


def entry(key: str, value: float = 0.0, at: float = 0.0) -> bytes:
    """Return the bytes of one value, a multiple of eight."""
    return _entry(key.encode(), value, at)


def _entry(raw: bytes, value: float, at: float) -> bytes:
    padding = 8 - (len(raw) + 4) % 8
    return _INT.pack(len(raw)) + raw + b" " * padding + _PAIR.pack(value, at)


def build(values: dict[bytes, Value], tail: bytes = b"") -> bytes:
    """Return a whole file that holds *values*, with *tail* after the bytes in use."""
    body = b"".join(_entry(raw, *value) for raw, value in values.items())
    return _INT.pack(HEADER_SIZE + len(body)) + b"\0" * 4 + body + tail


def entries(data: bytes) -> Iterator[tuple[bytes, tuple[float, float]]]:
    """Yield every key, raw, and its value.

    Raises:
        CorruptFileError: the bytes stop making sense; what was yielded before was sound.
    """
    if len(data) < HEADER_SIZE:
        raise CorruptFileError(f"it is {len(data)} bytes long, too short for its header")
    used = _INT.unpack_from(data)[0]
    if not HEADER_SIZE <= used <= len(data):
        raise CorruptFileError(f"it says that {used} bytes are in use and has {len(data)}")
    position, read_length, read_pair = HEADER_SIZE, _INT.unpack_from, _PAIR.unpack_from
    while position < used:
        if position + 4 > used:
            raise CorruptFileError(f"its entry at byte {position} is cut off")
        length = read_length(data, position)[0]
        start = position + 4
        end = start + length
        place = end + 8 - (length + 4) % 8
        if not 0 < length <= _LONGEST_KEY or place + 16 > used:
            raise CorruptFileError(f"its entry at byte {position} does not fit into it")
        yield data[start:end], read_pair(data, place)
        position = place + 16


def tail(data: bytes) -> bytes:
    """Return what follows the bytes in use."""
    return data[_INT.unpack_from(data)[0] :] if len(data) >= HEADER_SIZE else b""
