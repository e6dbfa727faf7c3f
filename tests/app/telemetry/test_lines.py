"""Lines for a reader who may be slow, or never read at all."""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from select import PIPE_BUF

import pytest

from app.telemetry import lines
from app.telemetry.exposition import registry
from app.telemetry.lines import LineWriter
from tests.waiting import PATIENCE_SECONDS, wait_until

LINE = b"x" * 99 + b"\n"


@pytest.fixture
def pipe() -> tuple[int, int]:
    """A pipe to read from and to write to. It stays open: its writer's thread never ends."""
    return os.pipe()


def dropped() -> float:
    """How many lines were dropped so far."""
    return registry().get_sample_value("windowcast_log_lines_dropped_total") or 0


def fill(descriptor: int) -> int:
    """Fills a pipe; returns the number of bytes that it takes."""
    os.set_blocking(descriptor, False)
    size = 0
    try:
        while True:
            size += os.write(descriptor, b" " * 4096)
    except BlockingIOError:
        os.set_blocking(descriptor, True)
        return size


def read(descriptor: int, size: int) -> bytes:
    """Reads exactly so many bytes."""
    content = b""
    while len(content) < size:
        content += os.read(descriptor, size - len(content))
    return content


def test_lines_come_in_their_order(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1])
    numbered = [b"%d\n" % number for number in range(10_000)]
    for start in range(0, len(numbered), 100):
        writer.write(numbered[start : start + 100])
    assert read(pipe[0], sum(map(len, numbered))) == b"".join(numbered)


def test_lines_that_find_no_room_are_dropped_and_counted_and_nobody_waits(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MAX_WAITING_BYTES", 10 * len(LINE))
    held = fill(pipe[1])
    writer, before = LineWriter(pipe[1]), dropped()
    for _ in range(25):
        writer.write([LINE])
    assert dropped() == before + 15
    writer.flush(0)  # nor does the end of the process, for long
    read(pipe[0], held)
    assert read(pipe[0], 10 * len(LINE)) == 10 * LINE
    writer.flush(PATIENCE_SECONDS)
    writer.write([b"afterwards\n"])
    assert read(pipe[0], 11) == b"afterwards\n"


def test_the_thread_is_woken_for_lines_alone(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[None] = []

    class Noted(threading.Condition):
        def notify_all(self) -> None:
            woken.append(None)
            super().notify_all()

    with monkeypatch.context() as patch:
        patch.setattr(threading, "Condition", Noted)
        writer = LineWriter(pipe[1])
    woken.clear()
    writer.write([])  # what a quiet service has to say of its probes
    assert not woken
    writer.write([LINE])
    assert woken


def test_a_flush_returns_when_the_reader_has_everything(pipe: tuple[int, int]) -> None:
    held = fill(pipe[1])
    writer = LineWriter(pipe[1])
    writer.write([LINE])
    flushing = threading.Thread(target=writer.flush, args=(PATIENCE_SECONDS,))
    flushing.start()
    assert flushing.is_alive()
    assert read(pipe[0], held + len(LINE))[held:] == LINE
    flushing.join(PATIENCE_SECONDS)
    assert not flushing.is_alive()


def test_a_pipe_that_nobody_waits_for_loses_nothing(pipe: tuple[int, int]) -> None:
    held = fill(pipe[1])
    os.set_blocking(pipe[1], False)
    writer, before = LineWriter(pipe[1]), dropped()
    writer.write([LINE] * 100)
    assert read(pipe[0], held + 100 * len(LINE))[held:] == 100 * LINE
    assert dropped() == before


def full_disk(_: int, __: bytes) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def left_reader(_: int, __: bytes) -> int:
    raise BrokenPipeError


@pytest.mark.parametrize("write", [full_disk, left_reader])
def test_lines_that_cannot_be_written_are_counted_and_later_ones_are_written(
    write: Callable[[int, bytes], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log.txt"
    writer, before = LineWriter(os.open(log, os.O_WRONLY | os.O_CREAT)), dropped()
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        writer.write([LINE] * 3)
        writer.flush(PATIENCE_SECONDS)
    assert dropped() == before + 3
    writer.write([LINE])
    wait_until(lambda: log.read_bytes() == LINE)


def test_each_write_to_a_pipe_is_of_whole_lines(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    def write(_: int, text: bytes) -> int:
        written.append(text)
        return len(text)

    written: list[bytes] = []
    monkeypatch.setattr(os, "write", write)
    writer = LineWriter(pipe[1])
    writer.write([LINE] * 1000)
    writer.flush(PATIENCE_SECONDS)
    assert b"".join(written) == 1000 * LINE
    assert all(text.endswith(b"\n") and len(text) <= PIPE_BUF for text in written)
    assert len(written) == 25
