"""Events: frozen records, told to everybody, whatever one listener does."""

from __future__ import annotations

import logging
from dataclasses import FrozenInstanceError

import pytest
from blinker import Namespace

from flask_svc_infra.events import MaintenanceChanged, publish

EVENT = MaintenanceChanged(mode="full", reason="upgrade", actor="api", at=1.0)


@pytest.fixture
def signal():
    return Namespace().signal("test")


def test_an_event_cannot_be_changed_by_a_listener():
    with pytest.raises(FrozenInstanceError):
        EVENT.mode = "off"


def test_a_listener_gets_sender_and_event(signal):
    heard = []
    signal.connect(lambda sender, event: heard.append((sender, event)), weak=False)
    sender = object()
    publish(signal, sender, EVENT)
    assert heard == [(sender, EVENT)]


def test_a_listener_bound_to_a_sender_hears_only_that_sender(signal):
    heard = []
    mine, other = object(), object()
    signal.connect(lambda sender, event: heard.append(sender), sender=mine, weak=False)
    publish(signal, other, EVENT)
    publish(signal, mine, EVENT)
    assert heard == [mine]


def test_a_listener_that_raises_is_logged_and_the_others_still_hear(signal, caplog):
    heard = []

    def breaks(sender, event):
        raise RuntimeError("listener broke")

    signal.connect(breaks)
    signal.connect(lambda sender, event: heard.append(event), weak=False)
    with caplog.at_level(logging.ERROR, logger="flask_svc_infra.events"):
        publish(signal, object(), EVENT)
    assert heard == [EVENT]
    assert "a listener of 'test' raised" in caplog.text
