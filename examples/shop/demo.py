"""Run the shop on a real PostgreSQL and a real Valkey, with traffic, until Ctrl-C.

make demo
make demo ARGS="--rate 50 --seconds 60"
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE.parent), str(ROOT / "tests")]

from support.gunicorn_runner import switches  # noqa: E402
from support.postgres import PostgresServer  # noqa: E402 - the same servers that the tests stand on
from support.processes import eventually, finish, free_port, spawn, started  # noqa: E402
from support.valkey import ValkeyServer  # noqa: E402
from support.web import request  # noqa: E402

from shop.orders import Orders  # noqa: E402
from shop.screen import Screen  # noqa: E402
from shop.traffic import Traffic  # noqa: E402

HOST = "127.0.0.1"
SHOP_PORT, API_PORT = 8210, 8211


def main() -> None:
    """Start everything, drive traffic, and end everything again."""
    options = _options()
    # A polite `kill` ends the demo as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as stack:
        try:
            _run(options, stack)
        except KeyboardInterrupt:
            # Ending is bounded; a second signal, as make sends beside the terminal, may not cut it short.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            print("\nstopping …", flush=True)
    print("everything it started has stopped", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--port", type=int, default=SHOP_PORT, help="the shop's port; 0: any (default %(default)s)"
    )
    parser.add_argument("--rate", type=float, default=20.0, help="requests a second (default %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=0.0, help="end by itself after this long (default: never)"
    )
    parser.add_argument("--workers", type=int, default=2, help="gunicorn workers (default %(default)s)")
    options = parser.parse_args()
    if options.rate <= 0 or options.workers < 1 or options.seconds < 0:
        parser.error("--rate must be above 0, --workers at least 1, --seconds 0 or more")
    return options


def _run(options: argparse.Namespace, stack: ExitStack) -> None:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shop-")))
    print("starting PostgreSQL, Valkey, the payment API and the shop …", flush=True)
    postgres = PostgresServer()
    stack.callback(postgres.close)
    valkey = ValkeyServer()
    stack.callback(valkey.close)
    Orders(postgres.url).create_schema()
    port = _port(options.port)
    api = f"http://{HOST}:{_port(API_PORT if options.port else 0)}"
    environ = {
        **os.environ,
        "PYTHONPATH": str(HERE.parent),
        "SHOP_DATABASE_URL": postgres.url,
        "SHOP_CACHE_URL": valkey.url,
        "SHOP_PAYMENTS_URL": api,
        "SHOP_CONSOLE_PASSWORD": f"shop-{secrets.token_hex(4)}",
        "FLASK_SVC_INFRA_CONSOLE": "on",
        "FLASK_SVC_INFRA_STATE_URL": f"sqlite:///{folder / 'state.db'}",
    }
    _serve_payments(stack, folder, environ, api)
    _serve_shop(stack, folder, environ, port, options.workers)

    password = environ["SHOP_CONSOLE_PASSWORD"]
    shop = f"http://{HOST}:{port}"
    print(_instructions(shop, api, postgres.pid, valkey.pid, folder, password=password), flush=True)
    traffic = Traffic(HOST, port, rate=options.rate)
    stack.callback(traffic.stop)
    traffic.start()
    screen = Screen(f"http://{HOST}:{port}")
    ends = time.monotonic() + options.seconds if options.seconds else float("inf")
    before: Counter[str] = Counter()
    while time.monotonic() < ends:
        time.sleep(1)
        counts, unpaid, slow = traffic.snapshot()
        screen.show(counts - before, unpaid, slow)
        before = counts


def _serve_payments(stack: ExitStack, folder: Path, environ: dict[str, str], url: str) -> None:
    log = folder / "payment_api.log"
    argv = [sys.executable, "-m", "shop.payment_api", url.rpartition(":")[2]]
    process = spawn(argv, log=log, env=environ, cwd=folder)
    stack.callback(finish, process, signum=signal.SIGTERM, timeout=5)
    with started(process, log):
        eventually(lambda: request(f"{url}/health").status, message="the payment API does not answer")


def _serve_shop(stack: ExitStack, folder: Path, environ: dict[str, str], port: int, workers: int) -> None:
    log = folder / "shop.log"
    argv = [sys.executable, "-m", "gunicorn", *switches(), "--config", "python:flask_svc_infra.gunicorn"]
    argv += ["--bind", f"{HOST}:{port}", "--workers", str(workers), "--worker-class", "gthread"]
    argv += ["--threads", "8", "shop.app:create_app()"]
    process = spawn(argv, log=log, env=environ, cwd=folder)
    stack.callback(finish, process, signum=signal.SIGTERM, timeout=10)

    def ready() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"gunicorn exited with {process.returncode}")
        return request(f"http://{HOST}:{port}/_health/ready").status == 200

    with started(process, log):
        eventually(ready, timeout=30, message="the shop is not ready")


def _port(wanted: int) -> int:
    """Return *wanted* if it is free, else a port that is."""
    import socket

    if wanted:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, wanted))
            except OSError:
                print(f"port {wanted} is taken; using another", flush=True)
            else:
                return wanted
    return free_port()


def _instructions(shop: str, api: str, postgres: int, valkey: int, folder: Path, *, password: str) -> str:
    return f"""
  Look at
    {shop}/                    the shop
    {shop}/_health/ready       readiness, with every check
    {shop}/metrics             Prometheus metrics, of all workers
    {shop}/_ops/console        the operations page (any user, password {password})
    {folder}/shop.log    the workers' log

  Break it, in another terminal
    curl -X PUT '{api}/faults?failure_rate=1'            the payment API fails: the circuit opens
    curl -X PUT '{api}/faults?failure_rate=0.3&delay=2'  … is slow and flaky
    curl -X PUT '{api}/faults?failure_rate=0&delay=0'    … is well again: the circuit closes
    kill -STOP {valkey}    the cache hangs: degraded          kill -CONT {valkey}
    kill -STOP {postgres}    the database hangs: not ready      kill -CONT {postgres}

  Ctrl-C stops everything.
"""


if __name__ == "__main__":
    main()
