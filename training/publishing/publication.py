"""Publishes a version: whole, or not at all.

A version is built in a hidden folder beside the other versions, written through to the disk, and renamed to the next
free number. If the process ends before the rename, it leaves no folder that a server would load.
"""

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from app.errors import ArtifactError
from app.version.manifest import MANIFEST_FILE, VERSION_PATTERN, Manifest
from training.errors import ExportError

BUILDING_PREFIX = ".building-"
STALE_SECONDS = 24 * 3600
"""Age at which the folder of an export that was killed is removed; no export takes that long."""


def check_room(model_dir: Path) -> None:
    """Checks that a version can be written to a folder, before there is a version to lose.

    Raises:
        ExportError: The folder, or the folder in which it would be made, cannot be written to.
    """
    place = next(path for path in (model_dir, *model_dir.absolute().parents) if path.exists())
    if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
        problem = "cannot be written to" if place.is_dir() else "is a file"
        raise ExportError(f"{model_dir}: {place} {problem}; choose another --models-dir.")


@contextmanager
def building_dir(model_dir: Path) -> Iterator[Path]:
    """Makes a folder to build in, on the same filesystem, and removes it afterwards unless it was published.

    Raises:
        ExportError: The version could not be written.
        KeyboardInterrupt: Says so if the version had been published already.
    """
    building = model_dir / f"{BUILDING_PREFIX}{uuid4().hex}"
    is_made = False
    try:
        model_dir.mkdir(parents=True, exist_ok=True)
        _clear_stale(model_dir)
        building.mkdir()
        is_made = True
        yield building
    except OSError as error:
        reason = error.strerror or str(error)
        raise ExportError(
            f"{model_dir}: the version could not be written ({reason}); nothing was published."
        ) from error
    except KeyboardInterrupt:
        if is_made and not building.exists():
            raise KeyboardInterrupt(f"the version was published in {model_dir}") from None
        raise
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _clear_stale(model_dir: Path) -> None:
    for path in model_dir.glob(f"{BUILDING_PREFIX}*"):
        with suppress(FileNotFoundError):  # another export removed it first
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def publish(manifest: Manifest, building: Path, model_dir: Path) -> Path:
    """Publishes the folder that was built as the next version of the model.

    Args:
        manifest: The manifest, with the checksums of the files in the folder.
        building: The folder that `building_dir` made, with every file but the manifest.
        model_dir: Folder of the model's versions.

    Returns:
        The folder of the version.

    Raises:
        ExportError: The manifest is larger than a service reads. Nothing is published.
    """
    _write_through(building)
    _write_last(building / MANIFEST_FILE, manifest.model_dump_json(indent=2))
    try:
        Manifest.read(building)
    except ArtifactError as error:
        raise ExportError(f"{model_dir}: the manifest {error.problem}; nothing was published.") from error
    return _take_number(building, model_dir)


def _write_through(folder: Path) -> None:
    """Flushes every file and folder to the disk, so that no manifest is on the disk before its files."""
    for path in (*folder.rglob("*"), folder):
        _flush(path)


def _write_last(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
    _flush(path)
    _flush(path.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _take_number(building: Path, model_dir: Path) -> Path:
    """Renames the finished folder to the next free number; another export may take the number first."""
    while True:
        numbers = [int(path.name) for path in model_dir.iterdir() if re.match(VERSION_PATTERN, path.name)]
        target = model_dir / str(max(numbers, default=0) + 1)
        try:
            building.rename(target)
        except OSError:
            if not target.exists():
                raise
        else:
            with suppress(OSError):  # the version is published, whether this flush succeeds or not
                _flush(model_dir)
            return target
