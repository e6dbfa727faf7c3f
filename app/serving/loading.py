"""How a version on disk becomes something that can forecast.

A version can serve only when its checksums hold, its engine is warm, and its golden rows come out right.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from app.engines.choice import load_engine, load_foreign
from app.engines.engine import Engine, EngineName
from app.process.cores import cores_per_worker
from app.settings import Settings
from app.version.folders import GRAPH_FILE, check_whole
from app.version.golden import Golden
from app.version.manifest import MANIFEST_FILE, TWIN_FILE, Contract, Manifest
from app.version.saved_model import read_signatures
from app.version.signature import Signature


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """A version that is proved and warm."""

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
    """Whether the version has no manifest. Its contract then comes from its signature."""

    @property
    def contract(self) -> Contract:
        """What the version takes, and what forecasts it gives."""
        return self.manifest.contract


LoadVersion: TypeAlias = Callable[[Path, Manifest | None], LoadedVersion]
"""Turns a version's folder, and its manifest if that is known, into a version that can forecast.

Raises `VersionError` if the version cannot serve.
"""


def loader_of(settings: Settings) -> LoadVersion:
    """Returns the `load_version` that a service with these settings uses."""

    def load(version_dir: Path, manifest: Manifest | None) -> LoadedVersion:
        threads = cores_per_worker(settings.workers)
        return load_version(version_dir, settings.engine, settings.max_batch_windows, threads, manifest)

    return load


def load_version(
    version_dir: Path, engine: EngineName, max_windows: int, threads: int = 1, manifest: Manifest | None = None
) -> LoadedVersion:
    """Loads a version: manifest, checksums, engine, warm-up, golden rows.

    Args:
        version_dir: The version's folder.
        engine: Which engine computes.
        max_windows: Largest batch worth preparing for.
        threads: How many threads may compute at once.
        manifest: As `check_whole` read it; it is read from the folder unless given.

    Raises:
        ArtifactError: A file is missing or wrong, or the engine does not compute the golden rows.
        EngineNotInstalled: The engine is not installed.
    """
    started = time.monotonic()
    is_foreign = not (version_dir / MANIFEST_FILE).exists()
    if is_foreign:
        manifest, signature, golden, loaded_engine = _load_foreign(version_dir, engine, max_windows)
    else:
        manifest = manifest or Manifest.read(version_dir)
        signature = Signature.of(manifest.contract)
        golden, loaded_engine = _load_own(version_dir, manifest, engine, max_windows, threads)
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
    version_dir: Path, manifest: Manifest, engine: EngineName, max_windows: int, threads: int
) -> tuple[Golden, Engine]:
    manifest.check_files(version_dir, but={TWIN_FILE})  # its engine checks it; a version can serve without it
    golden = Golden.load(version_dir, manifest.contract)
    return golden, load_engine(engine, version_dir, manifest, golden, max_windows, threads)


def _load_foreign(
    version_dir: Path, engine: EngineName, max_windows: int
) -> tuple[Manifest, Signature, Golden, Engine]:
    """Loads a foreign version. Its signature tells what a manifest would."""
    check_whole(version_dir)
    loaded_engine, golden = load_foreign(engine, version_dir, max_windows)
    created = datetime.fromtimestamp((version_dir / GRAPH_FILE).stat().st_mtime, UTC)
    manifest = Manifest.foreign(version_dir.parent.name, created, loaded_engine.contract)
    return manifest, loaded_engine.signature, golden, loaded_engine
