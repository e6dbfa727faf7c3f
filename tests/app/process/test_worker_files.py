"""The folder in which several workers tell their numbers, and what is in it."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.app.process.test_lifecycle import WINDOW
from tests.app.process.test_supervisor import is_alive, wait_until_ready
from tests.servers import serving
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(shutil.which("pgrep") is None, reason="needs pgrep")


@pytest.fixture
def folder(twin_dir: Path) -> Path:
    """Where a server with one model can be started."""
    return twin_dir.parents[2]


def test_a_new_worker_counts_on_in_the_files_of_the_worker_before(folder: Path) -> None:
    def files() -> set[str]:
        return {file.name for file in temporary.glob("windowcast-workers-*/*.db")}

    (temporary := folder / "temporary").mkdir()
    with serving(folder, workers=2, TMPDIR=temporary) as server:
        wait_until_ready(server)
        for requests in range(1, 4):
            assert server.post("/predict", json={"window": WINDOW}).status_code == 200
            wait_until(lambda: server.metric("windowcast_batch_windows_sum") == requests)  # noqa: B023 (it is waited for here)
            os.kill(server.workers()[0], signal.SIGKILL)
            wait_until_ready(server, 2 + requests)
        assert {name.rpartition("-")[2] for name in files()} == {"0.db", "1.db"}
        assert server.metric("windowcast_batch_windows_sum") == 3
        assert server.metric("windowcast_ready") == 2


def test_what_a_killed_service_left_is_removed_at_the_next_start_and_nothing_else(folder: Path) -> None:
    def left() -> set[Path]:
        return {*temporary.iterdir()}

    (temporary := folder / "temporary").mkdir()
    with serving(folder, workers=2, TMPDIR=temporary) as killed:
        wait_until_ready(killed)
        [abandoned] = left()
        workers = killed.workers()
        killed.process.kill()
        killed.wait()
        wait_until(lambda: not any(map(is_alive, workers)))
    with serving(folder, workers=2, TMPDIR=temporary) as first:
        wait_until_ready(first)
        [used] = left()
        assert used != abandoned
        with serving(folder, workers=2, TMPDIR=temporary) as second:
            wait_until_ready(second)
            assert len(left()) == 2
            assert used in left()
    assert not left()
