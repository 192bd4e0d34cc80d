"""One dashboard as a picture: every panel in its place, drawn from what Prometheus answers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CELL = 0.62
"""Inches for one column, and a bit more than half of that for one row, of Grafana's grid."""
VARIABLES = {"__rate_interval": "15s", "namespace": ".*", "job": ".*", "class": ".*", "slo": ".*"}
FIRST = "availability"
"""The value a repeated row is drawn for; Grafana draws it for every one."""
COLORS = {"green": "#56a64b", "yellow": "#e0b400", "orange": "#ff780a", "red": "#e02f44", "blue": "#3274d9"}


def draw(model: dict[str, Any], server: Any, *, begin: float, end: float, target: Path) -> None:
    """Draw *model* with what *server* knows of the time from *begin* to *end*."""
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in model["panels"])
    width, height = 24 * CELL, rows * CELL * 0.55 + 0.5
    figure = plt.figure(figsize=(width, height), facecolor="#f4f5f5")
    figure.suptitle(
        model["title"], x=0.01, y=1 - 0.12 / height, ha="left", va="top", fontsize=14, weight="bold"
    )
    chosen = dict(VARIABLES)
    for panel in model["panels"]:
        place = panel["gridPos"]
        top = 1 - (0.45 + place["y"] * CELL * 0.55) / height
        size = place["h"] * CELL * 0.55 / height
        if panel["type"] == "row":
            if "repeat" in panel:
                chosen[panel["repeat"]] = FIRST
            title = _substituted(panel["title"], chosen)
            figure.text(0.01, top - size / 2, title, fontsize=11, va="center", weight="bold")
            continue
        left, wide = place["x"] / 24, place["w"] / 24
        frame = Rectangle((left + 0.003, top - size + 0.06 / height), wide - 0.006, size - 0.08 / height)
        frame.set(facecolor="white", edgecolor="#d8d9da", transform=figure.transFigure, zorder=-1)
        figure.add_artist(frame)
        figure.text(left + 0.008, top - 0.08 / height, panel["title"], fontsize=8.5, va="top", weight="bold")
        margin = 0.075 if panel["type"] == "state-timeline" else 0.035
        inner = (left + margin, top - size + 0.55 / height, wide - margin - 0.015, size - 0.9 / height)
        axes = figure.add_axes(inner)
        axes.tick_params(labelsize=6.5)
        _DRAWERS[panel["type"]](axes, _chosen(panel, chosen), server, begin, end)
    figure.savefig(target, dpi=90, metadata={"Software": None})
    plt.close(figure)


def _substituted(text: str, chosen: dict[str, str]) -> str:
    for name, value in chosen.items():
        text = text.replace(f"${name}", value)
    return text


def _chosen(panel: dict[str, Any], chosen: dict[str, str]) -> dict[str, Any]:
    targets = [{**target, "expr": _substituted(target["expr"], chosen)} for target in panel["targets"]]
    return {**panel, "targets": targets}


def _series(panel: dict[str, Any], server: Any, begin: float, end: float) -> list[tuple[str, list[Any]]]:
    found = []
    for query in panel["targets"]:
        answer = server._api(  # noqa: SLF001 - the tests' client has no range query of its own
            "query_range", query=query["expr"], start=str(begin), end=str(end), step="1"
        )
        for row in answer["result"]:
            labels = row["metric"]
            name = re.sub(
                r"{{\s*(\w+)\s*}}", lambda m, labels=labels: labels.get(m[1], ""), query["legendFormat"]
            )
            found.append((name, [(float(at) - begin, float(value)) for at, value in row["values"]]))
    return found


def _timeseries(axes: Axes, panel: dict[str, Any], server: Any, begin: float, end: float) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    scale = 100 if defaults["unit"] == "percentunit" else 1
    lines = _series(panel, server, begin, end)
    if defaults["custom"]["stacking"]["mode"] == "normal" and lines:
        times = sorted({at for _, points in lines for at, _ in points})
        values = [[dict(points).get(at, 0.0) for at in times] for _, points in lines]
        axes.stackplot(times, values, labels=[name for name, _ in lines], alpha=0.6)
    else:
        for name, points in lines:
            axes.plot(
                [at for at, _ in points], [value * scale for _, value in points], label=name, linewidth=1
            )
    low, high = axes.get_ylim()
    for step in defaults["thresholds"]["steps"][1:]:
        if low <= step["value"] * scale <= high:
            axes.axhline(step["value"] * scale, color=COLORS[step["color"]], linestyle="--", linewidth=0.7)
    axes.set_xlim(0, end - begin)
    if "min" in defaults:
        axes.set_ylim(bottom=defaults["min"])
    axes.set_ylabel("%" if scale == 100 else defaults["unit"], fontsize=6)  # noqa: PLR2004
    if lines:
        axes.legend(fontsize=5.5, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=4, frameon=False)
    else:
        _words(axes, defaults["noValue"], "#6e7077")


def _timeline(axes: Axes, panel: dict[str, Any], server: Any, begin: float, end: float) -> None:
    texts = panel["fieldConfig"]["defaults"]["mappings"][0]["options"]
    lines = _series(panel, server, begin, end)
    for height, (_, points) in enumerate(lines):
        for at, value in points:
            color = COLORS[texts[f"{value:.0f}"]["color"]]
            axes.broken_barh([(at, 1.05)], (height + 0.1, 0.8), facecolors=color)
    axes.set_yticks([i + 0.5 for i in range(len(lines))], [name for name, _ in lines])
    axes.set_xlim(0, end - begin)
    shown = [Rectangle((0, 0), 1, 1, facecolor=COLORS[text["color"]]) for text in texts.values()]
    words = [text["text"] for text in texts.values()]
    axes.legend(
        shown, words, fontsize=5.5, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=4, frameon=False
    )


def _stat(axes: Axes, panel: dict[str, Any], server: Any, begin: float, end: float) -> None:
    del begin, end
    defaults = panel["fieldConfig"]["defaults"]
    rows = server.query(panel["targets"][0]["expr"])
    texts, color = [], "#6e7077"
    for row in rows:
        value = float(row["value"][1])
        reached = [s for s in defaults["thresholds"]["steps"] if s["value"] is None or value >= s["value"]]
        color = COLORS[reached[-1]["color"]]
        texts.append(_value(value, defaults["unit"]))
    _words(axes, "\n".join(texts) or defaults["noValue"], color)


def _table(axes: Axes, panel: dict[str, Any], server: Any, begin: float, end: float) -> None:
    del begin, end
    organized = panel["transformations"][-1]["options"]
    units = {
        override["matcher"]["options"]: override["properties"][0]["value"]
        for override in panel["fieldConfig"]["overrides"]
    }
    merged: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
    for query in panel["targets"]:
        for row in server.query(query["expr"]):
            labels = {name: value for name, value in row["metric"].items() if name != "__name__"}
            cells = merged.setdefault(tuple(sorted(labels.items())), dict(labels))
            field = f"Value #{query['refId']}"
            cells[field] = _value(float(row["value"][1]), units[organized["renameByName"][field]])
    axes.axis("off")
    fields = [name for name in organized["indexByName"] if any(name in cells for cells in merged.values())]
    heads = [organized["renameByName"][name] for name in fields]
    if merged:
        body = [[cells.get(name, "") for name in fields] for cells in merged.values()]
        table = axes.table(body, colLabels=heads, loc="upper center", cellLoc="left", edges="horizontal")
        table.auto_set_font_size(False)
        table.set_fontsize(6.5)
    else:
        _words(axes, panel["fieldConfig"]["defaults"]["noValue"], "#6e7077")


def _value(value: float, unit: str) -> str:
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    return f"{value:.3g}" + {"d": " days", "reqps": " /s"}.get(unit, "")


def _words(axes: Axes, text: str, color: str) -> None:
    axes.axis("off")
    size = 13 if len(text) < 30 else 9  # noqa: PLR2004 - what fits
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=size, color=color, transform=axes.transAxes)


_DRAWERS = {"timeseries": _timeseries, "state-timeline": _timeline, "stat": _stat, "table": _table}
