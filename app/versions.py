"""The versions on disk: which there are, whether one is whole, and how one becomes something that can forecast.

A version can serve only when its checksums hold, its engine is warm, and its golden rows come out right.
"""

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import structlog

from app.engines import Engine, load_engine, load_foreign
from app.errors import ArtifactError
from app.golden import GOLDEN_FILE, Golden
from app.manifest import (
    MADE_ELSEWHERE,
    MANIFEST_FILE,
    NAME_PATTERN,
    TWIN_FILE,
    VERSION_PATTERN,
    Contract,
    DataFingerprint,
    Manifest,
)
from app.saved_model import read_signatures
from app.settings import EngineName
from app.settling import is_settled, last_change
from app.signature import Signature

log = structlog.get_logger()

GRAPH_FILE = "saved_model.pb"
TRITON_FOLDER = "model.savedmodel"
SHARD = re.compile(r"variables\.data-\d{5}-of-(\d{5})")

Stamp = tuple[tuple[str, int, int, int], ...]
"""Path, size and times of everything in a folder: as long as it is equal, nothing has changed."""


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """A model version that is proved and warm."""

    name: str
    version: int
    manifest: Manifest
    signature: Signature
    signatures: Mapping[str, Any]
    """All signatures of its SavedModel, as `read_signatures` gives them."""
    engine: Engine
    golden: Golden
    load_seconds: float
    is_foreign: bool
    """Whether it came without a manifest, so that its signature had to tell its contract."""

    @property
    def contract(self) -> Contract:
        """What windows it takes and what forecasts it gives."""
        return self.manifest.contract


def model_names(models_dir: Path) -> list[str]:
    """Names of the models in a folder, sorted; other things in it are passed over."""
    return sorted(
        path.name for path, is_dir in _entries(models_dir) if is_dir and re.fullmatch(NAME_PATTERN, path.name)
    )


def versions(model_dir: Path) -> list[int]:
    """Numbers of a model's versions, ascending; anything else in the folder is passed over with a warning."""
    return sorted(int(path.name) for path in _version_dirs(model_dir))


def _version_dirs(model_dir: Path) -> Iterator[Path]:
    for path, is_dir in _entries(model_dir):
        if is_dir and re.fullmatch(VERSION_PATTERN, path.name):
            yield path
        elif not path.name.startswith("."):
            _warn_of(path)


@lru_cache(4096)
def _warn_of(path: Path) -> None:
    """Warns once, although folders are looked at again and again."""
    log.warning("ignored: not a version folder (1, 2, 3 ...)", path=str(path))


def _entries(folder: Path) -> list[tuple[Path, bool]]:
    """What is in a folder, and whether each is a folder itself; nothing where there is no such folder."""
    try:
        return [(path, _is_dir(path)) for path in folder.iterdir()] if folder.is_dir() else []
    except OSError as error:
        raise ArtifactError(folder, f"cannot be listed ({error.strerror})", "check its permissions") from error


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a link to where nobody may look
        return False


def stamp_of(version_dir: Path) -> Stamp:
    """What tells whether a folder has changed.

    Raises:
        ArtifactError: Nobody may look into it, or it cannot be a version.
    """
    entries = []
    try:
        for path in sorted([version_dir, *version_dir.rglob("*")]):
            with suppress(FileNotFoundError):  # gone meanwhile
                status = path.stat()
                times = last_change(status), status.st_ino
                entries.append((path.relative_to(version_dir).as_posix(), status.st_size, *times))
    except FileNotFoundError:  # a folder is gone meanwhile: another look will tell
        return ()
    except OSError as error:
        raise ArtifactError(version_dir, f"cannot be looked at ({error.strerror})", "check permissions") from None
    except RecursionError:
        raise ArtifactError(version_dir, "has folders in folders without end", "export it again") from None
    return tuple(entries)


def is_still(stamp: Stamp) -> bool:
    """Whether nothing in the folder has changed for a while."""
    return is_settled(max((changed for _, _, changed, _ in stamp), default=0))


def check_whole(version_dir: Path) -> None:
    """Looks whether everything that belongs to a version is there, without reading much of it.

    Raises:
        ArtifactError: Something is missing; perhaps it is still being copied.
    """
    if not version_dir.is_dir():
        raise ArtifactError(version_dir, "there is no such folder", "export the version, or change the policy")
    if (version_dir / TRITON_FOLDER).is_dir():
        problem = "is where Triton keeps a SavedModel"
        raise ArtifactError(version_dir / TRITON_FOLDER, problem, "move what is in it one folder up")
    needed: Iterable[str]
    if (version_dir / MANIFEST_FILE).is_file():
        needed, whole = _listed_files(version_dir), "file"
    elif any((version_dir / name).exists() for name in (GOLDEN_FILE, TWIN_FILE)):
        needed, whole = [MANIFEST_FILE], "manifest"
    else:
        needed, whole = chain([GRAPH_FILE], _variables(version_dir / "variables")), "file"
    for name in needed:
        if name != TWIN_FILE and not (version_dir / name).is_file():
            raise ArtifactError(version_dir / name, f"the {whole} is missing, so the export was not finished")


def _listed_files(version_dir: Path) -> list[str]:
    try:
        return [*Manifest.read(version_dir).files]
    except ArtifactError:  # that is not for lack of a file; loading the version says what is wrong
        return []


def _variables(folder: Path) -> Iterator[str]:
    """The files in which TensorFlow keeps variables: an index, and shards that say how many they are."""
    if folder.is_dir():
        yield f"{folder.name}/variables.index"
        counts = [match[1] for path in folder.iterdir() if (match := SHARD.fullmatch(path.name))] or ["00001"]
        yield from (f"{folder.name}/variables.data-{shard:05d}-of-{counts[0]}" for shard in range(int(counts[0])))


def load_version(version_dir: Path, engine: EngineName, max_rows: int, threads: int = 1) -> LoadedVersion:
    """Loads one version: manifest, checksums, engine, warm-up, golden rows.

    Raises:
        ArtifactError: One of them does not hold; names the file or folder.
        EngineNotInstalled: What the engine needs is not installed.
    """
    started = time.monotonic()
    is_foreign = not (version_dir / MANIFEST_FILE).exists()
    load = _load_foreign if is_foreign else _load_own
    manifest, signature, golden, loaded_engine = load(version_dir, engine, max_rows, threads)
    return LoadedVersion(
        name=version_dir.parent.name,
        version=int(version_dir.name),
        manifest=manifest,
        signature=signature,
        signatures=read_signatures(version_dir / GRAPH_FILE),
        engine=loaded_engine,
        golden=golden,
        load_seconds=time.monotonic() - started,
        is_foreign=is_foreign,
    )


def _load_own(
    version_dir: Path, engine: EngineName, max_rows: int, threads: int
) -> tuple[Manifest, Signature, Golden, Engine]:
    manifest = Manifest.read(version_dir)
    manifest.verify_files(version_dir, but={TWIN_FILE})  # whoever loads it looks; a version can do without
    golden = Golden.load(version_dir)
    loaded_engine = load_engine(engine, version_dir, manifest, golden, max_rows, threads)
    return manifest, Signature.of(manifest.contract), golden, loaded_engine


def _load_foreign(
    version_dir: Path, engine: EngineName, max_rows: int, _: int
) -> tuple[Manifest, Signature, Golden, Engine]:
    """A SavedModel from elsewhere: what its manifest would say is read off its signature."""
    check_whole(version_dir)
    loaded_engine, golden = load_foreign(engine, version_dir, max_rows)
    manifest = Manifest(
        name=version_dir.parent.name,
        created=datetime.fromtimestamp((version_dir / GRAPH_FILE).stat().st_mtime, UTC),
        contract=loaded_engine.contract,
        config={},
        data=DataFingerprint(source=MADE_ELSEWHERE),
        versions={},
        scores=(),
        verdict=f"{MADE_ELSEWHERE.capitalize()}.",
        files={},
    )
    return manifest, loaded_engine.signature, golden, loaded_engine
