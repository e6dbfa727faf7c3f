"""How many cores this process may keep busy: the cores that it may run on, within the limit of its control group.

A container sees all cores of its host. Its limit stands in a file. With more threads than the limit, the kernel stops
the whole process for the rest of every tenth of a second.
"""

import math
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

CONTROL_GROUPS = PurePosixPath("sys/fs/cgroup")
OWN_GROUPS = PurePosixPath("proc/self/cgroup")

NICENESS = 6
"""How much threads that compute are nicer than the event loop. Each step is worth about a fifth of the share."""


def yield_to_event_loop() -> None:
    """Has the kernel prefer the event loop to the calling thread, and to the threads that the calling thread starts.

    Where all cores are busy computing, requests would otherwise wait unread, and probes too. The calling thread is as
    nice as the event loop until then: as nice as whoever started the process made it.
    """
    thread = threading.get_native_id()
    with suppress(AttributeError, OSError):  # threads have priorities of their own on Linux only
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS)


def usable_cores(root: Path = Path("/")) -> int:
    """Counts the cores.

    Args:
        root: Where `proc` and `sys` are.

    Returns:
        At least 1. A limit of two and a half cores counts as 2.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min([cores, *_quotas(root)])))


def cores_per_worker(workers: int) -> int:
    """Returns the share of one of several processes that serve side by side; at least 1."""
    return max(1, usable_cores() // workers)


def _quotas(root: Path) -> Iterator[float]:
    """Yields the limits, in cores, of the process' control group and of all groups around it."""
    for folder in _group_folders(root):
        quota = _quota_version_2(folder) or _quota_version_1(folder)
        if quota is not None:
            yield quota


def _group_folders(root: Path) -> Iterator[Path]:
    """Yields folders in which a limit may stand. Some of them may not exist.

    A line of `/proc/self/cgroup` is `0::/path` for version 2, and `4:cpu,cpuacct:/path` for each tree of version 1.
    Inside a container the path is often that of the host, and the container's own group is mounted at the top.
    """
    try:
        lines = (root / OWN_GROUPS).read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        group = PurePosixPath(path.lstrip("/"))
        for tree in (controllers, "cpu") if controllers else ("", "unified"):
            for place in (group, *group.parents):
                yield root / CONTROL_GROUPS / tree / place


def _quota_version_2(folder: Path) -> float | None:
    """Reads `cpu.max`: microseconds in a period, or `max`, and the period."""
    words = _read(folder / "cpu.max").split()
    return _ratio(*words) if len(words) == 2 else None


def _quota_version_1(folder: Path) -> float | None:
    """Reads `cpu.cfs_quota_us`, -1 for no limit, and `cpu.cfs_period_us`."""
    return _ratio(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _ratio(quota: str, period: str) -> float | None:
    """Returns the cores in a quota; None without a limit."""
    if not (quota.isdecimal() and period.isdecimal() and int(period)):
        return None
    return int(quota) / int(period)
