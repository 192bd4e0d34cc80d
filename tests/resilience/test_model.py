"""The breaker does what the model says, whatever is done to it in whatever order."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from resilience import circuit_model as model
from support.clock import FakeClock

from flask_svc_infra.resilience import (
    CircuitBreaker,
    CircuitBreakerError,
    CircuitState,
    Outcome,
    consecutive,
    engine,
    exponential_recovery,
    failure_rate,
    slow_rate,
)

SLOW = 2.0
RUN = (consecutive(3), model.Run(3))
LAST = (failure_rate(0.5, last=6, minimum_calls=4), model.Share(0.5, 4, last=6))
TIME = (failure_rate(0.5, seconds=60, minimum_calls=3), model.Share(0.5, 3, seconds=60))
SLOW_LAST = (
    slow_rate(0.5, slower_than=SLOW, last=5, minimum_calls=3),
    model.Share(0.5, 3, last=5, slower_than=SLOW),
)
SLOW_TIME = (
    slow_rate(0.75, slower_than=SLOW, seconds=60, minimum_calls=2),
    model.Share(0.75, 2, seconds=60, slower_than=SLOW),
)
EITHER = (LAST[0] | SLOW_TIME[0], model.Either(LAST[1], SLOW_TIME[1]))
BOTH = (RUN[0] & TIME[0], model.Both(RUN[1], TIME[1]))
TRIPS = st.sampled_from([RUN, LAST, TIME, SLOW_LAST, SLOW_TIME, EITHER, BOTH])
RECOVERIES = st.sampled_from(
    [
        (30.0, lambda opens: 30.0),
        (exponential_recovery(1.0, jitter=0), lambda opens: min(300.0, 2.0 ** (opens - 1))),
    ]
)


class Down(Exception):
    """Counts as a failure."""


class Ours(Exception):
    """Does not."""


ERRORS = {Outcome.SUCCESS: None, Outcome.FAILURE: Down, Outcome.IGNORED: Ours}
OUTCOMES = st.sampled_from([Outcome.SUCCESS] * 3 + [Outcome.FAILURE] * 2 + [Outcome.IGNORED])


def finish(coroutine):
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


class Comparison(RuleBasedStateMachine):
    """The same is done to both; then both must look the same."""

    calls = Bundle("calls")

    @initialize(
        trip=TRIPS,
        recovery=RECOVERIES,
        max_trials=st.integers(1, 3),
        successes=st.integers(1, 4),
        folding=st.booleans(),
    )
    def begin(self, trip, recovery, max_trials, successes, folding):
        self.clock = FakeClock()
        self.told = []
        rule_, self_trip = trip
        kept, engine.FOLDING = engine.FOLDING, folding
        try:
            self.breaker = CircuitBreaker(
                "x",
                trip=rule_,
                recovery_timeout=recovery[0],
                half_open_max_calls=max_trials,
                success_threshold=successes,
                failure_exceptions=(Down,),
                on_transition=lambda event: self.told.append((event.old, event.new, event.forced)),
                clock=self.clock,
            )
        finally:
            engine.FOLDING = kept
        self.model = model.Circuit(
            trip=self_trip,
            recovery=recovery[1],
            max_trials=max_trials,
            success_threshold=successes,
            slow_trial=rule_.slower_than,
            lease=30.0,
            now=self.clock(),
        )
        self.decorated = self.breaker.protect(self.body)
        self.decorated_async = self.breaker.protect(self.body_async)

    def body(self, outcome, seconds):
        self.clock.advance(seconds)
        self.model.now = self.clock()
        if ERRORS[outcome]:
            raise ERRORS[outcome]

    async def body_async(self, outcome, seconds):
        self.body(outcome, seconds)

    def in_with(self, outcome, seconds):
        with self.breaker:
            self.body(outcome, seconds)

    def in_async_with(self, outcome, seconds):
        async def call():
            async with self.breaker:
                self.body(outcome, seconds)

        finish(call())

    def in_guard(self, outcome, seconds):
        with self.breaker.guard() as permit:
            if outcome is Outcome.IGNORED:
                self.body(Outcome.SUCCESS, seconds)
                permit.settle(outcome)
            else:
                self.body(outcome, seconds)

    # One call from beginning to end, in each form

    @rule(
        form=st.sampled_from(["decorated", "decorated_async", "with", "async with", "guard", "call"]),
        outcome=OUTCOMES,
        seconds=st.sampled_from([0.0, 0.0, 0.25, 2.0, 2.25]),
        times=st.sampled_from([1, 1, 1, 2, 5]),
    )
    def call(self, form, outcome, seconds, times):
        forms = {
            "decorated": self.decorated,
            "decorated_async": lambda *args: finish(self.decorated_async(*args)),
            "with": self.in_with,
            "async with": self.in_async_with,
            "guard": self.in_guard,
            "call": lambda *args: self.breaker.call(self.body, *args),
        }
        for _ in range(times):
            expected = self.model.admit()
            try:
                forms[form](outcome, seconds)
            except CircuitBreakerError:
                assert expected is None
            except (Down, Ours) as error:
                assert type(error) is ERRORS[outcome]  # noqa: PT017
                assert expected is not None
            if expected is not None:
                self.model.settle(expected, outcome)

    # Calls that overlap

    @rule(target=calls, form=st.sampled_from(["permit", "generator"]))
    def begin_call(self, form):
        expected = self.model.admit()
        try:
            if form == "permit":
                real = self.breaker.admit()
            else:
                real = self.block()
                next(real)
        except CircuitBreakerError as refusal:
            assert expected is None
            assert refusal.state is self.model.state  # noqa: PT017
            assert refusal.remaining_timeout == self.model.remaining  # noqa: PT017
            return multiple()
        assert expected is not None
        return (real, expected)

    def block(self):
        with self.breaker:
            error = yield
            if error:
                raise error

    @rule(call=calls, outcome=OUTCOMES)
    def end_call(self, call, outcome):
        real, expected = call
        if expected.__dict__.pop("done", False):
            expected.__dict__["done"] = True
            return
        expected.__dict__["done"] = True
        if hasattr(real, "settle"):
            real.settle(outcome)
        else:
            with pytest.raises((StopIteration, Down, Ours)):
                real.send(ERRORS[outcome])
        self.model.settle(expected, outcome)

    # Time and people

    @rule(seconds=st.sampled_from([0.25, 1.0, 5.0, 29.75, 30.0, 59.0, 60.0, 1000.0]))
    def wait(self, seconds):
        self.clock.advance(seconds)
        self.model.now = self.clock()

    @rule(command=st.sampled_from(["force_open", "disable", "reset", "reset"]))
    def command(self, command):
        getattr(self.breaker, command)()
        getattr(self.model, command)()

    @invariant()
    def look_the_same(self):
        if not hasattr(self, "model"):
            return
        breaker, circuit = self.breaker, self.model
        assert breaker.state is circuit.state
        assert (breaker.forced.kind if breaker.forced else None) == circuit.forced
        assert breaker.remaining_timeout == circuit.remaining
        stats = breaker.stats
        counted = {name: getattr(stats, name) for name in circuit.counts}
        assert counted == circuit.counts
        assert stats.total_calls == sum(circuit.counts.values()) - circuit.counts["state_changes"]
        assert self.told == circuit.transitions


def run(examples: int) -> None:
    run_state_machine_as_test(
        Comparison,
        settings=settings(
            max_examples=examples,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.slow
def test_breaker_and_model_agree_after_every_step():
    """Ten thousand steps."""
    run(200)


@pytest.mark.nightly
def test_breaker_and_model_agree_after_a_million_steps():
    run(20_000)


def test_model_is_not_vacuous():
    """The model itself opens, tries and closes, so that agreeing with it means something."""
    circuit = model.Circuit(model.Run(1), lambda opens: 10.0, 1, 1, inf, 30.0, now=0.0)
    circuit.settle(circuit.admit(), Outcome.FAILURE)
    assert circuit.state is CircuitState.OPEN
    assert circuit.admit() is None
    circuit.now = 10.0
    circuit.settle(circuit.admit(), Outcome.SUCCESS)
    assert circuit.state is CircuitState.CLOSED
