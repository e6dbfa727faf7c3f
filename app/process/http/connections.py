"""How many connections a process takes, and what becomes of the others.

Every connection needs a file of the process. Where the files end, the kernel resets clients without a word, probes
too. So the number of connections is bounded below the number of files, and some are set aside for probes.
"""

import resource

from app.telemetry.metrics import CONNECTIONS_REFUSED
from app.telemetry.tally import Tally

RESERVED = 16
"""Connections beyond the bound on which probes are answered, and everything else is refused."""

RESERVED_SECONDS = 1.0
"""Longest time that a connection beyond the bound may take for its request."""

OTHER_FILES = 64
"""Files that a process needs for itself: models while they load, logs, pipes to its supervisor."""

PROBES = frozenset({b"/livez", b"/readyz", b"/healthz", b"/metrics", b"/v2/health/live", b"/v2/health/ready"})
"""Paths that orchestrators and collectors ask again and again. Logs mention them for debugging only."""


def connections_within_limit(wanted: int) -> int:
    """Returns how many connections fit into the files that the process may open, at most as many as are wanted.

    Raises the limit of the process as far as it needs and may.
    """
    needed = wanted + RESERVED + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft - RESERVED - OTHER_FILES))


class RefusedConnections:
    """Counts and logs the connections that found no place."""

    def __init__(self) -> None:
        self._tally = Tally(
            "connections refused", remedy="raise WINDOWCAST_MAX_CONNECTIONS and the limit of open files"
        )

    def add(self) -> None:
        """Counts a connection; must be called on an event loop."""
        CONNECTIONS_REFUSED.inc()
        self._tally.add()
