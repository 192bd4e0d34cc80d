"""A request asks the store through the reporter's thread, and never waits long."""

from __future__ import annotations

import threading
import time

import pytest
from support.processes import eventually

from flask_svc_infra.state.asking import ask
from flask_svc_infra.state.orders import journal, snapshot, switch
from flask_svc_infra.state.reporter import Reporter
from flask_svc_infra.state.store import MemoryStore, StoreError


@pytest.fixture
def reporter():
    reporter = Reporter(MemoryStore())
    yield reporter
    reporter.stop()


def test_the_answer_is_returned_and_made_in_the_reporters_thread(reporter):
    assert ask(reporter, lambda _store: threading.current_thread().name, patience=5) == "svc-infra-state"
    assert ask(reporter, lambda _store: None, patience=5) is None


def test_an_answer_that_is_false_is_an_answer(reporter):
    assert ask(reporter, lambda store: snapshot(store)[0], patience=5) == {}


def test_a_store_that_fails_says_why_and_counts_as_down(reporter):
    def work(_store):
        raise StoreError("the disk is full")

    with pytest.raises(StoreError, match="the disk is full"):
        ask(reporter, work, patience=5)
    eventually(lambda: not reporter.up)
    assert reporter.down_for >= 0
    with pytest.raises(StoreError, match="did not answer the last time"):
        ask(reporter, lambda _store: 1, patience=5)
    eventually(lambda: reporter.up, timeout=3)
    assert reporter.down_for is None


def test_work_that_is_wrong_is_told_and_the_thread_lives_on(reporter, caplog):
    with pytest.raises(StoreError, match="division"):
        ask(reporter, lambda _store: 1 / 0, patience=5)
    assert ask(reporter, lambda _store: 2, patience=5) == 2
    assert "met an error of its own" in caplog.text


def test_work_that_was_given_up_before_it_began_is_never_done(reporter):
    entered, release = threading.Event(), threading.Event()

    def hang(_store):
        entered.set()
        release.wait(10)

    first = threading.Thread(target=lambda: ask(reporter, hang, patience=10))
    first.start()
    assert entered.wait(5)
    began = time.monotonic()
    with pytest.raises(StoreError, match=r"not asked within 0\.05s"):
        ask(reporter, lambda store: switch(store, "full", reason=None, actor="a"), patience=0.05)
    assert time.monotonic() - began < 1
    release.set()
    first.join(5)
    assert ask(reporter, lambda store: journal(store, 5), patience=5) == []


def test_work_that_hangs_is_left_with_a_word_that_it_may_be_done_yet(reporter):
    release = threading.Event()
    with pytest.raises(StoreError, match="may still do what it was asked"):
        ask(reporter, lambda _store: release.wait(10), patience=0.05)
    release.set()
