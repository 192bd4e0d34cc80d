"""From ``SVC_INFRA_STATE_URL`` to a store."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from ..errors import ConfigurationError, MissingDriverError
from .redis_urls import OptionError
from .store import MemoryStore

if TYPE_CHECKING:
    from .store import Store

__all__ = ["open_store"]

_CURE = (
    "Use memory://, sqlite:////absolute/path.db, redis://host:6379/0, rediss://… "
    "or redis+sentinel://host:26379/service/0"
)
_ENCODED = "in a password write % as %25, / as %2F, ? as %3F, # as %23 and @ as %40"
_REDIS = frozenset({"redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel"})


def open_store(url: str, *, namespace: str = "default", folder: str | None = None) -> Store:
    """Make the store at *url*; nothing is connected to or opened yet.

    Args:
        url: ``memory://``, ``sqlite:////absolute/path``, ``sqlite:///path`` within *folder*, or a Redis URL.
        namespace: whose state it is.
        folder: where a relative path begins, made if need be: the app's ``instance_path``, which is the same
            for every process and command, as the working directory is not. None: there is no such place.

    Raises:
        ConfigurationError: the URL cannot be read; it is not shown, for it may hold a password.
        MissingDriverError: it is a Redis URL and redis-py is not installed.
    """
    flaw, scheme, cure = "that names no store", "", _CURE
    try:
        parts = urlsplit(url)
        scheme = parts.scheme
        if scheme == "memory" and not parts.netloc and not parts.path:
            return MemoryStore()
        if scheme == "sqlite" and len(parts.path) > 1 and not (parts.netloc or parts.query or parts.fragment):
            from .sqlite import SqliteStore

            path = unquote(parts.path)[1:]
            if folder is not None and not path.startswith(("/", ":memory:")):
                path = _within(folder, path)
            if path.startswith("/") and not path.endswith("/") and "\0" not in path:
                return SqliteStore(path, namespace)
            if not path.startswith("/"):
                flaw = "whose path is relative: each process would take it from its own folder"
        if scheme in _REDIS:
            from .redis import RedisStore

            return RedisStore(url, namespace)
    except ImportError:
        raise MissingDriverError("shared state on Redis", module="redis", extra="redis") from None
    except OptionError as option:
        flaw = f"whose option '{option}' cannot be used"
    except ValueError:
        flaw, cure = "that cannot be read", f"{_CURE}; {_ENCODED}"
    what = f"a '{scheme}' URL" if scheme else "a URL"
    raise ConfigurationError(
        f"SVC_INFRA_STATE_URL is {what} {flaw} (it is not shown); nothing was mounted. {cure}"
    ) from None


def _within(folder: str, path: str) -> str:
    with suppress(OSError):  # the store says so itself, when it cannot be opened
        Path(folder).mkdir(parents=True, exist_ok=True)
    return f"{folder}/{path}"
