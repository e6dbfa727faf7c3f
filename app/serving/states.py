"""Where every version stands, for probes, protocols and metrics.

pending ──> loading ──> available ──> unloading ──> ended
└──────> failed (tried again a few times, and whenever its folder changes)
"""

import threading
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

from app.errors import VersionError
from app.telemetry.metrics import VERSION_STATE
from app.version.folders import Stamp

MAX_FAILURES_TOLD = 1000
"""Most versions of which probes tell why they do not serve."""


class State(StrEnum):
    """Where a version stands."""

    PENDING = "pending"
    """Waits to be loaded, or to be tried again."""
    LOADING = "loading"
    """Is being loaded, proved and warmed up."""
    AVAILABLE = "available"
    """Serves."""
    UNLOADING = "unloading"
    """Serves no new requests; the last ones are being answered."""
    FAILED = "failed"
    """Could not be loaded; the reason is told."""
    ENDED = "ended"
    """Served once, and has been released."""


@dataclass(frozen=True, slots=True)
class Status:
    """Where a version stands, and why.

    Attributes:
        state: Where the version stands.
        reason: Why the version is pending or failed, without paths of the machine. It stays while the same folder is
            tried again.
        attempts: How often the folder was tried as it is.
        stamp: The folder at the last try.
        error: What went wrong at the last try.
    """

    state: State
    reason: str = ""
    attempts: int = 0
    stamp: Stamp = ()
    error: VersionError | None = None


class Statuses:
    """The status of each version that is on disk, in a policy, or serves. Every change also goes into the metrics.

    A version that ended or failed is dropped at the first look after its folder is gone.
    """

    def __init__(self) -> None:
        self._statuses: dict[str, dict[int, Status]] = {}
        self._changing = threading.Lock()

    def all(self) -> dict[str, dict[int, Status]]:
        """Returns every status, by model and by version, both ascending."""
        return {name: dict(sorted(statuses.items())) for name, statuses in sorted(self._statuses.copy().items())}

    def of(self, name: str) -> dict[int, Status]:
        """Returns the statuses of a model's versions."""
        return self._statuses.get(name, {})

    def failures(self) -> dict[str, str]:
        """Returns why versions do not serve that should, by `NAME/VERSION`; the first `MAX_FAILURES_TOLD` of them."""
        failures = (
            (f"{name}/{version}", status.reason)
            for name, statuses in self.all().items()
            for version, status in statuses.items()
            if status.state in {State.FAILED, State.PENDING}
        )
        return dict(islice(failures, MAX_FAILURES_TOLD))

    def note(self, name: str, version: int, status: Status) -> None:
        """Sets a version's status."""
        with self._changing:
            self._set(name, version, status)

    def end(self, name: str, version: int) -> bool:
        """Notes that a version is gone, and tells whether it was leaving: it may be wanted again by now."""
        with self._changing:
            status = self.of(name).get(version)
            leaves = status is not None and status.state is State.UNLOADING
            if leaves:
                self._set(name, version, Status(State.ENDED))
            return leaves

    def keep(self, name: str, known: set[int]) -> None:
        """Drops the versions of a model that do not serve and are neither on disk nor in a policy any more."""
        with self._changing:
            kept = {}
            for version, status in self.of(name).items():
                if version in known or status.state not in {State.FAILED, State.PENDING, State.ENDED}:
                    kept[version] = status
                else:
                    VERSION_STATE.labels(name, str(version), status.state).dec()
            if kept:
                self._statuses[name] = kept
            else:
                self._statuses.pop(name, None)

    def clear(self) -> None:
        """Drops everything: the service stops."""
        with self._changing:
            for name, statuses in self._statuses.items():
                for version, status in statuses.items():
                    VERSION_STATE.labels(name, str(version), status.state).dec()
            self._statuses = {}

    def _set(self, name: str, version: int, status: Status) -> None:
        statuses = self.of(name)
        before = statuses.get(version)
        self._statuses[name] = {**statuses, version: status}
        if before is not None:
            VERSION_STATE.labels(name, str(version), before.state).dec()
        VERSION_STATE.labels(name, str(version), status.state).inc()
