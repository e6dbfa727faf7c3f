"""Usable cores, from control groups written by the test as the kernel writes them."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.process.cores import NICENESS, usable_cores, yield_to_event_loop


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def version_2(limit: str, own: str = "0::/\n", folder: str = "") -> dict[str, str]:
    return {"proc/self/cgroup": own, f"sys/fs/cgroup/{folder}cpu.max": limit}


def version_1(quota: str, own: str = "5:cpu,cpuacct:/\n", tree: str = "cpu,cpuacct") -> dict[str, str]:
    return {
        "proc/self/cgroup": own,
        f"sys/fs/cgroup/{tree}/cpu.cfs_quota_us": quota,
        f"sys/fs/cgroup/{tree}/cpu.cfs_period_us": "100000\n",
    }


@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        ("max 100000\n", 8),
        ("200000 100000\n", 2),
        ("250000 100000\n", 2),
        ("50000 100000\n", 1),
        ("30000 10000\n", 3),
        ("1600000 100000\n", 8),
        ("", 8),
        ("garbage\n", 8),
        ("200000 0\n", 8),
    ],
)
def test_limit_of_version_2(limit: str, cores: int, tmp_path: Path) -> None:
    assert usable_cores(write(tmp_path, version_2(limit))) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1\n", 8), ("200000\n", 2), ("350000\n", 3), ("1000\n", 1), ("", 8)])
def test_limit_of_version_1(quota: str, cores: int, tmp_path: Path) -> None:
    assert usable_cores(write(tmp_path, version_1(quota))) == cores


@pytest.mark.parametrize(
    "files",
    [
        version_2("200000 100000", own="0::/system.slice/app.service\n", folder="system.slice/app.service/"),
        version_2("200000 100000", own="0::/system.slice/app.service\n", folder="system.slice/"),
        version_2("200000 100000", own="0::/docker/4f1e\n"),
        version_2("200000 100000", own="1:cpuset:/\n0::/\n", folder="unified/"),
        version_1("200000", own="2:cpuset:/\n1:cpu:/\n0::/\n", tree="cpu"),
        version_1("200000", own="4:cpuacct,cpu:/docker/4f1e\n", tree="cpu"),
        version_1("200000", tree="cpu,cpuacct"),
    ],
    ids=["own", "parent", "container", "hybrid", "single controller", "linked tree", "joint tree"],
)
def test_limit_is_found_where_systems_put_it(files: dict[str, str], tmp_path: Path) -> None:
    assert usable_cores(write(tmp_path, files)) == 2


def test_smallest_limit_on_the_way_up_counts(tmp_path: Path) -> None:
    files = version_2("300000 100000", own="0::/outer/inner\n", folder="outer/inner/")

    root = write(tmp_path, {**files, "sys/fs/cgroup/outer/cpu.max": "200000 100000"})

    assert usable_cores(root) == 2


def test_no_more_cores_than_the_process_may_run_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})

    assert usable_cores(write(tmp_path, version_2("400000 100000"))) == 1


def test_without_control_groups_or_affinity_all_cores_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)

    assert usable_cores(tmp_path) == 6


def test_this_machine_has_a_core() -> None:
    assert usable_cores() >= 1


@pytest.mark.skipif(sys.platform != "linux", reason="needs priorities of threads")
def test_a_thread_that_yields_is_nicer_than_its_process_was_made() -> None:
    def make_nice_and_yield() -> int:
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, before + 5)  # as `nice` makes a whole process
        yield_to_event_loop()
        return os.getpriority(os.PRIO_PROCESS, thread)

    before = os.getpriority(os.PRIO_PROCESS, 0)
    with ThreadPoolExecutor(max_workers=1) as executor:
        assert executor.submit(make_nice_and_yield).result() == min(before + 5 + NICENESS, 19)
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
