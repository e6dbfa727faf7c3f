"""The models on disk and the ones that serve: find the versions, prove one, load it, warm it up.

A version serves only when its checksums hold, its engine is warm, and its golden rows come out right.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from app.cores import cores_per_worker
from app.engines import Engine, load_engine
from app.errors import ArtifactError, NotFound, StartupError
from app.golden import Golden
from app.manifest import NAME_PATTERN, TWIN_FILE, VERSION_PATTERN, Contract, Manifest
from app.settings import EngineName, Settings

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """A model version that is proved and warm."""

    name: str
    version: int
    manifest: Manifest
    engine: Engine
    golden: Golden
    load_seconds: float

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
            log.warning("ignored: not a version folder (1, 2, 3 ...)", path=str(path))


def _entries(folder: Path) -> list[tuple[Path, bool]]:
    """What is in a folder, and whether each is a folder itself; nothing where there is no such folder."""
    try:
        return [(path, path.is_dir()) for path in folder.iterdir()] if folder.is_dir() else []
    except OSError as error:
        raise ArtifactError(folder, f"cannot be listed ({error.strerror})", "check its permissions") from error


def latest_version_dir(models_dir: Path, name: str) -> Path:
    """Folder of a model's highest version.

    Raises:
        ArtifactError: There is no such model, or it has no version.
    """
    numbers = versions(models_dir / name)
    if not numbers:
        remedy = f"train one with `python -m training train --name {name}` or set WINDOWCAST_MODELS_DIR and _MODEL"
        raise ArtifactError(models_dir / name, "holds no version of a model", remedy)
    return models_dir / name / str(numbers[-1])


def load_version(version_dir: Path, engine: EngineName, max_rows: int, threads: int = 1) -> LoadedVersion:
    """Loads one version: manifest, checksums, engine, warm-up, golden rows.

    Raises:
        ArtifactError: One of them does not hold; names the file or folder.
        EngineNotInstalled: What the engine needs is not installed.
    """
    started = time.monotonic()
    manifest = Manifest.read(version_dir)
    manifest.verify_files(version_dir, but={TWIN_FILE})  # whoever loads it looks; a version can do without
    golden = Golden.load(version_dir)
    loaded_engine = load_engine(engine, version_dir, manifest, golden, max_rows, threads)
    return LoadedVersion(
        name=version_dir.parent.name,
        version=int(version_dir.name),
        manifest=manifest,
        engine=loaded_engine,
        golden=golden,
        load_seconds=time.monotonic() - started,
    )


class Repository:
    """The versions that serve: the latest of every model under `models_dir`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loaded: dict[str, LoadedVersion] = {}
        self.failures: dict[str, str] = {}
        """Models other than the default that could not be loaded, and why."""

    def load(self) -> None:
        """Loads the latest version of every model; blocks for as long as that takes.

        Raises:
            ArtifactError: The default model cannot be served. Trouble with any other is only reported.
        """
        default = self._settings.model
        self._loaded[default] = self._load_latest(default)
        for name in model_names(self._settings.models_dir):
            if name != default:
                self._load_other(name)

    def _load_latest(self, name: str) -> LoadedVersion:
        version_dir = latest_version_dir(self._settings.models_dir, name)
        settings = self._settings
        threads = cores_per_worker(settings.workers)
        loaded = load_version(version_dir, settings.engine, settings.max_batch_rows, threads)
        log.info(
            "model loaded",
            model=name,
            version=loaded.version,
            engine=loaded.engine.name,
            remark=loaded.engine.remark,
            seconds=round(loaded.load_seconds, 2),
        )
        return loaded

    def _load_other(self, name: str) -> None:
        try:
            self._loaded[name] = self._load_latest(name)
        except StartupError as error:
            log.warning("model not served", model=name, reason=str(error))
        except Exception as error:
            log.exception("model not served", model=name, reason=type(error).__name__)
        else:
            return
        self.failures[name] = "its latest version could not be loaded; the service's log says why"

    def all(self) -> list[LoadedVersion]:
        """Every version that serves, the default model's first."""
        return list(self._loaded.values())

    def get(self, name: str | None = None, version: int | None = None) -> LoadedVersion:
        """The version that answers for a model.

        Args:
            name: The model; None for the default one.
            version: The version; None for the one that serves.

        Raises:
            NotFound: No such model or version serves.
        """
        loaded = self._loaded.get(name or self._settings.model)
        if loaded is None:
            raise NotFound("model", f"GET /models lists the {len(self._loaded)} that serve.")
        if version not in (None, loaded.version):
            raise NotFound("version of this model", f"Version {loaded.version} serves.")
        return loaded
