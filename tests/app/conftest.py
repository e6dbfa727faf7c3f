"""Two servers for all tests that only ask, and model versions to break."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.version import folders
from app.version.manifest import Contract
from tests.app.in_process import Application, application, listening
from tests.loops import LIMIT_SECONDS
from tests.servers import Server, serving
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
def service(models_dir: Path) -> Iterator[Application]:
    """The service with all models in this process, ready."""
    with application(models_dir.parent) as running:
        yield running


@pytest.fixture(scope="session")
def client(service: Application) -> Iterator[httpx.Client]:
    """A client of the service in this process."""
    with service.client() as client:
        yield client


@pytest.fixture(scope="session")
def port(service: Application) -> Iterator[int]:
    """Where the service in this process listens."""
    with listening(service.front, service.loop) as port:
        yield port


@pytest.fixture(scope="session")
def strict_service(models_dir: Path) -> Iterator[Application]:
    """The service in this process, with limits that a test can reach; those of time by the clock of its loop."""
    with application(
        models_dir.parent,
        max_body_bytes=4096,
        max_queue_windows=4,
        request_timeout_seconds=LIMIT_SECONDS,
        receive_timeout_seconds=LIMIT_SECONDS,
    ) as running:
        yield running


@pytest.fixture(scope="session")
def strict_port(strict_service: Application) -> Iterator[int]:
    """Where the service with these limits listens."""
    with listening(strict_service.front, strict_service.loop) as port:
        yield port


@pytest.fixture(scope="session")
def server(models_dir: Path) -> Iterator[Server]:
    """The service with all models in a process of its own, ready."""
    with serving(models_dir.parent) as server:
        server.wait_for("/readyz")
        yield server


@pytest.fixture(scope="session")
def strict_server(models_dir: Path) -> Iterator[Server]:
    """The service in a process of its own, with limits of time that a test can wait for."""
    with serving(models_dir.parent, request_timeout_seconds=0.5, receive_timeout_seconds=0.5) as server:
        server.wait_for("/readyz")
        yield server


@pytest.fixture(scope="session")
def proxied_server(models_dir: Path) -> Iterator[Server]:
    """The service in a process of its own, as behind a proxy that publishes it under `/forecast`."""
    with serving(models_dir.parent, root_path="/forecast") as server:
        server.wait_for("/readyz")
        yield server


@pytest.fixture
def settled_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has folders count as written whole at once."""
    monkeypatch.setattr(folders, "SETTLING_SECONDS", 0)
