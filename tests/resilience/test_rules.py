"""Trip rules: what each counts, where each forgets, what combinations and bad numbers say."""

from __future__ import annotations

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_svc_infra.errors import ConfigurationError
from flask_svc_infra.resilience import consecutive, failure_rate, slow_rate
from flask_svc_infra.resilience.rules import NEVER
from flask_svc_infra.resilience.window import CountWindow, TimeWindow


def tripped_by(rule, calls, *, fold=False):
    """Return after which of *calls* ``(failed, seconds, now)`` the rule trips; None if it does not."""
    tally = rule.start(0.0)
    pending = 0
    for number, (failed, seconds, now) in enumerate(calls, 1):
        if fold and not failed and seconds <= rule.slower_than and tally.quiet() and now < tally.rolls_at:
            pending += 1
            continue
        if pending:
            tally.fold(pending)
            pending = 0
        tally.record(failed, seconds, now)
        if tally.tripped():
            return number
    return None


def bits(text):
    return [(letter == "F", 0.0, 0.0) for letter in text]


@pytest.mark.parametrize(
    ("rule", "calls", "trips"),
    [
        (consecutive(3), "FFSFFF", 6),
        (consecutive(1), "SF", 2),
        (failure_rate(0.5, last=4), "SSFF", 4),
        (failure_rate(0.5, last=10, minimum_calls=3), "FF", None),
        (failure_rate(0.5, last=10, minimum_calls=3), "FFS", 3),
        (failure_rate(0.5, last=4, minimum_calls=4), "FSSSSFSSSF", None),
        (failure_rate(1.0, last=3), "SFFF", 4),
        (consecutive(2) | failure_rate(0.5, last=4), "FSFS", 4),
        (consecutive(2) & failure_rate(0.5, last=4), "FFSSFF", 6),
        (NEVER, "F" * 50, None),
    ],
)
@pytest.mark.parametrize("fold", [False, True])
def test_rule_trips_after(rule, calls, trips, fold):
    assert tripped_by(rule, bits(calls), fold=fold) == trips


def test_slow_calls_count_whether_they_fail_or_not():
    rule = slow_rate(0.5, slower_than=1.0, last=4)
    assert tripped_by(rule, [(False, 1.0, 0.0)] * 8) is None, "a second is not more than a second"
    assert tripped_by(rule, [(False, 0.0, 0.0), (True, 0.5, 0.0), (True, 1.5, 0.0), (False, 1.5, 0.0)]) == 4


def test_time_window_forgets():
    rule = failure_rate(0.5, seconds=60, minimum_calls=2)
    assert tripped_by(rule, [(True, 0, 0.0), (True, 0, 58.9)]) == 2
    assert tripped_by(rule, [(True, 0, 0.0), (True, 0, 60.0)]) is None


def test_success_may_trip_when_older_successes_are_forgotten():
    calls = [(False, 0, 0.0), (False, 0, 0.0), (True, 0, 30.0), (False, 0, 61.0)]
    assert tripped_by(failure_rate(0.5, seconds=60, minimum_calls=2), calls) == 4


def test_reasons_say_what_was_seen():
    def reason(rule, calls):
        tally = rule.start(0.0)
        for call in calls:
            tally.record(*call)
        assert tally.tripped()
        return tally.reason()

    failures = bits("FF")
    slow = [(False, 3.0, 0.0)] * 2
    assert reason(consecutive(2), failures) == "2 failures in a row"
    assert reason(failure_rate(0.5, last=2), failures) == "2 of the last 2 calls failed (100%)"
    assert (
        reason(failure_rate(0.5, seconds=60, minimum_calls=2), failures)
        == "2 of 2 calls in 60s failed (100%)"
    )
    assert (
        reason(slow_rate(0.5, slower_than=2.0, last=2), slow)
        == "2 of the last 2 calls took longer than 2s (100%)"
    )
    assert reason(consecutive(9) | consecutive(2), failures) == "2 failures in a row"
    assert reason(consecutive(2) & consecutive(1), failures) == "2 failures in a row and 2 failures in a row"


def test_rules_are_values():
    assert failure_rate(0.5) == failure_rate(0.5, last=100, minimum_calls=20)
    assert consecutive(3) | slow_rate(0.5, slower_than=1.0) == consecutive(3) | slow_rate(
        0.5, slower_than=1.0
    )
    assert consecutive(3) | consecutive(4) != consecutive(3) & consecutive(4)
    assert len({consecutive(3), consecutive(3)}) == 1


@pytest.mark.parametrize(
    "text",
    [
        "consecutive(5)",
        "failure_rate(0.5, last=100, minimum_calls=20)",
        "failure_rate(0.5, seconds=60.0, minimum_calls=20)",
        "slow_rate(0.8, slower_than=2.0, last=100, minimum_calls=20)",
        "(consecutive(5) | (failure_rate(0.5, last=7, minimum_calls=7) & consecutive(2)))",
    ],
)
def test_rules_show_how_to_write_them(text):
    assert repr(eval(text)) == text


def test_what_a_combination_needs_is_what_its_parts_need():
    plain, slow = failure_rate(0.5, last=10), slow_rate(0.5, slower_than=2.0, seconds=60)
    assert (plain.timed, plain.slower_than) == (False, inf)
    assert (slow.timed, slow.slower_than) == (True, 2.0)
    both = plain & slow | slow_rate(0.5, slower_than=1.0)
    assert (both.timed, both.slower_than) == (True, 1.0)
    assert failure_rate(0.5, seconds=1).timed


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: consecutive(0), "consecutive(failures) is 0"),
        (lambda: consecutive(True), "consecutive(failures) is True"),
        (lambda: consecutive(2.0), "consecutive(failures) is 2.0"),
        (lambda: failure_rate(0), "failure_rate(rate) is 0"),
        (lambda: failure_rate(1.01), "share above 0 and at most 1"),
        (lambda: failure_rate(nan), "failure_rate(rate) is nan"),
        (lambda: failure_rate("half"), "failure_rate(rate) is 'half'"),
        (lambda: failure_rate(0.5, last=0), "failure_rate(last) is 0"),
        (lambda: failure_rate(0.5, seconds=0), "failure_rate(seconds) is 0"),
        (lambda: failure_rate(0.5, seconds=inf), "failure_rate(seconds) is inf"),
        (lambda: failure_rate(0.5, last=5, seconds=5), "Give one of them"),
        (lambda: failure_rate(0.5, last=5, minimum_calls=6), "never holds 6"),
        (lambda: failure_rate(0.5, minimum_calls=0), "failure_rate(minimum_calls) is 0"),
        (lambda: slow_rate(0.5, slower_than=0), "slow_rate(slower_than) is 0"),
        (lambda: slow_rate(2, slower_than=1), "slow_rate(rate) is 2"),
        (lambda: consecutive(1) | 5, "5 is not a trip rule"),
        (lambda: consecutive(1) & None, "None is not a trip rule"),
    ],
)
def test_numbers_that_cannot_work_are_refused(make, says):
    with pytest.raises(ConfigurationError) as refused:
        make()
    assert says in str(refused.value)


CALLS = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 1.0, 3.0]), st.sampled_from([0.0, 0.5, 1.0, 20.0, 61.0])),
    max_size=60,
)
RULES = st.sampled_from(
    [
        consecutive(3),
        failure_rate(0.5, last=7, minimum_calls=5),
        failure_rate(0.25, last=4, minimum_calls=1),
        failure_rate(0.6, seconds=60, minimum_calls=4),
        slow_rate(0.5, slower_than=2.0, last=6, minimum_calls=4),
        slow_rate(0.5, slower_than=2.0, seconds=60, minimum_calls=3),
        consecutive(4) | failure_rate(0.6, seconds=60, minimum_calls=4),
        slow_rate(0.3, slower_than=2.0, last=6, minimum_calls=2) & failure_rate(0.3, last=5, minimum_calls=5),
    ]
)


@given(RULES, CALLS)
def test_folding_successes_changes_no_verdict(rule, steps):
    """What quiet promises: counted one by one or folded in later, the same call trips."""
    now, calls = 0.0, []
    for failed, seconds, pause in steps:
        now += pause
        calls.append((failed, seconds, now))
    assert tripped_by(rule, calls, fold=True) == tripped_by(rule, calls)


@given(st.integers(1, 9), st.lists(st.one_of(st.booleans(), st.integers(1, 20)), max_size=40))
def test_count_window_holds_the_last_calls(size, steps):
    window, seen = CountWindow(size), []
    for step in steps:
        if isinstance(step, bool):
            window.push(step, 0.0)
            seen.append(step)
        else:
            window.push_misses(step)
            seen += [False] * step
        last = seen[-size:]
        assert (window.total, window.hits) == (len(last), sum(last))


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.25, 1.0, 7.0, 59.0, 60.0, 500.0]), st.booleans()), max_size=60)
)
def test_time_window_holds_the_calls_of_its_seconds(steps):
    window, seen, now = TimeWindow(60.0, 1000.0), [], 1000.0
    for pause, hit in steps:
        now += pause
        window.push(hit, now)
        seen.append((now, hit))
        inside = [old for at, old in seen if now // 1 - at // 1 < 60]
        assert (window.total, window.hits) == (len(inside), sum(inside))
        assert now < window.rolls_at <= now + 1.0


def test_windows_take_no_more_room_with_more_calls():
    count, time = CountWindow(10), TimeWindow(60.0, 0.0)
    for number in range(10_000):
        count.push(False, 0.0)
        time.push(False, number / 10)
    assert len(count._ring) == 10
    assert len(time._totals) == len(time._hits) == 60
