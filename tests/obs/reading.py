"""Scrape and read back, as Prometheus would."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Samples:
    """What one scrape said: ``samples("http_requests_total", method="GET")`` adds up what fits the labels."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = list(text_string_to_metric_families(text))
        self.all = [sample for family in self.families for sample in family.samples]

    def find(self, name: str, /, **labels: str) -> list[Any]:
        return [s for s in self.all if s.name == name and labels.items() <= s.labels.items()]

    def __call__(self, name: str, /, **labels: str) -> float:
        return sum(sample.value for sample in self.find(name, **labels))

    def has(self, name: str, /, **labels: str) -> bool:
        return bool(self.find(name, **labels))

    def label_sets(self, name: str) -> int:
        return len(self.find(name))


def scrape(client: Any, path: str = "/metrics", **options: Any) -> Samples:
    """Scrape a Flask test client."""
    reply = client.get(path, **options)
    assert reply.status_code == 200, reply.text
    return Samples(reply.text)
