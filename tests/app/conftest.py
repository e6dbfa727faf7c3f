"""Two servers for all tests that only ask, and model versions to break."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.version import folders
from app.version.manifest import Contract
from tests.servers import Server, running
from tests.versions import contract_of, laborious, make_version


@pytest.fixture(scope="session")
def contract() -> Contract:
    """4 steps of load and temp, 2 rows of load ahead."""
    return contract_of()


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory, contract: Contract) -> Path:
    """Models `default`, `flat` (one feature) and `slow`, and things that are no models. Not to be changed."""
    models = tmp_path_factory.mktemp("service") / "models"
    make_version(models, contract, version=2)
    for odd in ("1", "007", "latest", "-1", "99999999999999999999", ".tmp-3"):
        (models / "default" / odd).mkdir()
    make_version(models, contract_of(features=("co2",)), "flat")
    make_version(models, contract, "slow", make_forecast=laborious)
    (models / "README.md").touch()
    (models / "broken" / "1").mkdir(parents=True)
    return models


@pytest.fixture
def version_dir(models_dir: Path, tmp_path: Path) -> Path:
    """The test's own copy of a sound version, the only one of model `default` under `tmp_path / "models"`."""
    return Path(shutil.copytree(models_dir / "default" / "2", tmp_path / "models" / "default" / "1"))


@pytest.fixture(scope="session")
def xla_dumps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder where the server's compiler leaves files for everything that it compiles."""
    return tmp_path_factory.mktemp("xla")


@pytest.fixture(scope="session")
def server(models_dir: Path, xla_dumps: Path) -> Iterator[Server]:
    """The service with all models, ready."""
    with running(models_dir.parent, XLA_FLAGS=f"--xla_dump_to={xla_dumps}") as server:
        server.wait_for("/readyz")
        yield server


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="session")
def strict_server(models_dir: Path) -> Iterator[Server]:
    """The service with limits that a test can reach."""
    limits = {
        "max_body_bytes": 4096,
        "max_queue_windows": 4,
        "request_timeout_seconds": 0.5,
        "receive_timeout_seconds": 0.5,
        "root_path": "/forecast",
    }
    with running(models_dir.parent, **limits) as server:
        server.wait_for("/readyz")
        yield server


@pytest.fixture
def settled_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has folders count as written whole at once."""
    monkeypatch.setattr(folders, "SETTLING_SECONDS", 0)
