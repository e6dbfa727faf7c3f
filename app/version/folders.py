"""The versions on disk: which versions there are, whether a version is whole, and whether it is still being written."""

import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path

from app.errors import ArtifactError, printable
from app.telemetry.logs import get_logger
from app.version.files import contents, not_a_file, readable
from app.version.golden import GOLDEN_FILE
from app.version.manifest import (
    MANIFEST_FILE,
    NAME_PATTERN,
    TWIN_FILE,
    VERSION_PATTERN,
    Manifest,
)

log = get_logger()

GRAPH_FILE = "saved_model.pb"
TRITON_FOLDER = "model.savedmodel"
SHARD = re.compile(r"variables\.data-\d{5}-of-(\d{5})")

SETTLING_SECONDS = 1.0
"""Time without a change after which a folder counts as written."""

MAX_LISTED = 2**16
"""Most models in the folder of models, and most versions in the folder of a model. Each look lists them all."""

MAX_WARNINGS = 20
"""Most names in a folder that are warned of."""

MAX_VERSION_BYTES = 2**33
"""Most bytes of a version. Their checksums take ten seconds, during which no other version is loaded."""

Stamp = tuple[tuple[str, int, int, int], ...]
"""Path, size, time of the last change and inode of everything in a folder. Equal stamps: nothing has changed."""


def model_names(models_dir: Path) -> list[str]:
    """Returns the names of the models in a folder, sorted. Ignores everything else in the folder."""
    return sorted(
        path.name for path, is_dir in _entries(models_dir) if is_dir and re.fullmatch(NAME_PATTERN, path.name)
    )


def versions(model_dir: Path) -> list[int]:
    """Returns the numbers of a model's versions, ascending. Ignores everything else in the folder, with a warning."""
    return sorted(int(path.name) for path in _version_dirs(model_dir))


def _version_dirs(model_dir: Path) -> list[Path]:
    found, odd = [], []
    for path, is_dir in _entries(model_dir):
        if is_dir and re.fullmatch(VERSION_PATTERN, path.name):
            found.append(path)
        elif not path.name.startswith("."):
            odd.append(path)
    for path in odd[:MAX_WARNINGS]:
        _warn_of(path)
    return found


@lru_cache(4096)
def _warn_of(path: Path) -> None:
    """Warns of a path once, although its folder is listed again and again."""
    log.warning("ignored: not a version folder (1, 2, 3 ...)", path=printable(path))


def _entries(folder: Path) -> list[tuple[Path, bool]]:
    """Returns what is in a folder, each path with whether it is a folder; nothing if there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            found = [(Path(entry.path), _is_dir(entry)) for entry in islice(entries, MAX_LISTED + 1)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ArtifactError(folder, f"cannot be listed ({error.strerror})", "check its permissions") from error
    if len(found) > MAX_LISTED:
        raise ArtifactError(folder, f"holds more than {MAX_LISTED} files and folders", "remove what is not served")
    return found


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to a place without permission
        return False


def stamp_of(version_dir: Path) -> Stamp:
    """Returns the stamp of a folder, by which a later look tells whether anything has changed.

    Raises:
        ArtifactError: The folder cannot be read, or cannot be a version.
    """
    try:
        found = [(version_dir, version_dir.stat()), *contents(version_dir)]
    except FileNotFoundError:  # the folder, or one in it, was deleted meanwhile: the next look will tell
        return ()
    except OSError as error:
        raise ArtifactError(version_dir, f"cannot be read ({error.strerror})", "check its permissions") from None
    return tuple(
        (path.relative_to(version_dir).as_posix(), status.st_size, last_change(status), status.st_ino)
        for path, status in found
    )


def is_still(stamp: Stamp) -> bool:
    """Returns whether nothing in a folder has changed for `SETTLING_SECONDS`."""
    return is_settled(max((changed for _, _, changed, _ in stamp), default=0))


def check_whole(version_dir: Path) -> Manifest | None:
    """Checks that every file of a version is there, and is a file. Reads nothing but the manifest.

    Returns:
        The manifest, so that the loader need not read it again. None for a version without a manifest, and for one
        with a manifest that cannot be read: loading the version says why.

    Raises:
        ArtifactError: A file is missing; perhaps it is still being copied. Or the folder holds what is no file, or
            more bytes than a version has.
    """
    if not version_dir.is_dir():
        raise ArtifactError(version_dir, "there is no such folder", "export the version, or change the policy")
    _check_contents(version_dir)
    if (version_dir / TRITON_FOLDER).is_dir():
        problem = "is where Triton keeps a SavedModel"
        raise ArtifactError(version_dir / TRITON_FOLDER, problem, "move its content one folder up")
    manifest = _readable_manifest(version_dir)
    needed: Iterable[str]
    if (version_dir / MANIFEST_FILE).is_file():
        needed, whole = manifest.files if manifest else [], "file"
    elif any((version_dir / name).exists() for name in (GOLDEN_FILE, TWIN_FILE)):
        needed, whole = [MANIFEST_FILE], "manifest"
    else:
        needed, whole = chain([GRAPH_FILE], _variables(version_dir / "variables")), "file"
    missing = f"the {whole} is missing, so the export was not finished"
    for name in needed:
        with readable(version_dir / name, missing):  # a manifest may list names that are too long for any file
            if name != TWIN_FILE and not (version_dir / name).is_file():
                raise ArtifactError(version_dir / name, missing)
    return manifest


def _check_contents(version_dir: Path) -> None:
    """Checks that a folder holds files alone. TensorFlow opens them by name, and would wait for what is in a pipe."""
    with readable(version_dir, "there is no such folder"):
        found = contents(version_dir)
    for path, status in found:
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode) or path.name.startswith(".")):
            raise not_a_file(path)
    if sum(status.st_size for _, status in found) > MAX_VERSION_BYTES:
        raise ArtifactError(version_dir, f"has more than {MAX_VERSION_BYTES} bytes")


def _readable_manifest(version_dir: Path) -> Manifest | None:
    try:
        return Manifest.read(version_dir)
    except ArtifactError:
        return None


def _variables(folder: Path) -> Iterator[str]:
    """Yields the files of TensorFlow's variables: an index, and shards whose names tell their number."""
    if folder.is_dir():
        yield f"{folder.name}/variables.index"
        with readable(folder):
            names = [path.name for path in folder.iterdir()]
        counts = [match[1] for name in names if (match := SHARD.fullmatch(name))] or ["00001"]
        yield from (f"{folder.name}/variables.data-{shard:05d}-of-{counts[0]}" for shard in range(int(counts[0])))


def last_change(status: os.stat_result) -> int:
    """Returns when the content, name or permissions of a file or folder last changed, in nanoseconds of Unix time."""
    return max(status.st_mtime_ns, status.st_ctime_ns)


def is_settled(changed: int) -> bool:
    """Returns whether the last change is at least `SETTLING_SECONDS` old.

    A time in the future comes from another clock, and counts as settled.

    Args:
        changed: The time of the last change, in nanoseconds of Unix time.
    """
    return not 0 <= time.time() - changed / 1e9 < SETTLING_SECONDS
