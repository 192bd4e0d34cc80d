"""``flask-svc-infra-probe URL``: the health probe of a container that has neither curl nor wget.

It imports nothing but the standard library, because an orchestrator starts it every few seconds in a
container whose CPU is rationed.

Exit codes: 0 a 2xx came in time; 1 anything else came, or nothing; 2 the command line cannot be read.
"""

# ruff: noqa: T201 - print() keeps quiet where there is no output, as in a container without one

from __future__ import annotations

import sys

from .fetch import Unreachable, fetch, parse_seconds, parse_url

__all__ = ["main"]

_USAGE = """\
Usage: flask-svc-infra-probe [-t SECONDS] URL

Ask URL once. A 2xx answer is healthy; a redirect is not, and is not followed.

  -t, --timeout SECONDS  the whole exchange must be over by then (default 3)
  -h, --help             show this

Exit codes: 0 healthy, 1 unhealthy or unreachable, 2 wrong usage.
"""

_LONGEST_QUOTE = 400
"""Characters of a bad answer's body that are shown: container runtimes keep about 4,000 of each run."""


def main(arguments: list[str] | None = None) -> None:
    """Run the probe and end the process with its exit code.

    Args:
        arguments: the command line without the program's name; None reads ``sys.argv``.
    """
    sys.exit(_run(sys.argv[1:] if arguments is None else arguments))


def _run(arguments: list[str]) -> int:
    if "-h" in arguments or "--help" in arguments:
        print(_USAGE, end="")
        return 0
    try:
        url, timeout = _read(arguments)
        target = parse_url(url)
    except ValueError as error:
        print(f"flask-svc-infra-probe: {error}\n\n{_USAGE}", end="", file=sys.stderr)
        return 2
    try:
        answer = fetch(target, timeout=timeout)
    except Unreachable as error:
        _say(f"unhealthy: {target.shown}: {error}")
        return 1
    except KeyboardInterrupt:
        _say(f"unknown: {target.shown}: interrupted")
        return 1
    if answer.good:
        _say(f"healthy: {target.shown}: {answer.status}")
        return 0
    body = answer.body.decode(errors="replace")[:_LONGEST_QUOTE]
    _say(f"unhealthy: {target.shown}: {answer.status} {answer.reason} {body}")
    return 1


def _say(line: str) -> None:
    """Print one line in characters that every container log can hold; a body may contain anything."""
    text = "".join(c if c.isprintable() else " " for c in line).rstrip()
    print(text.encode("ascii", "backslashreplace").decode())


def _read(arguments: list[str]) -> tuple[str, float]:
    """Read the command line by hand: argparse alone would cost as much as the request."""
    urls: list[str] = []
    timeout = 3.0
    rest = iter(arguments)
    for word in rest:
        name, equals, value = word.partition("=")
        if word == "-t" or name == "--timeout":
            given = value if equals else next(rest, None)
            if given is None:
                raise ValueError(f"{name} needs a number of seconds after it.")
            timeout = parse_seconds(given)
        elif word.startswith("-t"):
            timeout = parse_seconds(word[2:])
        elif word.startswith("-"):
            raise ValueError(f"there is no option '{word}'.")
        else:
            urls.append(word)
    if len(urls) != 1:
        raise ValueError(f"one URL is needed, {len(urls)} were given.")
    return urls[0], timeout


if __name__ == "__main__":
    main()
