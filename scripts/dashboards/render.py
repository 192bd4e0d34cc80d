"""From :mod:`dashboards.model` to Grafana's JSON: ids, places on the grid, field options."""

from __future__ import annotations

from .model import DATASOURCE, SCHEMA_VERSION, WIDTH, Dashboard, Json, Panel

_LEGEND = {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True}
_REDUCE = {"calcs": ["lastNotNull"], "fields": "", "values": False}


def render(dashboard: Dashboard) -> Json:
    """Write *dashboard* as the model Grafana loads."""
    return {
        "id": None,
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": list(dashboard.tags),
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "time": {"from": dashboard.time_from, "to": "now"},
        "refresh": dashboard.refresh,
        "fiscalYearStartMonth": 0,
        "liveNow": False,
        "weekStart": "",
        "annotations": {"list": [annotation.json() for annotation in dashboard.annotations]},
        "links": [_link(uid, title) for uid, title in dashboard.links.items()],
        "templating": {"list": [_datasource_variable(), *(v.json() for v in dashboard.variables)]},
        "panels": _panels(dashboard),
    }


def _datasource_variable() -> Json:
    return {
        "type": "datasource",
        "name": "datasource",
        "label": "Data source",
        "description": "The Prometheus that scrapes the service.",
        "query": "prometheus",
        "regex": "",
        "refresh": 1,
        "multi": False,
        "includeAll": False,
        "current": {"selected": False, "text": "default", "value": "default"},
        "options": [],
        "hide": 0,
        "skipUrlSync": False,
    }


def _link(uid: str, title: str) -> Json:
    return {
        "type": "link",
        "title": title,
        "url": f"/d/{uid}",
        "icon": "external link",
        "tooltip": "",
        "tags": [],
        "asDropdown": False,
        "targetBlank": False,
        "includeVars": True,
        "keepTime": True,
    }


def _panels(dashboard: Dashboard) -> list[Json]:
    """Lay the panels out left to right, top to bottom; a row's title is left out where it is empty."""
    placed: list[Json] = []
    number, y = 0, 0
    for row in dashboard.rows:
        header: Json | None = None
        if row.title:
            number += 1
            header = {
                "id": number,
                "type": "row",
                "title": row.title,
                "collapsed": row.collapsed,
                "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": y},
                "panels": [],
            }
            if row.repeat:
                header["repeat"] = row.repeat
            placed.append(header)
            y += 1
        inside = header["panels"] if header and row.collapsed else placed
        x, tallest = 0, 0
        for panel in row.panels:
            if x + panel.width > WIDTH:
                x, y, tallest = 0, y + tallest, 0
            number += 1
            place = {"h": panel.height, "w": panel.width, "x": x, "y": y}
            inside.append({"id": number, "gridPos": place, **_panel(panel)})
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest
    return placed


def _panel(panel: Panel) -> Json:
    instant = panel.kind in {"table", "stat"}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": _overrides(panel)},
        "options": _options(panel),
        "targets": [q.json(chr(ord("A") + i), instant=instant) for i, q in enumerate(panel.queries)],
        **({"transformations": _columns(panel)} if panel.columns else {}),
    }


def _defaults(panel: Panel) -> Json:
    defaults: Json = {
        "unit": panel.unit,
        "noValue": panel.no_value,
        "color": {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"},
        "custom": _custom(panel),
        "mappings": [],
        "thresholds": {
            "mode": "absolute",
            "steps": [{"value": step.value, "color": step.color} for step in panel.steps],
        },
    }
    for key, value in (("min", panel.minimum), ("max", panel.maximum), ("decimals", panel.decimals)):
        if value is not None:
            defaults[key] = value
    if panel.texts:
        options = {
            value: {"text": text, "color": color, "index": index}
            for index, (value, (text, color)) in enumerate(panel.texts.items())
        }
        defaults["mappings"] = [{"type": "value", "options": options}]
    return defaults


def _custom(panel: Panel) -> Json:
    if panel.kind == "timeseries":
        return {
            "drawStyle": "line",
            "lineInterpolation": "linear",
            "lineWidth": 1,
            "fillOpacity": 30 if panel.stacked else 10,
            "showPoints": "auto",
            "spanNulls": False,
            "axisSoftMin": 0,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if len(panel.steps) > 1 else "off"},
        }
    if panel.kind == "state-timeline":
        return {"fillOpacity": 80, "lineWidth": 0}
    if panel.kind == "table":
        return {"align": "auto", "cellOptions": {"type": "auto"}, "filterable": False, "inspect": False}
    return {}


def _overrides(panel: Panel) -> list[Json]:
    return [
        {
            "matcher": {"id": "byName", "options": column.title},
            "properties": [{"id": "unit", "value": column.unit}],
        }
        for column in panel.columns
    ]


def _options(panel: Panel) -> Json:
    if panel.kind == "timeseries":
        return {"legend": _LEGEND, "tooltip": {"mode": "multi", "sort": "desc"}}
    if panel.kind == "state-timeline":
        return {
            "mergeValues": True,
            "showValue": "auto",
            "alignValue": "left",
            "rowHeight": 0.8,
            "legend": _LEGEND,
            "tooltip": {"mode": "single", "sort": "none"},
        }
    if panel.kind == "table":
        last = panel.columns[-1].title
        return {
            "showHeader": True,
            "cellHeight": "sm",
            "frameIndex": 0,
            "sortBy": [{"displayName": last, "desc": not panel.ascending}],
        }
    return {
        "reduceOptions": _REDUCE,
        "orientation": "auto",
        "textMode": "auto",
        "colorMode": "background",
        "graphMode": "none",
        "showPercentChange": False,
        "percentChangeColorMode": "standard",
        "justifyMode": "auto",
        "wideLayout": True,
    }


def _columns(panel: Panel) -> list[Json]:
    """Put a table's queries side by side, and its columns into the order and names people read."""
    wanted = {column.field: column for column in panel.columns}
    return [
        {"id": "merge", "options": {}},
        {"id": "filterFieldsByName", "options": {"include": {"names": list(wanted)}}},
        {
            "id": "organize",
            "options": {
                "excludeByName": {},
                "indexByName": {name: index for index, name in enumerate(wanted)},
                "renameByName": {name: column.title for name, column in wanted.items()},
            },
        },
    ]
