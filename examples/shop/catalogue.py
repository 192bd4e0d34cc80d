"""The product list: cached in Valkey for a moment, from the database when the cache does not answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

FRESH = 2
"""Seconds a cached list is served."""


class Catalogue:
    """Products, read through the cache. A hung cache costs a request 0.1 s, a dead one costs nothing."""

    def __init__(self, url: str, load: Callable[[], list[dict[str, Any]]]) -> None:
        self._load = load
        self._cache = redis.Redis.from_url(
            url, socket_timeout=0.1, socket_connect_timeout=0.1, retry=Retry(NoBackoff(), 0)
        )

    def products(self) -> tuple[list[dict[str, Any]], str]:
        """Return the products and where they came from: ``cache`` or ``database``."""
        try:
            cached = self._cache.get("products")
        except redis.RedisError:
            return self._load(), "database"
        if isinstance(cached, bytes):
            return json.loads(cached), "cache"
        products = self._load()
        try:
            self._cache.set("products", json.dumps(products), ex=FRESH)
        except redis.RedisError:
            return products, "database"
        return products, "database"
