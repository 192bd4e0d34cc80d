"""What may be a check: a function that can be called as it is, and what that is called."""

from __future__ import annotations

from inspect import Parameter, isfunction, signature
from typing import Any

from ..errors import ConfigurationError

__all__ = ["name_of", "require_check"]

_FACTORIES = f"{__package__}.checks."


def name_of(check_fn: Any) -> str:
    """Return a check's name before it is registered: its ``name``, else ``__name__``, else its type's."""
    for attribute in ("name", "__name__"):
        name = getattr(check_fn, attribute, None)
        if isinstance(name, str) and name:
            return name
    return type(check_fn).__name__


def require_check(subject: str, check_fn: Any) -> None:
    """Refuse what cannot be called without arguments, and a factory in place of the check it makes.

    Left alone, either would be found out by the first probe.

    Raises:
        ConfigurationError: it is such a thing; the message names *subject*.
    """
    if not callable(check_fn):
        raise ConfigurationError(
            f"{subject} was given a {type(check_fn).__name__}, which cannot be called; "
            "nothing was registered. Pass a function that takes no arguments."
        )
    needed = ", ".join(_needed(check_fn))
    if isfunction(check_fn) and check_fn.__module__.startswith(_FACTORIES):
        name = check_fn.__name__
        raise ConfigurationError(
            f"{subject} was given {name}, which makes a check and is none; "
            f"nothing was registered. Call it: {name}({needed})."
        )
    if needed:
        raise ConfigurationError(
            f"{subject} was given '{name_of(check_fn)}', which needs arguments ({needed}); "
            f"nothing was registered. Pass a function that takes none, as in lambda: check({needed})."
        )


def _needed(check_fn: Any) -> list[str]:
    """Return the names of the arguments it cannot be called without; none where it does not tell."""
    try:
        parameters = signature(check_fn).parameters.values()
    except (ValueError, TypeError):
        return []
    optional = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    return [each.name for each in parameters if each.default is each.empty and each.kind not in optional]
