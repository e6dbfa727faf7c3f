"""Lines for a reader who may be slow, or never read at all: a hung log collector must not stop the service."""

import os
import select
import threading
from collections.abc import Iterator, Sequence

from app.telemetry.metrics import LOG_LINES_DROPPED

MAX_WAITING_BYTES = 4 * 2**20
"""Most bytes that wait for a reader. Lines that do not fit are dropped."""

FLUSH_SECONDS = 1.0
"""Longest wait for a reader when the process ends."""


class LineWriter:
    """Writes lines in a thread of its own. Lines that cannot be written are dropped and counted.

    Args:
        descriptor: The file to write to.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: list[bytes] = []
        self._waiting_bytes = 0
        """The size of all lines that are not written yet."""
        self._changed = threading.Condition()
        threading.Thread(target=self._write_all, name="log", daemon=True).start()

    def write(self, lines: Sequence[bytes]) -> None:
        """Takes lines, or drops them if too many wait. Never waits for the reader.

        Args:
            lines: Each with its line break.
        """
        if not lines:  # the thread would wake up for nothing
            return
        size = sum(map(len, lines))
        with self._changed:
            has_room = self._waiting_bytes + size <= MAX_WAITING_BYTES
            if has_room:
                self._lines += lines
                self._waiting_bytes += size
                self._changed.notify_all()
        if not has_room:
            LOG_LINES_DROPPED.inc(len(lines))

    def flush(self, seconds: float = FLUSH_SECONDS) -> None:
        """Waits until all lines are written, at most so long."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting_bytes, seconds)

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines)
                lines, self._lines = self._lines, []
            for piece in pieces(lines):
                self._write(piece)

    def _write(self, piece: list[bytes]) -> None:
        text = b"".join(piece)
        size = len(text)
        try:
            while text:
                text = text[self._write_some(text) :]
        except OSError:  # the disk is full, or the reader has left
            LOG_LINES_DROPPED.inc(len(piece))
        with self._changed:
            self._waiting_bytes -= size
            self._changed.notify_all()

    def _write_some(self, text: bytes) -> int:
        try:
            return os.write(self._descriptor, text)
        except BlockingIOError:  # another process has made the file one that nobody waits for
            select.select([], [self._descriptor], [])
            return 0


def pieces(lines: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Groups lines up to the size that a pipe takes as a whole even if other processes write into the pipe, too."""
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if piece and size + len(line) > select.PIPE_BUF:
            yield piece
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    if piece:
        yield piece
