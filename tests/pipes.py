"""Named pipes without a writer, in the place of files."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import LOOK_SECONDS, PATIENCE_SECONDS


@contextmanager
def pipe(path: Path) -> Iterator[None]:
    """Makes a pipe. A reader that waits for a writer is freed in the end, so that the test fails and does not hang."""
    os.mkfifo(path)
    is_over, has_freed = threading.Event(), threading.Event()
    freeing = threading.Thread(target=_free_readers, args=(path, is_over, has_freed), daemon=True)
    freeing.start()
    try:
        yield
    finally:
        is_over.set()
        freeing.join()
    assert not has_freed.is_set(), "a reader waited for a writer"


def _free_readers(path: Path, is_over: threading.Event, has_freed: threading.Event) -> None:
    is_patient = True
    while not is_over.wait(PATIENCE_SECONDS if is_patient else LOOK_SECONDS):
        is_patient = False
        has_freed.set()
        os.close(os.open(path, os.O_RDWR))  # a writer that comes and goes
