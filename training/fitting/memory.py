"""Keeps the memory of one training step for the next."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt`, from its `malloc.h`."""

KEPT_BYTES = 2**30
"""Freed memory below this size stays with the process. A step of two layers of 64 cells, 168 steps and 32 windows takes
about 55 MB."""


def keep_freed_memory() -> None:
    """Has the allocator keep what a step frees. Does nothing where the C library is not glibc.

    By default glibc gives large blocks back to the kernel. The next step asks for them again, and the kernel fills them
    with zeros, page by page: a third of the time of a fit (docs/decisions/0021-scale-size-and-time-of-a-fit.md).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
