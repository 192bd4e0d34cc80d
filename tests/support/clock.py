"""A clock that moves only when it is told to."""

from __future__ import annotations

from threading import Lock


class FakeClock:
    """A monotonic clock for tests: call it to read it, ``advance`` it, or hand its ``sleep`` to the code.

    >>> clock = FakeClock()
    >>> clock.sleep(2.5)
    >>> clock() - clock.started, clock.sleeps
    (2.5, [2.5])
    """

    def __init__(self, start: float = 1_000.0) -> None:
        self.started = start
        self.sleeps: list[float] = []
        self._now = start
        self._lock = Lock()

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock *seconds* on; a monotonic clock never goes back."""
        if seconds < 0:
            raise ValueError(f"a monotonic clock does not go back by {-seconds}s")
        with self._lock:
            self._now += seconds

    def sleep(self, seconds: float) -> None:
        """Pretend to sleep: note the length and advance by it."""
        self.sleeps.append(seconds)
        self.advance(seconds)

    async def async_sleep(self, seconds: float) -> None:
        """Pretend to sleep in a coroutine."""
        self.sleep(seconds)
