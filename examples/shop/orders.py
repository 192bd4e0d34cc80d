"""The shop's database: products and orders, in PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg2

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812 - a class, whatever the driver calls it

SCHEMA = """
CREATE TABLE IF NOT EXISTS products (sku text PRIMARY KEY, name text NOT NULL, price integer NOT NULL);
CREATE TABLE IF NOT EXISTS orders (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sku text NOT NULL REFERENCES products,
    quantity integer NOT NULL CHECK (quantity > 0),
    amount integer NOT NULL,
    status text NOT NULL
);
INSERT INTO products VALUES ('tea', 'Green tea', 450), ('cup', 'Cup', 900), ('pot', 'Pot', 3200)
ON CONFLICT DO NOTHING;
"""


@dataclass(frozen=True, slots=True)
class Order:
    """One order; *amount* is in cents."""

    number: int
    sku: str
    quantity: int
    amount: int
    status: str


class Orders:
    """Reads and writes orders. Every thread has a connection of its own, made when it first asks."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._of_thread = threading.local()

    def create_schema(self) -> None:
        with self._transaction() as cursor:
            cursor.execute(SCHEMA)

    def products(self) -> list[dict[str, Any]]:
        with self._transaction() as cursor:
            cursor.execute("SELECT sku, name, price FROM products ORDER BY sku")
            return [{"sku": sku, "name": name, "price": price} for sku, name, price in cursor.fetchall()]

    def place(self, sku: str, quantity: int) -> Order | None:
        """Write a new order and return it; None when there is no such product."""
        with self._transaction() as cursor:
            cursor.execute(
                "INSERT INTO orders (sku, quantity, amount, status)"
                " SELECT sku, %(quantity)s, price * %(quantity)s, 'awaiting payment' FROM products"
                " WHERE sku = %(sku)s RETURNING number, sku, quantity, amount, status",
                {"sku": sku, "quantity": quantity},
            )
            return self._one(cursor)

    def find(self, number: int) -> Order | None:
        with self._transaction() as cursor:
            cursor.execute(
                "SELECT number, sku, quantity, amount, status FROM orders WHERE number = %s", (number,)
            )
            return self._one(cursor)

    def mark_paid(self, number: int) -> None:
        with self._transaction() as cursor:
            cursor.execute("UPDATE orders SET status = 'paid' WHERE number = %s", (number,))

    @staticmethod
    def _one(cursor: Cursor) -> Order | None:
        row = cursor.fetchone()
        return None if row is None else Order(*row)

    @contextmanager
    def _transaction(self) -> Iterator[Cursor]:
        connection = getattr(self._of_thread, "connection", None)
        if connection is None:
            connection = self._of_thread.connection = psycopg2.connect(
                self._url, connect_timeout=2, tcp_user_timeout=2000, options="-c statement_timeout=2000"
            )
        try:
            with connection, connection.cursor() as cursor:
                yield cursor
        except (psycopg2.OperationalError, psycopg2.InterfaceError):
            # The server has gone: this request fails, the thread's next one connects anew.
            self._of_thread.connection = None
            connection.close()
            raise
