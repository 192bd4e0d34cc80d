"""The state machine by itself: its table, and each rule that is not in the table."""

from __future__ import annotations

from math import inf

import pytest

from flask_svc_infra.resilience import CircuitState, Outcome, consecutive, failure_rate
from flask_svc_infra.resilience.machine import Machine, Policy
from flask_svc_infra.resilience.transitions import TRANSITIONS, Change, Event

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
SUCCESS, FAILURE, IGNORED = Outcome.SUCCESS, Outcome.FAILURE, Outcome.IGNORED


def machine(**policy):
    return Machine(
        Policy(**{"trip": consecutive(1), "recovery_timeout": 10.0, "success_threshold": 1, **policy}),
        now=0.0,
    )


def test_states_are_spelled_as_in_labels():
    assert [str(state) for state in CircuitState] == ["closed", "open", "half_open"]


def test_the_table_says_every_way_from_state_to_state():
    own = {
        key: new
        for key, new in TRANSITIONS.items()
        if key[1] not in (Event.FORCED_OPEN, Event.DISABLED, Event.RESET)
    }
    assert own == {
        (CLOSED, Event.TRIPPED): OPEN,
        (OPEN, Event.RECOVERY_DUE): HALF_OPEN,
        (HALF_OPEN, Event.TRIAL_FAILED): OPEN,
        (HALF_OPEN, Event.TRIALS_PASSED): CLOSED,
    }
    for state in CircuitState:
        assert TRANSITIONS[state, Event.FORCED_OPEN] is OPEN
        assert TRANSITIONS[state, Event.DISABLED] is CLOSED
        assert TRANSITIONS[state, Event.RESET] is CLOSED


def test_each_change_says_from_what_to_what_and_why():
    circuit = machine()
    closed, change = circuit.admit(0.0)
    assert change is None
    assert circuit.settle(closed, FAILURE, 1.0, 0.0) == Change(CLOSED, OPEN, "a failure", forced=False)
    assert circuit.admit(10.9) == (None, None)
    trial, change = circuit.admit(11.0)
    assert change == Change(OPEN, HALF_OPEN, "recovery timeout elapsed", forced=False)
    assert circuit.settle(trial, FAILURE, 12.0, 0.0) == Change(
        HALF_OPEN, OPEN, "a trial failed", forced=False
    )
    trial, _ = circuit.admit(22.0)
    assert circuit.settle(trial, SUCCESS, 23.0, 0.0) == Change(
        HALF_OPEN, CLOSED, "a trial succeeded", forced=False
    )
    assert circuit.state_changes == 5


def test_commands_say_the_persons_reason():
    circuit = machine()
    assert circuit.force_open("outage", 0.0) == Change(CLOSED, OPEN, "outage", forced=True)
    assert circuit.disable(None, 0.0) == Change(OPEN, CLOSED, "disabled", forced=True)
    assert circuit.reset("done", 0.0) == Change(CLOSED, CLOSED, "done", forced=True)
    assert circuit.reset("again", 0.0) is None
    assert circuit.state_changes == 2


def test_forced_open_never_recovers_by_itself():
    circuit = machine()
    circuit.force_open(None, 0.0)
    assert circuit.admit(1e12) == (None, None)
    assert circuit.remaining(0.0) is None
    assert circuit.generation.until == inf


def test_disabled_counts_and_judges_nothing():
    circuit = machine()
    circuit.disable(None, 0.0)
    for _ in range(10):
        pass_, _ = circuit.admit(0.0)
        assert circuit.settle(pass_, FAILURE, 0.0, 0.0) is None
    assert circuit.generation.state is CLOSED
    assert (circuit.failed, circuit.failure_count()) == (10, 0)


def test_quiet_is_the_closed_generation_while_a_success_cannot_matter():
    circuit = machine(trip=failure_rate(0.5, last=10, minimum_calls=4))
    closed, _ = circuit.admit(0.0)
    assert circuit.quiet is closed
    circuit.settle(closed, FAILURE, 0.0, 0.0)
    assert circuit.quiet is closed, "one failure of four is below the half"
    circuit.settle(closed, FAILURE, 0.0, 0.0)
    assert circuit.quiet is None, "two of the first four would trip"
    circuit.settle(closed, SUCCESS, 0.0, 0.0)
    change = circuit.settle(closed, SUCCESS, 0.0, 0.0)
    assert change.new is OPEN
    assert circuit.quiet is None
    assert circuit.refusing is circuit.generation


def test_successes_counted_outside_are_folded_in_before_the_next_judgement():
    circuit = machine(trip=consecutive(2))
    closed, _ = circuit.admit(0.0)
    circuit.settle(closed, FAILURE, 0.0, 0.0)
    assert circuit.failure_count() == 1
    circuit.successes += 3
    assert circuit.failure_count() == 0
    assert circuit.settle(closed, FAILURE, 0.0, 0.0) is None
    assert circuit.settle(closed, FAILURE, 0.0, 0.0).new is OPEN


def test_without_folding_nothing_is_ever_quiet():
    circuit = Machine(Policy(trip=consecutive(2)), now=0.0, folding=False)
    closed, _ = circuit.admit(0.0)
    assert circuit.quiet is None
    circuit.settle(closed, SUCCESS, 0.0, 0.0)
    circuit.disable(None, 0.0)
    assert circuit.quiet is None
    assert circuit.successes == 1


def test_opens_are_counted_until_it_closes():
    circuit = machine()
    closed, _ = circuit.admit(0.0)
    circuit.settle(closed, FAILURE, 0.0, 0.0)
    for opens in (2, 3):
        trial, _ = circuit.admit(circuit.generation.until)
        circuit.settle(trial, FAILURE, 10.0 * opens, 0.0)
        assert circuit.opens == opens
    trial, _ = circuit.admit(circuit.generation.until)
    circuit.settle(trial, SUCCESS, 100.0, 0.0)
    assert circuit.opens == 0


@pytest.mark.parametrize("outcome", list(Outcome))
def test_late_result_changes_nothing_but_its_own_count(outcome):
    circuit = machine()
    late, _ = circuit.admit(0.0)
    circuit.reset(None, 0.0)
    circuit.force_open(None, 0.0)
    before = circuit.generation
    assert circuit.settle(late, outcome, 0.0, 0.0) is None
    assert circuit.generation is before
    assert (circuit.ignored, circuit.stale) == ((1, 0) if outcome is IGNORED else (0, 1))


def test_begin_again_keeps_what_is_decided_and_drops_what_is_under_way():
    circuit = machine(trip=consecutive(2))
    closed, _ = circuit.admit(0.0)
    circuit.settle(closed, FAILURE, 0.0, 0.0)
    circuit.begin_again(5.0)
    assert circuit.failure_count() == 0
    assert circuit.settle(closed, FAILURE, 5.0, 0.0) is None
    assert circuit.stale == 1
    circuit.put(HALF_OPEN, 5.0)
    circuit.begin_again(6.0)
    assert circuit.generation.state is OPEN
    assert circuit.remaining(6.0) == 0.0
    circuit.put(OPEN, 6.0)
    circuit.begin_again(7.0)
    assert circuit.remaining(7.0) == 9.0
