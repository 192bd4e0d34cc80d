"""The whole of ``flask svc-infra``: what every command has in common."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest
from flask import Flask

from flask_svc_infra.cli import group


def leaves(command: click.Command, path: tuple[str, ...] = ()):
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from leaves(inner, (*path, name))
    else:
        yield pytest.param(path, command, id=" ".join(path))


COMMANDS = list(leaves(group))


def test_flask_finds_the_group():
    (point,) = entry_points(group="flask.commands", name="svc-infra")
    assert point.load() is group


def test_the_documented_commands_are_there():
    assert {param.id for param in COMMANDS} >= {
        "config", "doctor", "drain", "health check", "health show", "health wait", "k8s generate",
    }  # fmt: skip


@pytest.mark.parametrize(("path", "command"), COMMANDS)
def test_every_command_prints_json_when_asked(path, command):
    assert any("--json" in parameter.opts for parameter in command.params)


@pytest.mark.parametrize(("path", "command"), COMMANDS)
def test_every_command_and_option_explains_itself(path, command, flask_command):
    result = flask_command(*path, "--help")
    assert result.exit_code == 0
    assert command.get_short_help_str()
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


@pytest.mark.parametrize(("path", "command"), COMMANDS)
def test_every_command_refuses_an_unknown_option(path, command, flask_command):
    assert flask_command(*path, "--nonsense").exit_code == 2


def test_group_and_nothing_else_is_there_to_take():
    from flask_svc_infra import cli

    assert cli.__all__ == ["group"]
    with pytest.raises(AttributeError, match="no attribute 'app'"):
        _ = cli.app


def test_flask_lists_it_without_importing_a_driver(tmp_path):
    """The group is loaded whenever ``flask`` runs, whatever the command: it must cost next to nothing."""
    script = Path(sysconfig.get_path("scripts")) / "flask"
    done = subprocess.run(
        [script, "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True
    )
    assert "svc-infra" in done.stdout
    source = (
        "import sys, flask_svc_infra.cli.commands; "
        "print(sorted({'prometheus_client', 'tenacity', 'redis', 'requests', 'yaml'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "arguments",
    [("dashboards", "export", "/proc/here"), ("rules", "generate", "-o", "/proc/here")],
    ids=["dashboards", "rules"],
)
def test_place_that_cannot_be_written_is_a_sentence_not_a_traceback(arguments, flask_command):
    result = flask_command(*arguments, app=Flask("shop"))
    assert result.exit_code == 1
    assert "'/proc/here' cannot be written (No such file or directory)" in result.stderr
