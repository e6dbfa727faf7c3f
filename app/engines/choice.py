"""Chooses the engine that computes a version, and checks that it answers right."""

from pathlib import Path
from typing import TYPE_CHECKING

from app.engines.engine import Engine, EngineName
from app.engines.proof import check_golden_rows
from app.errors import ArtifactError, EngineNotInstalled
from app.version.golden import Golden
from app.version.manifest import MAX_TWIN_BYTES, TWIN_FILE, Contract, Manifest

if TYPE_CHECKING:
    from app.engines.tensorflow import TensorFlowEngine


def load_engine(
    choice: EngineName, version_dir: Path, manifest: Manifest, golden: Golden, max_windows: int, threads: int
) -> Engine:
    """Loads a version into the chosen engine, warms the engine up, and checks it on the golden rows.

    `auto` takes the fused twin if there is a twin that computes the golden rows, otherwise TensorFlow; the engine's
    remark says why.

    Args:
        choice: Which engine.
        version_dir: The version's folder. Its files have their checksums, except the twin, which is checked here.
        manifest: The version's manifest.
        golden: The version's golden rows.
        max_windows: Largest batch worth preparing for; larger batches are computed in pieces.
        threads: How many threads may compute at once, for an engine whose threads can be set.

    Raises:
        ArtifactError: The version cannot be loaded, does not keep its contract, or does not compute its golden rows.
        EngineNotInstalled: The engine's package is not installed.
    """
    if choice == "tensorflow":
        return _load_tensorflow(version_dir, manifest, golden, max_windows)
    try:
        return _load_onnx(version_dir, manifest, golden, max_windows, threads)
    except (ArtifactError, EngineNotInstalled) as failure:
        if choice == "onnx":
            raise
        without_twin = failure
    try:
        engine = _load_tensorflow(version_dir, manifest, golden, max_windows)
    except EngineNotInstalled as missing:
        problem = f"{without_twin.problem}, and {missing.problem}, so no engine can compute it"
        make_one = f"make a twin with `python -m training fuse {version_dir}` where TensorFlow is installed"
        other_remedy = without_twin.remedy if isinstance(without_twin, EngineNotInstalled) else make_one
        raise ArtifactError(version_dir, problem, f"{missing.remedy}, or {other_remedy}") from missing
    engine.remark = f"{engine.remark}; not by a twin: {without_twin.problem}"
    return engine


def _load_onnx(version_dir: Path, manifest: Manifest, golden: Golden, max_windows: int, threads: int) -> Engine:
    if not manifest.has_twin:
        because = f", because {manifest.no_twin}" if manifest.no_twin else ""
        raise ArtifactError(version_dir, f"the version has no fused twin{because}", "set WINDOWCAST_ENGINE=tensorflow")
    graph = manifest.read_file(version_dir, TWIN_FILE, MAX_TWIN_BYTES)
    # Imported here because either engine may be missing from an installation.
    from app.engines.onnx import OnnxEngine  # noqa: PLC0415

    engine = OnnxEngine(graph, manifest.contract, max_windows, threads, version_dir / TWIN_FILE)
    return _proved(engine, golden, manifest.contract, version_dir)


def _load_tensorflow(version_dir: Path, manifest: Manifest, golden: Golden, max_windows: int) -> Engine:
    from app.engines.tensorflow import TensorFlowEngine  # noqa: PLC0415

    engine = TensorFlowEngine(version_dir, manifest.contract, max_windows)
    return _proved(engine, golden, manifest.contract, version_dir)


def load_foreign(choice: EngineName, version_dir: Path, max_windows: int) -> tuple["TensorFlowEngine", Golden]:
    """Loads a foreign SavedModel, and warms it up.

    Args:
        choice: Which engine.
        version_dir: The version's folder.
        max_windows: Largest batch worth preparing for; larger batches are computed in pieces.

    Returns:
        The engine, and golden rows that it has computed.

    Raises:
        ArtifactError: The version cannot be loaded or computed, or has a signature that cannot be served.
        EngineNotInstalled: The engine's package is not installed.
    """
    if choice == "onnx":
        remedy = f"set WINDOWCAST_ENGINE=auto, or give it one with `python -m training fuse {version_dir}`"
        raise ArtifactError(version_dir, "a version without a manifest has no fused twin", remedy)
    from app.engines.tensorflow import TensorFlowEngine  # noqa: PLC0415

    engine = TensorFlowEngine(version_dir, None, max_windows)
    golden = engine.record_golden()
    engine.warm_up()
    check_golden_rows(engine, golden, engine.contract, version_dir)
    return engine, golden


def _proved(engine: Engine, golden: Golden, contract: Contract, version_dir: Path) -> Engine:
    engine.warm_up()
    check_golden_rows(engine, golden, contract, version_dir)
    return engine
