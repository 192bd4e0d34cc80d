"""What a circuit breaker costs, ours and others', in one run.

Each figure is the median over interleaved rounds, less the bare call in the same round, so that a noisy
machine shifts all of them together: trust the ratios, not the nanoseconds. What is printed is the body of
docs/performance/breaker.md. Rivals that are not installed are left out.

    make bench BENCH=benchmarks/breaker.py
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import importlib.util
import logging
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import wraps
from itertools import repeat
from pathlib import Path
from typing import Any

from flask import Flask

from flask_svc_infra import SvcInfra
from flask_svc_infra.resilience import CircuitBreaker, failure_rate, slow_rate

logging.disable(logging.CRITICAL)

Run = Callable[[int], float]
"""Makes so many calls, returns nanoseconds per call."""
ORIGINAL = Path("/work/.mirror/nfraxlab+svc-infra/repo")


class Down(Exception):  # noqa: N818
    """The dependency failed."""


def work(x: int) -> int:
    return x


def down(x: int) -> int:
    raise Down


async def work_async(x: int) -> int:
    return x


now = time.thread_time_ns
"""Processor time of the thread: what other processes take of a busy machine is not ours to report."""


# The floors


def wrapper(fn: Callable[..., Any]) -> Callable[..., Any]:
    """What any decorator costs that looks at exceptions."""

    @wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return fn(*args, **kwargs)
        except Exception:
            raise

    return call


def wrapper_async(fn: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(fn)
    async def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return await fn(*args, **kwargs)
        except Exception:
            raise

    return call


class Empty:
    """What any context manager costs that is written in Python."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        return None

    async def __aenter__(self):
        return self

    async def __aexit__(self, kind, error, traceback):
        return None


class Refused(Exception):  # noqa: N818
    """What any refusal costs: a class, raised and caught."""


def refuse(x: int) -> int:
    raise Refused


# Ours, in its configurations


def ours(**options: Any) -> CircuitBreaker:
    return CircuitBreaker("bench", **options)


WINDOWS = {
    "failure_rate, last 100": lambda: ours(trip=failure_rate(0.5, last=100)),
    "failure_rate, 60 s": lambda: ours(trip=failure_rate(0.5, seconds=60)),
    "failure_rate | slow_rate, last 100": lambda: ours(
        trip=failure_rate(0.5, last=100) | slow_rate(0.8, slower_than=2.0, last=100)
    ),
    "failure_rate | slow_rate, 60 s": lambda: ours(
        trip=failure_rate(0.5, seconds=60) | slow_rate(0.8, slower_than=2.0, seconds=60)
    ),
}


def in_an_app() -> CircuitBreaker:
    """A breaker of an app whose metrics are exposed."""
    infra = SvcInfra(Flask("bench"))
    _apps.append(infra)
    return infra.breaker("bench")


_apps: list[SvcInfra] = []


_LONG = 3600.0
"""Seconds: a circuit that is to stay open stays open for the whole run."""


def opened(breaker: CircuitBreaker) -> CircuitBreaker:
    for _ in range(5):
        with suppress(Down), breaker:
            raise Down
    return breaker


# The others: name -> (decorator of a closed circuit, of an open one, async decorator, context manager)


def _open_by_calls(decorated: Callable[..., Any]) -> Callable[..., Any]:
    for _ in range(10):
        with suppress(Exception):
            decorated(1)
    return decorated


def circuitbreaker_forms() -> dict[str, Any]:
    from circuitbreaker import CircuitBreaker as Theirs

    return {
        "decorator": Theirs(name="a")(work),
        "open": _open_by_calls(Theirs(name="b", recovery_timeout=_LONG)(down)),
        "async": Theirs(name="c")(work_async),
        "with": Theirs(name="d"),
    }


def pybreaker_forms() -> dict[str, Any]:
    import pybreaker

    return {
        "decorator": pybreaker.CircuitBreaker()(work),
        "open": _open_by_calls(pybreaker.CircuitBreaker(reset_timeout=_LONG)(down)),
        "with each": pybreaker.CircuitBreaker().calling,
    }


def aiobreaker_forms() -> dict[str, Any]:
    import aiobreaker

    return {
        "decorator": aiobreaker.CircuitBreaker()(work),
        "open": _open_by_calls(aiobreaker.CircuitBreaker(timeout_duration=timedelta(seconds=_LONG))(down)),
        "async": aiobreaker.CircuitBreaker()(work_async),
    }


def purgatory_forms() -> dict[str, Any]:
    import purgatory

    async def asynchronous() -> Callable[..., Any]:
        factory = purgatory.AsyncCircuitBreakerFactory()
        await factory.initialize()
        return factory("c")(work_async)

    factory = purgatory.SyncCircuitBreakerFactory(default_ttl=_LONG)
    return {
        "decorator": factory("a")(work),
        "open": _open_by_calls(factory("b")(down)),
        "async": asyncio.run(asynchronous()),
        "with each": lambda: factory.get_breaker("d"),
    }


def interlock_forms() -> dict[str, Any]:
    from interlock import CircuitBreaker as Theirs
    from interlock import Config

    config = Config(minimum_number_of_calls=5, wait_duration_in_open=_LONG)
    return {
        "decorator": Theirs(name="a")(work),
        "open": _open_by_calls(Theirs(name="b", config=config)(down)),
        "async": Theirs(name="c")(work_async),
        "with": Theirs(name="d"),
    }


def original_forms() -> dict[str, Any]:
    """The documented library's breaker, loaded from a clone where there is one."""
    source = subprocess.run(
        ["git", "-C", str(ORIGINAL), "show", "HEAD:src/svc_infra/resilience/circuit_breaker.py"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "original_breaker.py")
        path.write_text(source)
        spec = importlib.util.spec_from_file_location("original_breaker", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["original_breaker"] = module
        spec.loader.exec_module(module)
    return {"async": module.CircuitBreaker().protect(work_async)}


RIVALS = {
    "circuitbreaker": circuitbreaker_forms,
    "pybreaker": pybreaker_forms,
    "aiobreaker": aiobreaker_forms,
    "purgatory": purgatory_forms,
    "interlock-cb": interlock_forms,
    "svc-infra": original_forms,
}


# Loops: each form of use timed by the same kind of loop


def calls(fn: Callable[..., Any]) -> Run:
    def run(n: int) -> float:
        start = now()
        for _ in repeat(None, n):
            fn(1)
        return (now() - start) / n

    return run


def awaits(fn: Callable[..., Any]) -> Run:
    async def loop(n: int) -> float:
        start = now()
        for _ in repeat(None, n):
            await fn(1)
        return (now() - start) / n

    return lambda n: asyncio.run(loop(n))


def blocks(manager: Any) -> Run:
    def run(n: int) -> float:
        start = now()
        for _ in repeat(None, n):
            with manager:
                pass
        return (now() - start) / n

    return run


def blocks_each(make: Callable[[], Any]) -> Run:
    def run(n: int) -> float:
        start = now()
        for _ in repeat(None, n):
            with make():
                pass
        return (now() - start) / n

    return run


def async_blocks(manager: Any) -> Run:
    async def loop(n: int) -> float:
        start = now()
        for _ in repeat(None, n):
            async with manager:
                pass
        return (now() - start) / n

    return lambda n: asyncio.run(loop(n))


def nothing(n: int) -> float:
    start = now()
    for _ in repeat(None, n):
        pass
    return (now() - start) / n


def refusals(fn: Callable[..., Any]) -> Run:
    def run(n: int) -> float:
        start = now()
        for _ in repeat(None, n):
            try:  # noqa: SIM105 - suppress() would be measured too
                fn(1)
            except Exception:
                pass
        return (now() - start) / n

    return run


def in_threads(fn: Callable[..., Any], threads: int) -> Run:
    """Time *threads* threads of the loop at once, per call."""

    def run(n: int) -> float:
        start = threading.Barrier(threads + 1)
        end = threading.Barrier(threads + 1)

        def loop() -> None:
            start.wait()
            for _ in repeat(None, n // threads):
                fn(1)
            end.wait()

        workers = [threading.Thread(target=loop) for _ in range(threads)]
        for worker in workers:
            worker.start()
        start.wait()
        began = time.perf_counter_ns()
        end.wait()
        elapsed = time.perf_counter_ns() - began
        for worker in workers:
            worker.join()
        return elapsed / (n // threads * threads)

    return run


def measure(runs: dict[str, Run], n: int, rounds: int, bare: str) -> dict[str, float]:
    """Run all of *runs* in turn, *rounds* times; return each one's median above *bare* in the same round."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run(n)
    for _ in range(rounds):
        gc.collect()
        gc.disable()
        base = runs[bare](n)
        for name, run in runs.items():
            taken[name].append((run(n) if name != bare else base) - base)
        gc.enable()
    return {name: statistics.median(values) for name, values in taken.items()}


# The tables


def others(form: str) -> dict[str, Any]:
    found = {}
    for name, forms in RIVALS.items():
        with suppress(ImportError, subprocess.CalledProcessError, FileNotFoundError):
            made = forms()
            if form in made:
                found[name] = made[form]
    return found


def decorators() -> tuple[str, dict[str, Run]]:
    runs = {"bare": calls(work), "floor": calls(wrapper(work)), "ours": calls(ours().protect(work))}
    runs["ours, metrics attached"] = calls(in_an_app().protect(work))
    runs |= {f"ours, {name}": calls(make().protect(work)) for name, make in WINDOWS.items()}
    return "Sync decorator, closed", runs | {name: calls(fn) for name, fn in others("decorator").items()}


def async_decorators() -> tuple[str, dict[str, Run]]:
    runs = {
        "bare": awaits(work_async),
        "floor": awaits(wrapper_async(work_async)),
        "ours": awaits(ours().protect(work_async)),
    }
    runs |= {f"ours, {name}": awaits(make().protect(work_async)) for name, make in WINDOWS.items()}
    return "Async decorator, closed", runs | {name: awaits(fn) for name, fn in others("async").items()}


def managers() -> tuple[str, dict[str, Run]]:
    runs = {
        "bare": nothing,
        "floor": blocks(Empty()),
        "ours, with breaker": blocks(ours()),
        "ours, with breaker.guard()": blocks_each(ours().guard),
        "floor, made each time": blocks_each(Empty),
    }
    runs |= {f"ours, with breaker, {name}": blocks(make()) for name, make in WINDOWS.items()}
    runs |= {f"ours, guard(), {name}": blocks_each(make().guard) for name, make in WINDOWS.items()}
    runs |= {name: blocks(manager) for name, manager in others("with").items()}
    return "Context manager, closed", runs | {name: blocks_each(m) for name, m in others("with each").items()}


def async_managers() -> tuple[str, dict[str, Run]]:
    return "Async context manager, closed", {
        "bare": nothing,
        "floor": async_blocks(Empty()),
        "ours, async with breaker": async_blocks(ours()),
    }


def rejections() -> tuple[str, dict[str, Run]]:
    def bare(n: int) -> float:
        return 0.0

    runs = {
        "bare": bare,
        "floor": refusals(refuse),
        "ours": refusals(opened(ours(recovery_timeout=_LONG)).protect(work)),
    }
    return "Refusal, open (in all)", runs | {name: refusals(fn) for name, fn in others("open").items()}


def threads() -> tuple[str, dict[str, Run]]:
    runs = {
        "bare": in_threads(work, 8),
        "floor": in_threads(wrapper(work), 8),
        "ours": in_threads(ours().protect(work), 8),
    }
    return "Sync decorator, 8 threads", runs | {
        name: in_threads(fn, 8) for name, fn in others("decorator").items()
    }


def sleepers() -> dict[str, float]:
    """Throughput of 8 threads that sleep 1 ms in each call, relative to no protection."""

    def nap(_x: int) -> None:
        time.sleep(0.001)

    bare, guarded = in_threads(nap, 8), in_threads(ours().protect(nap), 8)
    ratios = [bare(1600) / guarded(1600) for _ in range(9)]
    return {"ours": statistics.median(ratios)}


TABLES = {
    "decorator": decorators,
    "async": async_decorators,
    "with": managers,
    "async-with": async_managers,
    "open": rejections,
    "threads": threads,
}


def table(title: str, taken: dict[str, float]) -> str:
    floor, own = taken["floor"], next(v for k, v in taken.items() if k.startswith("ours"))
    lines = [
        f"### {title}",
        "",
        "| | ns above the bare call | times the floor | times ours |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, value in taken.items():
        if name != "bare":
            shown = name.replace("|", "\\|")
            lines.append(f"| {shown} | {value:.0f} | {value / floor:.2f} | {value / own:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs="*", choices=[*TABLES, "sleep", []], help="which; all by default")
    parser.add_argument("--calls", type=int, default=2_000, help="calls in each round")
    parser.add_argument("--rounds", type=int, default=101)
    arguments = parser.parse_args()
    python, rounds, size = platform.python_version(), arguments.rounds, arguments.calls
    print(f"CPython {python}; {rounds} rounds of {size} calls; medians.\n")
    for name, make in TABLES.items():
        if arguments.tables and name not in arguments.tables:
            continue
        title, runs = make()
        print(table(title, measure(runs, arguments.calls, arguments.rounds, "bare")), end="\n\n", flush=True)
    if not arguments.tables or "sleep" in arguments.tables:
        print(
            f"8 threads sleeping 1 ms in each call: {sleepers()['ours']:.1%} of the unprotected throughput."
        )


if __name__ == "__main__":
    main()
