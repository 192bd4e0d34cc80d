"""A gunicorn conf module: ``gunicorn -c python:flask_svc_infra.gunicorn app:app``.

It prepares the directory in which the workers' metrics meet, clears up after workers that exit, and lets
the workers drain when the service is told to stop: readiness says 503 at once, and they go on serving for
``SVC_INFRA_DRAIN_SECONDS``.

In a conf file of your own, import everything from here first. A hook you define replaces ours: call ours
from it::

    from flask_svc_infra import gunicorn as infra
    from flask_svc_infra.gunicorn import *

    def child_exit(server, worker):
        infra.child_exit(server, worker)
        ...

Imported by anything but gunicorn, this module does nothing.
"""

from __future__ import annotations

import os
import shlex
import sys
import threading
from typing import Any

from .config import PREFIX, Settings
from .errors import ConfigurationError

__all__ = [
    "child_exit",
    "graceful_timeout",
    "nworkers_changed",
    "on_exit",
    "on_reload",
    "on_starting",
    "post_worker_init",
    "pre_request",
    "when_ready",
    "worker_int",
]

_DRAIN_KEY = f"{PREFIX}DRAIN_SECONDS"
_GRACE = 30
"""gunicorn's own default: seconds for requests in flight, which the drain must not eat up."""


def _worker_class() -> str:
    """Return the worker class asked for by the command line, GUNICORN_CMD_ARGS, or the conf file so far."""
    from gunicorn.config import Config

    parser = Config().parser()
    for words in (sys.argv[1:], shlex.split(os.environ.get("GUNICORN_CMD_ARGS", ""))):
        asked = parser.parse_known_args(words)[0].worker_class
        if asked:
            return str(asked)
    return str(getattr(sys.modules.get("__config__"), "worker_class", ""))


def _drain_seconds_in(environ: Any) -> float:
    """Return the drain's seconds as the environment has them, with or without Flask's prefix."""
    text = environ.get(f"FLASK_{_DRAIN_KEY}", environ.get(_DRAIN_KEY, "0"))
    return Settings.from_config({_DRAIN_KEY: text}).drain_seconds


graceful_timeout = _GRACE

if "gunicorn.app.base" in sys.modules:
    # gunicorn reads us. This cannot wait for a hook: --preload imports the app before any is called.
    if "gevent" in _worker_class():
        from gevent import monkey

        monkey.patch_all()
    from .obs import multiprocess

    try:
        multiprocess.prepare()
    except OSError as error:
        raise ConfigurationError(
            f"the workers' metrics cannot meet in '{error.filename}' ({error.strerror}); gunicorn was not "
            "started. Point PROMETHEUS_MULTIPROC_DIR at a directory that this user may write to."
        ) from error
    graceful_timeout = int(_GRACE + _drain_seconds_in(os.environ))


def on_starting(server: Any) -> None:
    """Share with the workers, before they exist, what tells them to drain."""
    from .ops import draining

    try:
        draining.publish_board(os.getpid())
    except OSError as error:
        server.log.warning(
            "no file could be shared (%s); 'flask svc-infra drain' cannot reach this service and each worker "
            "drains for itself. Give it a writable TMPDIR.",
            error,
        )
    draining.board().seconds = _drain_seconds_in(os.environ)


def when_ready(server: Any) -> None:
    """Let SIGTERM begin the drain at once and a second one end it; name what a fork would lose."""
    from .ops import signals

    signals.chain_master(server)
    threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if server.cfg.preload_app and threads:
        server.log.warning(
            "the preloaded app has started threads (%s), which the workers will not have. Start them at "
            "first use, or in post_fork.",
            ", ".join(threads),
        )
    if server.cfg.preload_app and "gevent" in server.cfg.worker_class_str and not _patched():
        server.log.warning(
            "the app was preloaded before gevent patched the standard library; its locks and sockets block "
            "the whole worker. Give --worker-class on the command line, or begin your conf file with "
            "'from gevent import monkey; monkey.patch_all()'."
        )


def on_reload(_server: Any) -> None:
    """Keep the old workers from draining: new ones serve in their place."""
    from .ops import draining

    draining.board().retire()


def nworkers_changed(_server: Any, new_value: int, old_value: int | None) -> None:
    """Keep dismissed workers from draining: the others go on."""
    if old_value is not None and new_value < old_value:
        from .ops import draining

        draining.board().retire()


def post_worker_init(worker: Any) -> None:
    """Give the app's readiness the drain's hold, and let SIGTERM wait for the drain."""
    from .ops import draining, signals

    seconds = _drain_seconds_in(os.environ)
    app: Any = getattr(worker, "wsgi", None)
    if "svc_infra" in getattr(app, "extensions", ()):
        from .mounts import settings_of

        draining.add_draining(app)
        if _DRAIN_KEY in app.config:
            seconds = settings_of(app).drain_seconds
    limit = worker.cfg.graceful_timeout
    if seconds >= limit:
        worker.log.warning(
            "%s is %g, but the master kills the workers after graceful_timeout, %s; the drain is cut to %g "
            "seconds. Raise --graceful-timeout above it.",
            _DRAIN_KEY,
            seconds,
            limit,
            limit / 2,
        )
        seconds = limit / 2
    draining.board().seconds = seconds
    if seconds > 0:
        signals.chain_worker(seconds)
    signals.repeat_early()


def pre_request(worker: Any, req: Any) -> None:
    """End kept-alive connections while draining, so that their clients go elsewhere before the end."""
    worker.log.debug("%s %s", req.method, req.path)
    from .ops import draining

    if draining.is_draining() and hasattr(req, "force_close"):
        req.force_close()


def worker_int(_worker: Any) -> None:
    """Let a worker that has to quit while draining be gone in a second, whatever its threads do."""
    from .ops import draining, signals

    if draining.is_draining():
        signals.leave_within(1.0)


def child_exit(_server: Any, worker: Any) -> None:
    """Clear up after the metrics of a worker that has exited."""
    from .obs import multiprocess

    multiprocess.worker_exited(worker.pid)


def on_exit(server: Any) -> None:
    """Remove what was shared."""
    from .ops import draining

    try:
        draining.remove_board(os.getpid())
    except OSError as error:
        server.log.debug("nothing shared was removed: %s", error)


def _patched() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))
