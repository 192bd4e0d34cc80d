"""From ``SVC_INFRA_STATE_URL`` to a store."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from ..errors import ConfigurationError, MissingDriverError
from .store import MemoryStore

if TYPE_CHECKING:
    from .store import Store

__all__ = ["open_store"]

_CURE = "Use memory://, sqlite:////absolute/path.db, redis://host:6379/0 or rediss://…"
_REDIS = frozenset({"redis", "rediss", "unix", "redis+sentinel"})


def open_store(url: str, *, namespace: str = "default") -> Store:
    """Make the store at *url*; nothing is connected to, opened or created yet.

    Args:
        url: ``memory://``, ``sqlite:///path``, or a Redis URL.
        namespace: whose state it is.

    Raises:
        ConfigurationError: the URL cannot be read; it is not shown, for it may hold a password.
        MissingDriverError: it is a Redis URL and redis-py is not installed.
    """
    try:
        parts = urlsplit(url)
        scheme = parts.scheme
        if scheme == "memory" and not parts.netloc and not parts.path:
            return MemoryStore()
        if scheme == "sqlite" and not parts.netloc and len(parts.path) > 1 and not parts.query:
            from .sqlite import SqliteStore

            return SqliteStore(unquote(parts.path)[1:], namespace)
        if scheme in _REDIS:
            from .redis import RedisStore

            return RedisStore(url, namespace)
    except ImportError:
        raise MissingDriverError("shared state on Redis", module="redis", extra="redis") from None
    except ValueError:
        scheme = ""
    what = f"a '{scheme}' URL" if scheme else "no URL"
    raise ConfigurationError(
        f"SVC_INFRA_STATE_URL is {what} that names no store (it is not shown); nothing was mounted. {_CURE}"
    ) from None
