"""What is mounted on one app: its probes, its metrics path, what holds readiness back.

One :class:`Mounts` sits in ``app.extensions["svc_infra"]``. The edges (health routes, probes, gates, metrics)
meet here and nowhere else: each writes what it mounted, and reads what the others did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from .config import Settings
from .errors import ConfigurationError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = [
    "RULE_KEY",
    "Answer",
    "Entry",
    "Hold",
    "Mounts",
    "Probe",
    "entry_of",
    "mounts_of",
    "require_unserved",
    "settings_of",
    "under",
]

EXTENSION_KEY = "svc_infra"
RULE_KEY = "flask_svc_infra.rule"
"""Where the short cut leaves a probe's URL rule in the WSGI environ, for the metrics."""

ProbeKind = Literal["static", "live", "ready", "startup", "check", "group"]


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished response: what a probe says, whoever asks."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = (("Cache-Control", "no-store"),)


@dataclass(frozen=True, slots=True)
class Probe:
    """One mounted probe.

    Attributes:
        rule: its URL rule, as it is counted (``/_health/checks/<name>``).
        kind: which question it answers; gates and drains tell them apart by it.
        answer: gives the answer; takes the WSGI environ (path, query string, Accept).
    """

    rule: str
    kind: ProbeKind
    answer: Callable[[Mapping[str, Any]], Answer]


@dataclass(frozen=True, slots=True)
class Hold:
    """Something that keeps readiness back, whatever the checks say.

    Attributes:
        name: who holds (``draining``, ``startup``).
        kinds: the kinds of probe it makes answer 503.
        reason: says why in one sentence, or None when it lets go; called at every probe, so cheap.
    """

    name: str
    kinds: frozenset[ProbeKind]
    reason: Callable[[], str | None]


@dataclass
class Mounts:
    """Everything this package mounted on one app. Written while the app is set up, read by its requests."""

    probes: dict[str, Probe] = field(default_factory=dict)
    probe_prefixes: dict[str, Probe] = field(default_factory=dict)
    metrics_paths: tuple[str, ...] = ()
    open_paths: tuple[str, ...] = ()
    """Paths besides probes and metrics that no gate shuts: the console's, for it is the way out of one."""
    holds: tuple[Hold, ...] = ()
    parts: dict[str, Any] = field(default_factory=dict)
    """What each room keeps for this app, under the room's own name (``health.registry``, ``obs.http``)."""
    entry: Entry | None = None
    settings: Settings | None = None
    _taken: dict[str, str] = field(default_factory=dict)

    def claim(self, what: str, cure: str) -> None:
        """Take the place *what*; a second taker gets a RuntimeError that ends in *cure*."""
        if what in self._taken:
            raise RuntimeError(f"{what} is already mounted on this app; nothing was changed. {cure}")
        self._taken[what] = cure

    def release(self, what: str) -> None:
        """Give the place *what* back; it may then be taken again."""
        self._taken.pop(what, None)

    def find(self, path: str) -> Probe | None:
        """Return the probe mounted at *path* (as in PATH_INFO), or None.

        One slash at the end makes no difference: a kubelet that was configured with it must not meet a 404.
        """
        probe = self.probes.get(path)
        if probe is not None:
            return probe
        if path.endswith("/"):
            path = path[:-1]
            probe = self.probes.get(path)
        if probe is None:
            for prefix, candidate in self.probe_prefixes.items():
                if path.startswith(prefix) and len(path) > len(prefix) and "/" not in path[len(prefix) :]:
                    return candidate
        return probe

    def serves(self, path: str) -> bool:
        """Tell whether *path* is a probe's, the metrics' or the console's, which no gate may shut."""
        return self.find(path) is not None or path in self.metrics_paths or path in self.open_paths

    def held(self, kind: ProbeKind) -> str | None:
        """Return why a probe of *kind* must say 503 now, or None."""
        for hold in self.holds:
            if kind in hold.kinds:
                reason = hold.reason()
                if reason is not None:
                    return reason
        return None


class Entry:
    """The one WSGI layer of this package on an app: metrics around the probe short cut around Flask.

    The order is fixed here, so that it does not depend on the order in which the parts are added.
    """

    __slots__ = ("_call", "_inner", "_observe", "_shortcut")

    def __init__(self, inner: WSGIApplication) -> None:
        self._inner = inner
        self._observe: Callable[[WSGIApplication], WSGIApplication] | None = None
        self._shortcut: Callable[[WSGIApplication], WSGIApplication] | None = None
        self._call = inner

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Hand the request to the outermost layer that is set."""
        return self._call(environ, start_response)

    def observe(self, middleware: Callable[[WSGIApplication], WSGIApplication] | None) -> None:
        """Set (None: take away) the outer layer, which sees every request and its whole response."""
        self._observe = middleware
        self._rebuild()

    def shortcut(self, middleware: Callable[[WSGIApplication], WSGIApplication] | None) -> None:
        """Set (None: take away) the inner layer, which may answer before Flask is asked."""
        self._shortcut = middleware
        self._rebuild()

    def _rebuild(self) -> None:
        call = self._inner
        if self._shortcut is not None:
            call = self._shortcut(call)
        if self._observe is not None:
            call = self._observe(call)
        self._call = call


def mounts_of(app: Any) -> Mounts:
    """Return the app's mounts, made at the first call.

    Raises:
        ConfigurationError: *app* is no Flask app.
    """
    if not isinstance(getattr(app, "extensions", None), dict):
        raise ConfigurationError(
            f"a {type(app).__name__} was given for the app; nothing was mounted. Pass the Flask app."
        )
    mounts = app.extensions.get(EXTENSION_KEY)
    if mounts is None:
        mounts = app.extensions[EXTENSION_KEY] = Mounts()
    if not isinstance(mounts, Mounts):
        raise RuntimeError(  # noqa: TRY004 - the fault is in how the app was put together
            f"app.extensions['{EXTENSION_KEY}'] holds a {type(mounts).__name__}, not ours; "
            "nothing was mounted. Another extension uses this key: remove it."
        )
    return mounts


def entry_of(app: Any) -> Entry:
    """Return the app's WSGI layer, installed at the first call."""
    mounts = mounts_of(app)
    if mounts.entry is None:
        mounts.entry = Entry(app.wsgi_app)
        app.wsgi_app = mounts.entry
    return mounts.entry


def require_unserved(app: Any, what: str) -> None:
    """Refuse to mount *what* once the app has served: Flask would, but halfway through and without a cure.

    Raises:
        RuntimeError: the app has served a request.
    """
    if getattr(app, "_got_first_request", False):
        raise RuntimeError(
            f"{what} cannot be mounted, since this app has served its first request; nothing was changed. "
            "Mount it where the app is made, before anything calls it (a test client's request counts)."
        )


def settings_of(app: Any) -> Settings:
    """Return the app's settings, read from ``app.config`` at the first call and kept from then on.

    Raises:
        ConfigurationError: a ``SVC_INFRA_*`` key is unknown or malformed.
    """
    mounts = mounts_of(app)
    if mounts.settings is None:
        mounts.settings = Settings.from_config(app.config)
    return mounts.settings


def under(path: str, prefix: str) -> bool:
    """Tell whether *path* lies under *prefix*, by whole segments: ``/_ops`` does not hold ``/_opsy``."""
    prefix = prefix.rstrip("/")
    return path == prefix or path.startswith(prefix + "/")
