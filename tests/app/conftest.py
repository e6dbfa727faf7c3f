"""Two servers for all tests that only ask, and model versions to break."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.version import folders
from app.version.manifest import Contract
from tests.servers import Server, running
from tests.versions import add_twin, contract_of, make_fused_version, make_version


@pytest.fixture(scope="session")
def contract() -> Contract:
    """4 steps of load and temp, 2 rows of load ahead."""
    return contract_of()


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory, contract: Contract) -> Path:
    """Models `default`, `flat` (one feature) and `slow`, all with twins, and things that are no models.

    Not to be changed.
    """
    models = tmp_path_factory.mktemp("service") / "models"
    make_fused_version(models, contract, version=2)
    for odd in ("1", "007", "latest", "-1", "99999999999999999999", ".tmp-3"):
        (models / "default" / odd).mkdir()
    make_fused_version(models, contract_of(features=("co2",)), "flat")
    make_fused_version(models, contract, "slow")
    (models / "README.md").touch()
    (models / "broken" / "1").mkdir(parents=True)
    return models


@pytest.fixture(scope="session")
def template_dir(tmp_path_factory: pytest.TempPathFactory, contract: Contract) -> Path:
    """A sound version without a twin, to be copied."""
    return make_version(tmp_path_factory.mktemp("template"), contract)


@pytest.fixture
def version_dir(template_dir: Path, tmp_path: Path) -> Path:
    """The test's own sound version without a twin, the only one of model `default` under `tmp_path / "models"`."""
    return Path(shutil.copytree(template_dir, tmp_path / "models" / "default" / "1"))


@pytest.fixture
def twin_dir(version_dir: Path, contract: Contract) -> Path:
    """The test's own sound version with a twin, which is served in no time; otherwise as `version_dir`."""
    return add_twin(version_dir, contract)


@pytest.fixture(scope="session")
def server(models_dir: Path) -> Iterator[Server]:
    """The service with all models, ready; what `slow` computes may be held."""
    with running(models_dir.parent, "-m", "tests.held") as server:
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
    with running(models_dir.parent, "-m", "tests.held", **limits) as server:
        server.wait_for("/readyz")
        yield server


@pytest.fixture
def settled_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has folders count as written whole at once."""
    monkeypatch.setattr(folders, "SETTLING_SECONDS", 0)
