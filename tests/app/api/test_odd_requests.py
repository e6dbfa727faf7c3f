"""Requests of every kind to a service of its own, right, wrong and odd; `benchmarks` sends many more of them."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.version.manifest import Contract
from benchmarks.fuzz import attack
from benchmarks.traffic import cases
from benchmarks.wire import ADMIN_KEY, LABEL, Case, Subject
from tests.servers import Server, read_answer, serving
from tests.versions import some_windows

MAX_WINDOWS = 8
VERSION = 2
SEED = 11
ODD_REQUESTS = 600
RECEIVE_SECONDS = 2.0
"""Many odd requests are not whole, and are waited for so long."""


@pytest.fixture(scope="module")
def asked(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service with an admin key, and a label on the default model's version."""
    folder = tmp_path_factory.mktemp("asked")
    shutil.copytree(models_dir / "default" / str(VERSION), folder / "models" / "default" / str(VERSION))
    (folder / "models" / "policies.toml").write_text(f"[default]\nlabels = {{ {LABEL} = {VERSION} }}\n")
    with serving(
        folder, admin_key=ADMIN_KEY, max_batch_windows=MAX_WINDOWS, receive_timeout_seconds=RECEIVE_SECONDS
    ) as server:
        server.wait_for("/readyz")
        yield server


@pytest.fixture(scope="module")
def known(contract: Contract) -> list[Case]:
    """Requests of every kind."""
    windows = some_windows(MAX_WINDOWS + 1, contract)
    return cases(Subject(windows, contract.feature_names, MAX_WINDOWS, VERSION, LABEL, ADMIN_KEY))


def test_a_request_of_any_kind_is_answered_with_its_status(asked: Server, known: list[Case]) -> None:
    assert {case.name: status_of(asked, case.request) for case in known} == {case.name: case.status for case in known}


def status_of(server: Server, request: bytes) -> int:
    with server.connect() as sock:
        sock.sendall(request)
        return read_answer(sock).status


def test_no_odd_request_does_worse_than_be_refused(asked: Server, known: list[Case]) -> None:
    findings = attack(asked.port, known, range(ODD_REQUESTS), SEED)
    assert findings.faults == []
    assert findings.statuses.total() >= ODD_REQUESTS
    assert {200, 400, 404, 405, 408, 413, 415, 422, 431, 505} <= findings.statuses.keys()
    assert [line for line in asked.log() if line["level"] not in {"info", "warning"}] == []
    assert asked.get("/livez").status_code == 200
