"""``flask svc-infra rules``: write the Prometheus rules of this app's objectives, and prove them."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .output import json_option, load_app, show_json, verdict, writing

if TYPE_CHECKING:
    from ..obs.rules import Group, Scope
    from ..obs.slo import SLO

__all__ = ["rules"]

HEADING = "Made by `flask svc-infra rules generate`; change the objectives in the code and make it again."


@click.group()
def rules() -> None:
    """Write and test the Prometheus rules of this app's objectives."""


def _labels(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    pairs = [item.partition("=") for item in value]
    for name, sign, text in pairs:
        if not (name and sign and text):
            raise click.BadParameter("write it as in 'team=shop'", ctx, param)
    return {name: text for name, _, text in pairs}


def _scope_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Let a command choose which service the rules are about."""
    options = [
        click.option(
            "--openslo",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="Take the objectives from OpenSLO v1 documents instead of the app.",
        ),
        click.option("--job", help="The service's scrape job. Needed where a Prometheus scrapes several."),
        click.option("--namespace", help="The service's namespace."),
        click.option(
            "--by",
            multiple=True,
            help="Labels that tell services apart; default: namespace and job. Repeatable.",
        ),
        click.option(
            "--label", "labels", multiple=True, callback=_labels, help="NAME=VALUE on every rule. Repeatable."
        ),
        click.option("--runbooks", help="Where the runbooks are read, as in https://wiki.example/runbooks."),
        click.option(
            "--minimum-errors",
            type=click.IntRange(min=1),
            help="Failures before a burn rate alerts; default: 5.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _scope(app: Any, options: dict[str, Any]) -> Scope:
    from ..obs.objectives import scope_of

    return scope_of(app, **{name: value for name, value in options.items() if value})


def _groups(slos: tuple[SLO, ...], scope: Scope) -> list[Group]:
    from ..obs.alerts import service_alerts
    from ..obs.slo_rules import slo_groups

    return [service_alerts(scope), *slo_groups(slos, scope)]


def _slos(app: Any, openslo: Path | None) -> tuple[SLO, ...]:
    from ..obs.objectives import slos_of
    from ..obs.openslo import read_openslo

    if openslo is not None:
        return tuple(read_openslo(openslo.read_text(encoding="utf-8")))
    slos = slos_of(app)
    if not slos:
        click.echo(
            "This app declares no objectives; only the alerts every service gets are made. Declare some: "
            "SvcInfra(slos=[SLO('availability', objective=0.999)])",
            err=True,
        )
    return slos


@rules.command()
@click.option(
    "--format", "form", type=click.Choice(["prometheus", "operator", "openslo"]), default="prometheus",
    show_default=True, help="A rule file, a PrometheusRule for Kubernetes, or OpenSLO documents.",
)  # fmt: skip
@click.option(
    "--name", default="svc-infra", show_default=True, help="The PrometheusRule's or service's name."
)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to a file.")
@_scope_options
@json_option
@click.pass_context
def generate(
    ctx: click.Context,
    /,
    *,
    form: str,
    name: str,
    output: Path | None,
    openslo: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Write recording rules and alerts for this app's objectives.

    \b
    Examples:
      flask svc-infra rules generate --job shop -o shop.rules.yaml
      flask svc-infra rules generate --job shop --format operator --name shop | kubectl apply -f -
    """  # noqa: D301 - click's mark for "leave these lines alone" is the character itself
    from ..obs.openslo import openslo_documents
    from ..obs.rules import operator_document, prometheus_document
    from ..obs.yaml_text import to_yaml

    app = load_app(ctx)
    slos, scope = _slos(app, openslo), _scope(app, options)
    if form == "openslo":
        documents = openslo_documents(slos, scope, service=name)
    elif form == "operator":
        documents = [operator_document(_groups(slos, scope), name=name, namespace=scope.namespace)]
    else:
        documents = [prometheus_document(_groups(slos, scope))]
    if as_json:
        text = json.dumps(documents if form == "openslo" else documents[0], indent=2) + "\n"
    else:
        text = "---\n".join(to_yaml(document, heading=HEADING) for document in documents)
    if output is None:
        click.echo(text, nl=False)
    else:
        with writing(output):
            output.write_text(text, encoding="utf-8")
        click.echo(f"Wrote {output}", err=True)


@rules.command()
@click.option("--promtool", help="Prometheus' promtool; default: the one on the PATH.")
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Leave rules and tests in this directory.",
)
@_scope_options
@json_option
@click.pass_context
def test(
    ctx: click.Context,
    /,
    *,
    promtool: str | None,
    keep: Path | None,
    openslo: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Test the rules: outages page, slow burns ticket, silence stays silent.

    The tests are made from the objectives and run by promtool. Exits 1 when one fails.
    """
    app = load_app(ctx)
    slos, scope = _slos(app, openslo), _scope(app, options)
    found = shutil.which(promtool or "promtool")
    if found is None:
        raise click.ClickException(
            f"{promtool or 'promtool'} was not found; nothing was tested. It comes with Prometheus: install "
            "that, or name it with --promtool."
        )
    failed: dict[str, str] = {}
    with _directory(keep) as folder:
        results = list(_run(found, folder, slos, scope))
    for name, said in results:
        if said is not None:
            failed[name] = said
        if not as_json:
            verdict(said is None, name)
            if said is not None:
                click.echo(said)
    if as_json:
        show_json({name: {"passed": said is None, "output": said} for name, said in results})
    if failed:
        raise SystemExit(1)


@contextmanager
def _directory(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        with writing(keep):
            keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="svc-infra-rules-") as name:
        yield Path(name)


def _run(
    promtool: str, folder: Path, slos: tuple[SLO, ...], scope: Scope
) -> Iterator[tuple[str, str | None]]:
    """Yield what was tested, and what promtool said of it when it failed."""
    from ..obs.rules import to_rule_file
    from ..obs.slo_rules import slo_groups
    from ..obs.slo_tests import rule_test_document
    from ..obs.yaml_text import to_yaml

    everything = folder / "rules.yaml"
    everything.write_text(to_rule_file(_groups(slos, scope), heading=HEADING), encoding="utf-8")
    yield "rules.yaml", _said(promtool, "check", "rules", str(everything))
    for slo in slos:
        rule_file, test_file = folder / f"{slo.name}.rules.yaml", folder / f"{slo.name}.test.yaml"
        rule_file.write_text(to_rule_file(slo_groups([slo], scope)), encoding="utf-8")
        document = rule_test_document(slo, scope, rule_file=rule_file.name)
        test_file.write_text(to_yaml(document), encoding="utf-8")
        yield slo.name, _said(promtool, "test", "rules", str(test_file))


def _said(*argv: str) -> str | None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)  # noqa: S603 - promtool, as asked
    return None if done.returncode == 0 else (done.stdout + done.stderr).strip()
