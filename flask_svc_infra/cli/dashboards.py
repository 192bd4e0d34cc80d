"""``flask svc-infra dashboards``: write the bundled dashboards to files, or send them to Grafana."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from .api import base_url, call
from .output import json_option, show_json, verdict, writing

__all__ = ["dashboards"]

TOKENS = ("GRAFANA_TOKEN", "GRAFANA_CLOUD_TOKEN")
_NOT_FOUND, _CONFLICT = 404, 409
_CLASSIC = "/api/dashboards/db"
_APIS = "/apis/dashboard.grafana.app/v1beta1/namespaces"


@click.group()
def dashboards() -> None:
    """Write the bundled dashboards to files, or send them to Grafana."""


@dashboards.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@json_option
def export(*, directory: Path, as_json: bool) -> None:
    """Write the dashboards into DIRECTORY, for Grafana's provisioning or its import page."""
    from ..obs.bundled import dashboard, dashboard_names

    written = []
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        for name in dashboard_names():
            path = directory / f"{name}.json"
            text = json.dumps(dashboard(name), indent=2, ensure_ascii=False) + "\n"
            path.write_text(text, encoding="utf-8")
            written.append(str(path))
    if as_json:
        show_json(written)
    else:
        for name in written:
            click.echo(f"Wrote {name}")


@dashboards.command()
@click.option(
    "--url", required=True, envvar=["GRAFANA_URL", "GRAFANA_CLOUD_URL"], show_envvar=True, callback=base_url,
    help="Grafana's address.",
)  # fmt: skip
@click.option("--folder", help="UID of the folder they go to; default: the root.")
@click.option(
    "--api", "which", type=click.Choice(["auto", "classic", "new"]), default="auto", show_default=True,
    help="Grafana's HTTP API: /api/dashboards/db, or /apis/dashboard.grafana.app (from version 12).",
)  # fmt: skip
@click.option("--grafana-namespace", default="default", show_default=True, help="Namespace of the new API.")
@click.option("--dry-run", is_flag=True, help="Show what would be sent where, and send nothing.")
@json_option
def push(
    *, url: str, folder: str | None, which: str, grafana_namespace: str, dry_run: bool, as_json: bool
) -> None:
    """Send the dashboards to a Grafana, in place of older versions of themselves.

    The token is read from GRAFANA_TOKEN (or GRAFANA_CLOUD_TOKEN), so that it shows in no process list.
    """
    from ..obs.bundled import dashboard, dashboard_names

    token = next((value for name in TOKENS if (value := os.environ.get(name, "").strip())), None)
    if token is None and not dry_run:
        raise click.ClickException(
            f"{TOKENS[0]} is not set; nothing was sent. Make a service account with the role Editor in "
            f"Grafana, and put its token into {TOKENS[0]}."
        )
    results = []
    for name in dashboard_names():
        model = dashboard(name)
        if dry_run:
            path = f"{_APIS}/{grafana_namespace}/dashboards" if which == "new" else _CLASSIC
            result = {"sent": False, "to": url + path, "uid": model["uid"]}
        else:
            result = _send(url, model, folder=folder, which=which, namespace=grafana_namespace, token=token)
        results.append({"name": name, **result})
        if not as_json and dry_run:
            click.echo(f"would send {name} ({model['uid']}) to {result['to']}")
        elif not as_json:
            verdict(bool(result["sent"]), f"{name}: {result['said']}")
    if as_json:
        show_json(results)
    if not dry_run and not all(result["sent"] for result in results):
        raise SystemExit(1)


def _send(
    url: str, model: dict[str, Any], *, folder: str | None, which: str, namespace: str, token: str | None
) -> dict[str, Any]:
    """Send one dashboard; with ``auto`` by the classic API, and by the new one where that is gone."""
    if which != "new":
        body = {"dashboard": model, "overwrite": True, "message": "flask-svc-infra"}
        if folder is not None:
            body["folderUid"] = folder
        status, answer = call(url + _CLASSIC, method="POST", body=body, token=token)
        if which == "classic" or status != _NOT_FOUND:
            return _outcome(status, answer)
    return _send_new(f"{url}{_APIS}/{namespace}/dashboards", model, folder=folder, token=token)


def _send_new(
    collection: str, model: dict[str, Any], *, folder: str | None, token: str | None
) -> dict[str, Any]:
    """Create the resource; where it exists, replace it, with its version for the server to compare."""
    uid = model["uid"]
    annotations = {} if folder is None else {"grafana.app/folder": folder}
    spec = {key: value for key, value in model.items() if key not in {"id", "uid", "version"}}
    metadata: dict[str, Any] = {"name": uid, "annotations": annotations}
    resource = {"metadata": metadata, "spec": spec}
    status, answer = call(collection, method="POST", body=resource, token=token)
    if status == _CONFLICT:
        _, current = call(f"{collection}/{uid}", token=token)
        metadata["resourceVersion"] = current.get("metadata", {}).get("resourceVersion", "")
        status, answer = call(f"{collection}/{uid}", method="PUT", body=resource, token=token)
    return _outcome(status, answer)


def _outcome(status: int, answer: dict[str, Any]) -> dict[str, Any]:
    sent = status < 300  # noqa: PLR2004 - the 2xx range; redirects are not followed
    said = answer.get("status") if sent else answer.get("message")
    return {"sent": sent, "status": status, "said": said if isinstance(said, str) else f"HTTP {status}"}
