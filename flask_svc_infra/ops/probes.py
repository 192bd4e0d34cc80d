"""The plain probes: three paths that say the process answers, and nothing about its dependencies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Blueprint, current_app, request

from ..config import require_bool, require_path
from ..health.openapi import document, show
from ..mounts import Answer, Probe, mounts_of, require_unserved
from ..shortcut import install_shortcut

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flask import Flask, Response

__all__ = ["add_probes"]

_OK = Answer(200, b'{"status": "ok"}\n')
_QUESTIONS = {
    "live": "Tell that the process answers.",
    "ready": "Tell that the process answers; its dependencies are not asked.",
    "startup": "Tell that the process has started.",
}


def add_probes(app: Flask, *, prefix: str = "/_ops", include_in_schema: bool = False) -> None:
    """Mount liveness, readiness and startup probes that always answer 200 ``{"status": "ok"}``.

    They are answered before Flask dispatches, so no hook of the app can fail them. For probes that ask the
    app's dependencies see :func:`flask_svc_infra.health.add_health_routes`.

    Args:
        app: the app to mount on, before its first request.
        prefix: what their paths start with; an empty one mounts ``/live``, ``/ready`` and ``/startup``.
        include_in_schema: whether OpenAPI documents show them (see
            :func:`~flask_svc_infra.ops.openapi_paths`).

    Raises:
        ConfigurationError: *prefix* is not empty and does not start with a slash, or ends with one.
        RuntimeError: probes are already mounted under *prefix*, or the app has served a request.
    """
    if prefix != "":
        require_path("prefix", prefix)
    require_bool("include_in_schema", include_in_schema)
    mounts = mounts_of(app)
    require_unserved(app, f"probes under '{prefix}'")
    place = f"probes under '{prefix}'"
    mounts.claim(place, "Give the second add_probes another prefix, or drop one.")
    blueprint = Blueprint(_free_name(app, "svc_infra_ops"), __name__, url_prefix=prefix or None)
    show(blueprint, visible=include_in_schema)
    probes: dict[str, Probe] = {}
    for name, summary in _QUESTIONS.items():
        rule = f"{prefix}/{name}"
        probe = probes[rule] = Probe(rule=rule, kind="static", answer=_always_ok)
        view = _view(_always_ok, summary)
        blueprint.add_url_rule(f"/{name}", name, view, strict_slashes=False)
        if include_in_schema:
            document(app, probe, view, summary)
    try:
        app.register_blueprint(blueprint)
    except BaseException:  # Flask says why: too late, for one
        mounts.release(place)
        raise
    mounts.probes.update(probes)
    install_shortcut(app)


def _always_ok(_environ: Mapping[str, Any]) -> Answer:
    return _OK


def _view(answer: Callable[[Mapping[str, Any]], Answer], summary: str) -> Callable[[], Response]:
    """Return the view that gives the short cut's answer to whoever reaches Flask."""

    def probe() -> Response:
        said = answer(request.environ)
        return current_app.response_class(
            said.body, said.status, dict(said.headers), content_type=said.content_type
        )

    probe.__doc__ = summary
    return probe


def _free_name(app: Flask, wanted: str) -> str:
    """Return *wanted*, numbered when the app already has a blueprint of that name."""
    name, n = wanted, 1
    while name in app.blueprints:
        n += 1
        name = f"{wanted}_{n}"
    return name
