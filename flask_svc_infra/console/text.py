"""Words of others, made fit to be shown: on one line, without secrets, and no longer than is read."""

from __future__ import annotations

from ..health.redaction import redact

__all__ = ["plain", "said", "span"]

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def plain(text: str, longest: int) -> str:
    """Return *text* on one line of *longest* characters at most.

    Control characters, those that turn the direction of what follows, and halves of surrogate pairs become
    U+FFFD: nothing that is shown looks like something else, and all of it can be encoded.
    """
    cut = text if len(text) <= longest else text[: longest - 1] + "…"
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in cut)


def said(text: object, longest: int = 500) -> str | None:
    """Return what a person or a driver said, without secrets, as the probes' bodies say it; None for none."""
    if text is None or text == "":
        return None
    return plain(" ".join(redact(str(text)).split()), longest)


def span(seconds: float) -> str:
    """Return a time in words, as exactly as a person on call needs it."""
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    hours, minutes = divmod(round(seconds / _MINUTE), 60)
    if seconds < 2 * _DAY:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{seconds / _DAY:.0f} days"
