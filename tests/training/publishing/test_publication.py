"""A version is published whole or not at all, whatever happens to the process, the disk or other exports."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.version import manifest
from app.version.manifest import Manifest
from tests.servers import ROOT
from tests.training.publishing.publisher import publish_one
from training.errors import ExportError
from training.publishing import publication
from training.publishing.publication import BUILDING_PREFIX, STALE_SECONDS, check_room

KILLS = 8
LONGEST_LIFE_SECONDS = 0.3
"""Enough for dozens of versions."""


def names(models_dir: Path) -> list[str]:
    return sorted(path.name for path in (models_dir / "default").iterdir())


def test_versions_are_numbered_from_one_upwards(tmp_path: Path) -> None:
    assert publish_one(tmp_path).name == "1"
    assert publish_one(tmp_path).name == "2"
    (tmp_path / "default" / "7").mkdir()
    assert publish_one(tmp_path).name == "8"


def test_a_manifest_that_no_service_would_read_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "MAX_MANIFEST_BYTES", 100)
    with pytest.raises(ExportError, match="the manifest has more than 100 bytes; nothing was published"):
        publish_one(tmp_path)
    assert names(tmp_path) == []


def test_a_number_that_another_export_takes_first_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def lose_the_race_once(self: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        target.mkdir()
        (target / "manifest.json").write_text("another's")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", lose_the_race_once)

    assert publish_one(tmp_path).name == "2"
    assert (tmp_path / "default" / "1" / "manifest.json").read_text() == "another's"


@pytest.mark.parametrize("step", ["_write_through", "_write_last", "_take_number"])
def test_a_publication_that_fails_at_any_step_leaves_nothing_and_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    earlier = publish_one(tmp_path)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(publication, step, fail)
    with pytest.raises(ExportError, match=r"No space left on device.*nothing was published"):
        publish_one(tmp_path)

    assert names(tmp_path) == ["1"]
    Manifest.read(earlier).check_files(earlier)


def test_what_a_killed_export_left_behind_is_removed_when_it_is_old(tmp_path: Path) -> None:
    old, recent = (tmp_path / "default" / f"{BUILDING_PREFIX}{age}" for age in ("old", "recent"))
    for folder in (old, recent):
        folder.mkdir(parents=True)
    long_ago = time.time() - STALE_SECONDS - 60
    os.utime(old, (long_ago, long_ago))

    publish_one(tmp_path)

    assert not old.exists()
    assert recent.exists()


def test_a_stale_folder_that_another_export_removes_first_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "default" / f"{BUILDING_PREFIX}gone"
    glob = Path.glob

    def find_it_too(self: Path, pattern: str, **options: bool) -> Iterator[Path]:
        return iter([gone]) if str(pattern).startswith(BUILDING_PREFIX) else glob(self, pattern, **options)

    monkeypatch.setattr(Path, "glob", find_it_too)

    assert publish_one(tmp_path).name == "1"


def raise_on_the_folder_of_versions(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    flush = publication._flush

    def flush_or_raise(path: Path) -> None:
        if path.name == "default":
            raise error
        flush(path)

    monkeypatch.setattr(publication, "_flush", flush_or_raise)


def test_nothing_after_the_rename_fails_a_publication(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raise_on_the_folder_of_versions(OSError(5, "Input/output error"), monkeypatch)

    assert publish_one(tmp_path).is_dir()


def test_an_interrupt_after_the_rename_says_that_the_version_was_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raise_on_the_folder_of_versions(KeyboardInterrupt(), monkeypatch)

    with pytest.raises(KeyboardInterrupt, match="the version was published"):
        publish_one(tmp_path)
    assert names(tmp_path) == ["1"]


def test_kill_9_at_any_moment_leaves_only_whole_versions(tmp_path: Path) -> None:
    moments = random.Random(0)  # noqa: S311
    for _ in range(KILLS):
        program = [sys.executable, "-m", "tests.training.publishing.publisher", str(tmp_path)]
        with subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "publishing\n"
            time.sleep(moments.uniform(0.0, LONGEST_LIFE_SECONDS))
            process.send_signal(signal.SIGKILL)

        for name in names(tmp_path):
            if not name.startswith(BUILDING_PREFIX):
                version_dir = tmp_path / "default" / name
                Manifest.read(version_dir).check_files(version_dir)


def test_a_folder_without_room_is_told_before_the_work(tmp_path: Path) -> None:
    check_room(tmp_path / "models" / "default")

    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match=r"file is a file; choose another --models-dir"):
        check_room(tmp_path / "file" / "default")
