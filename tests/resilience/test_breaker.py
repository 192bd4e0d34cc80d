"""The breaker's face: its signature, its options, its forms, its statistics, a person's commands."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import re

import pytest
from support.clock import FakeClock

from flask_svc_infra import resilience
from flask_svc_infra.errors import ConfigurationError
from flask_svc_infra.resilience import (
    Breakers,
    CircuitBreaker,
    CircuitBreakerError,
    CircuitBreakerStats,
    CircuitState,
    Forced,
    Outcome,
    consecutive,
    failure_rate,
    live_breakers,
    slow_rate,
)

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


class Down(Exception):
    pass


@pytest.fixture
def clock():
    return FakeClock()


def fail(breaker, times=1):
    for _ in range(times):
        with pytest.raises(Down), breaker:
            raise Down


# --- construction -------------------------------------------------------------------------------------------


def test_documented_signature_and_defaults_are_visible():
    parameters = inspect.signature(CircuitBreaker).parameters
    documented = {
        "name": "default",
        "failure_threshold": 5,
        "recovery_timeout": 30.0,
        "half_open_max_calls": 3,
        "success_threshold": 2,
        "failure_exceptions": (Exception,),
    }
    assert {name: parameters[name].default for name in documented} == documented
    assert list(parameters)[: len(documented)] == list(documented)
    assert all(p.kind is p.KEYWORD_ONLY for name, p in parameters.items() if name != "name")


def test_documented_attributes_are_readable():
    breaker = CircuitBreaker(
        "x", failure_threshold=7, recovery_timeout=1, half_open_max_calls=4, success_threshold=9
    )
    assert (breaker.name, breaker.failure_threshold, breaker.recovery_timeout) == ("x", 7, 1)
    assert (breaker.half_open_max_calls, breaker.success_threshold) == (4, 9)
    assert breaker.failure_exceptions == (Exception,)
    assert breaker.trip == consecutive(7)
    assert repr(breaker) == "<CircuitBreaker 'x' closed>"


async def awaited(*_):
    return False


@pytest.mark.parametrize(
    ("options", "subject"),
    [
        ({"failure_threshold": 0}, "failure_threshold is 0"),
        ({"failure_threshold": True}, "failure_threshold is True"),
        ({"failure_threshold": 2.5}, "failure_threshold is 2.5"),
        ({"half_open_max_calls": 0}, "half_open_max_calls is 0"),
        ({"success_threshold": -1}, "success_threshold is -1"),
        ({"recovery_timeout": -0.1}, "recovery_timeout is -0.1"),
        ({"recovery_timeout": float("inf")}, "recovery_timeout is inf"),
        ({"recovery_timeout": float("nan")}, "recovery_timeout is nan"),
        ({"recovery_timeout": "30"}, "recovery_timeout is '30'"),
        ({"recovery_timeout": None}, "recovery_timeout is None"),
        ({"failure_exceptions": Down}, "failure_exceptions is"),
        ({"failure_exceptions": [Down]}, "failure_exceptions is"),
        ({"failure_exceptions": (KeyboardInterrupt,)}, "failure_exceptions is"),
        ({"failure_exceptions": ("Down",)}, "failure_exceptions is"),
        ({"ignored_exceptions": Down}, "ignored_exceptions is"),
        ({"failure_result": 500}, "failure_result is 500"),
        ({"failure_result": awaited}, "a coroutine function would never be awaited"),
        ({"on_transition": awaited}, "a coroutine function would never be awaited"),
        ({"clock": awaited}, "a coroutine function would never be awaited"),
        ({"on_transition": "log"}, "on_transition is 'log'"),
        ({"clock": 12.0}, "clock is 12.0"),
        ({"trip": 5}, "trip is 5"),
        ({"trip": consecutive(5), "failure_threshold": 3}, "contradict each other"),
    ],
)
def test_options_that_cannot_work_are_refused(options, subject):
    before = len(live_breakers())
    with pytest.raises(ConfigurationError) as refused:
        CircuitBreaker("payments", **options)
    assert subject in str(refused.value)
    assert "circuit 'payments'" in str(refused.value)
    assert len(live_breakers()) == before


@pytest.mark.parametrize("name", ["", "  ", None, 5, b"x"])
def test_a_name_is_a_word(name):
    with pytest.raises(ConfigurationError, match=re.escape(f"CircuitBreaker(name) is {name!r}")):
        CircuitBreaker(name)


def test_live_breakers_are_those_in_use_oldest_first():
    made = [CircuitBreaker(f"live {number}") for number in range(3)]
    names = [breaker.name for breaker in live_breakers() if breaker.name.startswith("live")]
    assert names == ["live 0", "live 1", "live 2"]
    del made[1]
    assert [breaker.name for breaker in live_breakers() if breaker.name.startswith("live")] == [
        "live 0",
        "live 2",
    ]


# --- statistics ---------------------------------------------------------------------------------------------


def test_every_call_is_in_the_total_and_in_one_other_count(clock):
    breaker = CircuitBreaker(
        "x",
        failure_threshold=1,
        success_threshold=1,
        recovery_timeout=1.0,
        failure_exceptions=(Down,),
        clock=clock,
    )
    late = breaker.admit()
    with breaker:
        pass
    with pytest.raises(KeyError), breaker:
        raise KeyError
    fail(breaker)
    with pytest.raises(CircuitBreakerError), breaker:
        pass
    late.settle(Outcome.SUCCESS)
    assert breaker.stats == CircuitBreakerStats(
        total_calls=5,
        successful_calls=1,
        failed_calls=1,
        rejected_calls=1,
        ignored_calls=1,
        stale_calls=1,
        state_changes=1,
    )


def test_statistics_are_a_frozen_snapshot():
    breaker = CircuitBreaker("x")
    before = breaker.stats
    with breaker:
        pass
    assert before.total_calls == 0
    with pytest.raises(AttributeError):
        before.total_calls = 1
    assert CircuitBreakerStats().total_calls == 0


def test_reset_keeps_the_statistics_and_clears_the_count(clock):
    breaker = CircuitBreaker("x", failure_threshold=3, clock=clock)
    fail(breaker, 2)
    assert breaker._failure_count == 2
    breaker.reset()
    assert breaker._failure_count == 0
    assert (breaker.stats.failed_calls, breaker.stats.state_changes) == (2, 0)
    fail(breaker, 3)
    breaker.reset()
    assert (breaker.state, breaker.stats.state_changes) == (CLOSED, 2)


def test_failure_count_is_what_the_rule_has_counted(clock):
    breaker = CircuitBreaker("x", trip=failure_rate(1.0, last=4) | consecutive(3), clock=clock)
    fail(breaker)
    with breaker:
        pass
    fail(breaker)
    assert breaker._failure_count == 2


def test_what_the_documented_librarys_tests_assign_is_taken(clock):
    breaker = CircuitBreaker("x", recovery_timeout=10.0, success_threshold=1, clock=clock)
    breaker._state = CircuitState.OPEN
    breaker._failure_count = 10
    assert breaker.state is OPEN
    assert breaker._state is OPEN
    assert breaker._failure_count == 10
    with pytest.raises(CircuitBreakerError):
        breaker.admit()
    breaker.reset()
    assert breaker.state is CLOSED
    assert breaker._failure_count == 0
    breaker._state = CircuitState.HALF_OPEN
    with breaker:
        pass
    assert breaker.state is CLOSED
    breaker._state = CircuitState.CLOSED
    assert breaker.state is CLOSED


# --- a person's commands ------------------------------------------------------------------------------------


def test_forced_open_refuses_until_reset(clock):
    breaker = CircuitBreaker("x", clock=clock)
    breaker.force_open(reason="provider maintenance")
    clock.advance(1e9)
    with pytest.raises(CircuitBreakerError, match="forced by hand: provider maintenance"):
        breaker.admit()
    assert breaker.forced == Forced("open", "provider maintenance")
    assert (breaker.stats.forced, breaker.stats.reason) == ("open", "provider maintenance")
    assert breaker.remaining_timeout is None
    breaker.reset("over")
    assert breaker.forced is None
    assert (breaker.stats.forced, breaker.stats.reason) == (None, None)
    with breaker:
        pass


def test_forced_open_without_a_reason_still_says_what_it_is():
    breaker = CircuitBreaker("x")
    breaker.force_open()
    with pytest.raises(CircuitBreakerError) as refused:
        breaker.admit()
    assert str(refused.value) == "circuit 'x' is open"
    assert breaker.forced == Forced("open", None)


def test_disabled_lets_everything_pass_and_counts_it():
    breaker = CircuitBreaker("x", failure_threshold=1)
    fail(breaker)
    breaker.disable("false alarms")
    fail(breaker, 3)
    with breaker:
        pass
    assert breaker.state is CLOSED
    assert breaker.forced == Forced("disabled", "false alarms")
    assert (breaker.stats.failed_calls, breaker.stats.successful_calls) == (4, 1)
    breaker.reset()
    fail(breaker)
    assert breaker.state is OPEN


def test_result_begun_before_a_command_does_not_count_after_it(clock):
    breaker = CircuitBreaker("x", failure_threshold=1, clock=clock)
    for command in (breaker.force_open, breaker.disable, breaker.reset):
        breaker.reset()
        late = breaker.admit()
        command()
        state = breaker.state
        late.settle(Outcome.FAILURE)
        assert breaker.state is state
    assert breaker.stats.stale_calls == 3


# --- forms --------------------------------------------------------------------------------------------------


def test_call_passes_arguments_and_results():
    breaker = CircuitBreaker("x", failure_threshold=1)
    assert breaker.call(lambda a, /, *, b: (a, b), 1, b=2) == (1, 2)
    assert breaker.call(dict, fn=1, self=2) == {"fn": 1, "self": 2}


def test_with_gives_the_breaker_and_guard_gives_a_permit():
    breaker = CircuitBreaker("x")
    with breaker as entered:
        assert entered is breaker
    with breaker.guard() as permit:
        assert not permit.settled
        assert not permit.trial
    assert permit.settled
    assert breaker.stats.successful_calls == 2


def test_decorated_function_keeps_its_face():
    breaker = CircuitBreaker("x")

    @breaker.protect
    def pay(amount: int, *, currency: str = "EUR") -> str:
        """Pay."""
        return f"{amount} {currency}"

    assert pay(5) == "5 EUR"
    assert (pay.__name__, pay.__doc__) == ("pay", "Pay.")
    assert str(inspect.signature(pay)) == "(amount: 'int', *, currency: 'str' = 'EUR') -> 'str'"
    assert pay.__wrapped__(1) == "1 EUR"


def test_protect_works_on_methods_and_their_kin():
    breaker = CircuitBreaker("x")

    class Client:
        rate = 2

        @breaker.protect
        def method(self, x):
            return x * self.rate

        @classmethod
        @breaker.protect
        def of_class(cls, x):
            return x * cls.rate

        @staticmethod
        @breaker.protect
        def static(x):
            return x

        @property
        @breaker.protect
        def prop(self):
            return self.rate

    client = Client()
    assert (client.method(3), client.of_class(3), client.static(3), client.prop) == (6, 6, 3, 2)
    assert breaker.protect(functools.partial(client.method, 4))() == 8
    assert breaker.protect(Client)().rate == 2
    assert breaker.stats.successful_calls == 7


@pytest.mark.parametrize("thing", [5, "name", classmethod(print), property(print)])
def test_what_cannot_be_called_cannot_be_protected(thing):
    with pytest.raises(TypeError, match="cannot protect"):
        CircuitBreaker("x").protect(thing)


@pytest.mark.parametrize("options", [{}, {"failure_result": lambda result: result is None}])
def test_fallback_answers_for_the_refused_call_only(options):
    breaker = CircuitBreaker("x", failure_threshold=1, **options)

    @breaker.protect(fallback=lambda user, *, limit=10: f"popular for {user} ({limit})")
    def recommend(user, *, limit=10):
        raise Down

    with pytest.raises(Down):
        recommend("ann")
    assert recommend("bob", limit=3) == "popular for bob (3)"
    assert breaker.stats.rejected_calls == 1


def test_fallback_does_not_answer_for_another_circuits_refusal():
    outer, inner = CircuitBreaker("outer"), CircuitBreaker("inner")
    inner.force_open()

    @outer.protect(fallback=lambda: "fallback")
    def call():
        return inner.call(lambda: "result")

    with pytest.raises(CircuitBreakerError, match="'inner'"):
        call()


def test_fallback_must_be_callable():
    with pytest.raises(ConfigurationError, match="fallback is 5"):
        CircuitBreaker("x").protect(fallback=5)


def test_protect_with_parentheses_and_no_fallback():
    breaker = CircuitBreaker("x")
    assert breaker.protect()(lambda: 5)() == 5
    assert breaker.protect(fallback=None)(lambda: 5)() == 5


@pytest.mark.parametrize("form", ["call", "decorator"])
def test_failure_result_judges_what_is_returned(form):
    breaker = CircuitBreaker("x", failure_threshold=2, failure_result=lambda status: status >= 500)

    def run(status):
        return {"call": lambda: breaker.call(lambda: status), "decorator": breaker.protect(lambda: status)}[
            form
        ]()

    assert [run(200), run(503), run(200), run(503), run(503)] == [200, 503, 200, 503, 503]
    assert breaker.state is OPEN
    assert (breaker.stats.successful_calls, breaker.stats.failed_calls) == (2, 3)


def test_exceptions_that_are_not_listed_are_no_verdict():
    breaker = CircuitBreaker(
        "x", failure_threshold=1, failure_exceptions=(OSError,), ignored_exceptions=(FileNotFoundError,)
    )
    for neutral in (KeyError, FileNotFoundError):
        with pytest.raises(neutral), breaker:
            raise neutral
    assert breaker.state is CLOSED
    with pytest.raises(ConnectionError), breaker:
        raise ConnectionError
    assert breaker.state is OPEN


@pytest.mark.parametrize("form", ["with", "decorator", "guard", "call", "permit"])
@pytest.mark.parametrize("slow", [False, True])
def test_slow_calls_are_measured_in_every_form(clock, form, slow):
    breaker = CircuitBreaker("x", trip=slow_rate(1.0, slower_than=1.0, last=1), clock=clock)

    def work():
        clock.advance(1.5 if slow else 1.0)

    def in_with():
        with breaker:
            work()

    def in_guard():
        with breaker.guard():
            work()

    def in_permit():
        permit = breaker.admit()
        work()
        permit.settle(Outcome.SUCCESS)

    forms = {
        "with": in_with,
        "guard": in_guard,
        "decorator": breaker.protect(work),
        "call": lambda: breaker.call(work),
        "permit": in_permit,
    }
    forms[form]()
    assert breaker.state is (OPEN if slow else CLOSED)
    assert breaker.stats.successful_calls == 1


# --- permits ------------------------------------------------------------------------------------------------


def test_permit_is_settled_exactly_once():
    breaker = CircuitBreaker("x", failure_threshold=2)
    permit = breaker.admit()
    permit.settle(Outcome.FAILURE)
    with pytest.raises(RuntimeError, match="settled already"):
        permit.settle(Outcome.FAILURE)
    assert breaker.stats.failed_calls == 1
    with breaker.guard() as permit:
        permit.settle(Outcome.FAILURE)
    assert breaker.state is OPEN
    assert breaker.stats.total_calls == 2


def test_permit_settled_inside_its_block_keeps_that_verdict():
    breaker = CircuitBreaker("x", failure_threshold=1)
    with pytest.raises(Down), breaker.guard() as permit:
        permit.settle(Outcome.SUCCESS)
        raise Down
    assert breaker.state is CLOSED


def test_permit_says_what_is_wrong_with_its_use():
    breaker = CircuitBreaker("x")
    with pytest.raises(RuntimeError, match="not admitted yet"):
        breaker.guard().settle(Outcome.SUCCESS)
    with pytest.raises(TypeError, match="'success' is not an Outcome"):
        breaker.admit().settle("success")
    breaker.force_open()
    breaker.reset()
    breaker._state = CircuitState.HALF_OPEN
    permit = breaker.admit()
    with pytest.raises(RuntimeError, match="entered twice"), permit:
        pass


def test_permit_knows_a_trial(clock):
    breaker = CircuitBreaker("x", failure_threshold=1, recovery_timeout=1.0, clock=clock)
    breaker.admit().settle(Outcome.FAILURE)
    clock.advance(1.0)
    assert breaker.admit().trial


# --- named breakers -----------------------------------------------------------------------------------------


def test_same_name_and_options_are_the_same_breaker():
    breakers = Breakers()
    payments = breakers.get("payments", failure_threshold=3)
    assert breakers.get("payments", failure_threshold=3) is payments
    assert breakers.get("payments", failure_threshold=3, recovery_timeout=30.0) is payments
    assert breakers.get("payments") is payments
    assert breakers["payments"] is payments
    assert "payments" in breakers
    assert "other" not in breakers
    other = breakers.get("other", trip=failure_rate(0.5))
    assert breakers.get("other", trip=failure_rate(0.5)) is other
    assert list(breakers) == [payments, other]
    assert len(breakers) == 2
    with pytest.raises(KeyError):
        breakers["missing"]


def test_same_name_with_other_options_is_an_error_that_shows_both():
    breakers = Breakers()
    first = breakers.get("payments", failure_threshold=3)
    with pytest.raises(ConfigurationError) as refused:
        breakers.get("payments", failure_threshold=4, success_threshold=1)
    text = str(refused.value)
    assert "circuit 'payments' exists with failure_threshold=3, success_threshold=2" in text
    assert "asked for with failure_threshold=4, success_threshold=1" in text
    assert breakers.get("payments") is first


def test_unknown_or_bad_options_make_nothing():
    breakers = Breakers()
    with pytest.raises(TypeError, match="treshold"):
        breakers.get("payments", failure_treshold=3)
    with pytest.raises(ConfigurationError):
        breakers.get("payments", failure_threshold=0)
    assert len(breakers) == 0


def test_threads_that_ask_first_get_one_breaker():
    from concurrency.scenes import together

    breakers = Breakers()
    assert len(set(map(id, together(8, lambda _index: breakers.get("payments", failure_threshold=3))))) == 1


# --- exports ------------------------------------------------------------------------------------------------


def test_public_names_are_sorted_and_there():
    assert resilience.__all__ == sorted(resilience.__all__)
    for name in resilience.__all__:
        assert getattr(resilience, name) is not None
    wanted = """
        Breakers Bulkhead BulkheadFullError CircuitBreaker CircuitBreakerError CircuitBreakerStats
        CircuitState Outcome Permit RetryConfig RetryExhaustedError Transition consecutive
        exponential_recovery failure_rate live_breakers live_bulkheads retry_sync slow_rate with_retry
    """
    assert set(wanted.split()) <= set(resilience.__all__)


def test_states_and_stats_are_what_the_documentation_reads():
    breaker = CircuitBreaker("x")
    assert breaker.state == CircuitState.CLOSED == "closed"
    assert breaker.state.value == "closed"
    assert f"{breaker.state}" == "closed"
    assert breaker.stats.total_calls == 0


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("given_up", ["closed", "dropped", "cancelled"])
@pytest.mark.parametrize("form", ["call", "protect", "measured"])
def test_a_trial_whose_coroutine_never_begins_gives_its_place_back(clock, form, given_up):
    options = {"failure_result": lambda result: False} if form == "measured" else {}
    breaker = CircuitBreaker(
        failure_threshold=1, half_open_max_calls=1, success_threshold=1, clock=clock, **options
    )
    fail(breaker)
    clock.advance(30.0)

    async def later():
        return "late"

    def unmarked():
        return later()

    def begun():
        return breaker.call(later) if form == "call" else breaker.protect(unmarked)()

    async def cancelled_before_its_first_step():
        task = asyncio.create_task(begun())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    if given_up == "cancelled":
        asyncio.run(cancelled_before_its_first_step())
    else:
        coroutine = begun()
        with pytest.raises(CircuitBreakerError):
            breaker.call(str)  # its place is taken
        if given_up == "closed":
            coroutine.close()
        del coroutine
    gc.collect()
    assert breaker.stats.ignored_calls == 1
    with breaker:  # a trial: the place is free
        pass
    assert breaker.state is CLOSED
