"""Whether somebody still writes: what changed a moment ago may be half there, be it a version's folder or a file."""

import os
import time

SETTLING_SECONDS = 1.0
"""Time without a change after which nobody seems to write any more."""


def last_change(status: os.stat_result) -> int:
    """When a file or folder changed last, in nanoseconds of Unix time: its content, its name or its permissions."""
    return max(status.st_mtime_ns, status.st_ctime_ns)


def is_settled(changed: int) -> bool:
    """Whether that change is `SETTLING_SECONDS` old; a time in the future is another clock's, and counts not."""
    return not 0 <= time.time() - changed / 1e9 < SETTLING_SECONDS
