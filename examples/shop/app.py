"""The shop: an order service that keeps taking orders while the payment API is down.

    gunicorn -c python:flask_svc_infra.gunicorn 'shop.app:create_app()'

Where things are comes from the environment: ``SHOP_DATABASE_URL``, ``SHOP_CACHE_URL``, ``SHOP_PAYMENTS_URL``;
so does the password of the operations page, ``SHOP_CONSOLE_PASSWORD``.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import requests
from flask import Flask, Request, abort, request
from werkzeug.datastructures import WWWAuthenticate

from flask_svc_infra import SLO, RetryExhaustedError, SvcInfra
from flask_svc_infra.health import (
    add_startup_probe,
    check_breaker,
    check_database,
    check_redis,
    check_url,
)

from .catalogue import Catalogue
from .orders import Order, Orders
from .payments import Payments

OBJECTIVES = [
    SLO("availability", objective=0.99, description="the shop answers"),
    SLO("latency", objective=0.99, latency=0.3, route_class="checkout", description="nobody waits to buy"),
]
MOST = 1000
"""How many of one product can be ordered at once."""


def classify(rule: str, method: str) -> str:
    """Say which class of traffic a route is: SLOs are for what customers see."""
    if rule.startswith("/_"):
        return "system"
    return "public" if method == "GET" else "checkout"


def knows(password: str) -> Callable[[Request, str], bool]:
    """Say who may operate the shop: whoever knows *password*; without one, nobody. Anybody may scrape."""

    def may_operate(request: Request, action: str) -> bool:
        if action == "metrics":
            return True
        given = request.authorization
        if given is not None and given.type == "basic" and given.password is not None:
            right = hmac.compare_digest(given.password.encode(), password.encode())
            if right and password:
                return True
        return abort(401, www_authenticate=WWWAuthenticate("basic", {"realm": "the shop's operations"}))

    return may_operate


def create_app() -> Flask:
    """Make the app: what it needs, what watches over it, what it does."""
    app = Flask(__name__)
    app.config.from_prefixed_env()  # FLASK_SVC_INFRA_*: how this deployment differs
    app.config.from_prefixed_env("SHOP")
    database, cache, payment_api = (app.config[f"{name}_URL"] for name in ("DATABASE", "CACHE", "PAYMENTS"))

    may_operate = knows(str(app.config.get("CONSOLE_PASSWORD", "")))
    infra = SvcInfra(slos=OBJECTIVES, route_classifier=classify, authorize=may_operate)
    breaker = infra.breaker(
        "payments", failure_threshold=5, recovery_timeout=app.config.get("RECOVERY_TIMEOUT", 5.0)
    )
    infra.health.add("database", check_database(database), timeout=2.0)
    infra.health.add("cache", check_redis(cache), critical=False, timeout=1.0)
    infra.health.add("payments", check_url(f"{payment_api}/health"), critical=False, timeout=1.0)
    infra.health.add("payments-circuit", check_breaker(breaker), critical=False)
    add_startup_probe(app, [check_database(database)], timeout=30.0, interval=0.5)
    infra.init_app(app)

    orders = Orders(database)
    catalogue = Catalogue(cache, orders.products)
    payments = Payments(payment_api, breaker)
    _add_catalogue(app, catalogue)
    _add_checkout(app, orders, payments)
    return app


def _add_catalogue(app: Flask, catalogue: Catalogue) -> None:
    @app.get("/")
    def index() -> dict[str, Any]:
        paths = ["/products", "/orders", "/_health/ready", "/_health/checks/payments", "/metrics"]
        return {"service": "shop", "worker": os.getpid(), "paths": paths}

    @app.get("/products")
    def list_products() -> dict[str, Any]:
        products, source = catalogue.products()
        return {"products": products, "from": source}


def _add_checkout(app: Flask, orders: Orders, payments: Payments) -> None:
    def found(number: int) -> Order:
        return orders.find(number) or abort(404, "no such order")

    @app.post("/orders")
    def place_order() -> tuple[dict[str, Any], int]:
        sku, quantity = _basket(request.get_json())
        order = orders.place(sku, quantity) or abort(404, "no such product")
        try:
            paid = payments.charge_or_wait(order)
        except (requests.RequestException, RetryExhaustedError) as error:
            app.logger.info("order %s could not be paid: %s", order.number, error)
            paid = False
        if not paid:
            return {"number": order.number, "status": order.status}, 202
        orders.mark_paid(order.number)
        return {"number": order.number, "status": "paid"}, 201

    @app.get("/orders/<int:number>")
    def show_order(number: int) -> dict[str, Any]:
        return asdict(found(number))

    @app.post("/orders/<int:number>/pay")
    def pay_order(number: int) -> dict[str, Any]:
        order = found(number)
        if order.status != "paid":
            # No fallback here: an open circuit becomes 503 with Retry-After, by the extension's handler.
            payments.charge(order)
            orders.mark_paid(number)
        return {"number": number, "status": "paid"}


def _basket(body: Any) -> tuple[str, int]:
    """Return what is ordered; 400 when the body is not an order."""
    sku, quantity = (body.get("sku"), body.get("quantity")) if isinstance(body, dict) else (None, None)
    if isinstance(sku, str) and type(quantity) is int and 1 <= quantity <= MOST:
        return sku, quantity
    return abort(400, f'an order is {{"sku": "tea", "quantity": 1 to {MOST}}}')
