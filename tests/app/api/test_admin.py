"""What an operator changes while the service runs, and what callers notice of it."""

import gc
import shutil
import threading
import tomllib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import httpx
import pytest

from app.serving import changes, policies
from tests.app.in_process import Application, application, listening
from tests.app.version.test_folders import record_wrong_golden_rows
from tests.holding import held_loading
from tests.servers import Server, connect, serving
from tests.waiting import PATIENCE_SECONDS, wait_until

KEY = "a key of the operator's"
WINDOW = [[1, 0], [2, 0], [3, 0], [6, 0]]
FORECAST = [[3.0], [4.0]]
WATCH_SECONDS = 0.2


pytestmark = pytest.mark.usefixtures("settled_folders")


@pytest.fixture
def models(twin_dir: Path) -> Path:
    """Model `default` with versions 1, 2 and 3, all of which have twins."""
    for version in ("2", "3"):
        shutil.copytree(twin_dir, twin_dir.with_name(version))
    return twin_dir.parents[1]


@pytest.fixture
def administered(models: Path) -> Iterator[Application]:
    """The service with this model, which looks for changes all the time."""
    with application(models.parent, admin_key=KEY, watch_seconds=WATCH_SECONDS) as service:
        yield service


@pytest.fixture
def admin(administered: Application) -> Iterator[httpx.Client]:
    with administered.client() as client:
        client.headers["Authorization"] = f"Bearer {KEY}"
        yield client


def version_of(client: httpx.Client, **query: object) -> int:
    """Which version answers."""
    answer = client.post("/predict", params=query, json={"window": WINDOW})  # type: ignore[arg-type]
    assert answer.json()["prediction"] == FORECAST
    assert answer.headers["X-Windowcast-Version"] == str(answer.json()["version"])
    version: int = answer.json()["version"]
    return version


def put_policy(admin: httpx.Client, **policy: object) -> dict[int, str]:
    """The state of every version after a change of policy."""
    answer = admin.put("/admin/models/default/policy", json=policy)
    assert answer.status_code == 200, answer.text
    return {entry["version"]: entry["state"] for entry in answer.json()["versions"]}


def test_without_a_key_there_is_no_such_path(client: httpx.Client) -> None:
    for path in ("/admin/models", "/admin/refresh"):
        assert client.get(path, headers={"Authorization": "Bearer"}).status_code == 404
    assert "/admin" not in client.get("/openapi.json").text


def test_a_path_of_two_routes_tells_the_methods_of_both(admin: httpx.Client) -> None:
    answer = admin.get("/admin/models/default/labels/stable")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "PUT, DELETE")
    assert answer.json()["detail"] == "This path takes PUT, DELETE."


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer"}, {"X": KEY}])
def test_without_the_key_every_path_is_closed(headers: dict[str, str], administered: Application) -> None:
    paths = [
        ("GET", "/admin/models"),
        ("GET", "/admin/models/default/state"),
        ("PUT", "/admin/models/default/policy"),
        ("PUT", "/admin/models/default/labels/stable"),
        ("DELETE", "/admin/models/default/labels/stable"),
        ("POST", "/admin/refresh"),
    ]
    with administered.client() as client:
        for method, path in paths:
            answer = client.request(method, path, headers=headers, content=b"{}")
            assert answer.status_code == 401, path
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert "wrong" not in answer.text
        paths_in_docs = client.get("/openapi.json").json()["paths"].keys()
        assert {path.replace("default", "{name}").replace("stable", "{label}") for _, path in paths} <= paths_in_docs


def test_versions_go_forward_and_back_by_policy(admin: httpx.Client) -> None:
    assert version_of(admin) == 3
    assert put_policy(admin, versions=[1])[1] == "available"
    assert version_of(admin) == 1
    states = put_policy(admin, latest=2)
    assert (states[2], states[3]) == ("available", "available")
    wait_until(lambda: admin.get("/admin/models/default/state").json()["versions"][0]["state"] == "ended")
    assert (version_of(admin), version_of(admin, version=2)) == (3, 2)
    assert [entry["latest"] for entry in [admin.get("/admin/models/default/state").json()["policy"]]] == [2]


def test_a_change_outlives_the_service(admin: httpx.Client, models: Path) -> None:
    put_policy(admin, versions=[2])
    with application(models.parent) as again, again.client() as client:
        assert version_of(client) == 2


def test_a_label_stands_for_a_version_that_serves(admin: httpx.Client) -> None:
    put_policy(admin, versions=[1, 3])
    for label, version in (("stable", 1), ("canary", 3)):
        assert admin.put(f"/admin/models/default/labels/{label}", json={"version": version}).status_code == 200
        assert version_of(admin, label=label) == version
    refusal = admin.put("/admin/models/default/labels/stable", json={"version": 2})
    assert (refusal.status_code, refusal.json()["title"]) == (409, "Conflict")
    assert version_of(admin, label="stable") == 1
    assert admin.delete("/admin/models/default/labels/canary").json()["labels"] == {"stable": 1}
    assert admin.post("/predict", params={"label": "canary"}, json={"window": WINDOW}).status_code == 404
    both = admin.post("/predict", params={"label": "stable", "version": 1}, json={"window": WINDOW})
    assert both.status_code == 422
    assert both.json()["errors"][0]["message"] == "give either version or label"


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        (b"{}", 422, ""),
        (b'{"latest": 1, "versions": [1]}', 422, ""),
        (b'{"latest": 0}', 422, "/latest"),
        (b'{"latest": true}', 422, "/latest"),
        (b'{"versions": [1, "2"]}', 422, "/versions/1"),
        (b'{"newest": 1}', 422, ""),
        (b"[]", 422, ""),
        (b'{"versions": [1', 400, None),
        (b"\xff", 400, None),
        (b'{"versions": [%s1]}' % (b"1, " * 40_000), 413, None),
    ],
)
def test_a_policy_that_is_none_is_told(body: bytes, status: int, pointer: str | None, admin: httpx.Client) -> None:
    answer = admin.put("/admin/models/default/policy", content=body)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert len(answer.content) <= 4096
    assert "model's contract" not in answer.text
    if pointer is not None:
        assert answer.json()["errors"][0]["pointer"] == pointer
    assert version_of(admin) == 3


@pytest.mark.parametrize("versions", [[], [999], [4, 5]])
def test_a_choice_with_which_the_service_could_not_start_again_is_refused(
    versions: list[int], admin: httpx.Client, models: Path
) -> None:
    answer = admin.put("/admin/models/default/policy", json={"versions": versions})
    assert (answer.status_code, answer.json()["title"]) == (409, "Conflict")
    assert not (models / "policies.toml").exists()


def test_a_choice_that_turns_out_not_to_serve_is_taken_back(admin: httpx.Client, models: Path) -> None:
    put_policy(admin, versions=[2])
    (models / "default" / "1" / "saved_model.pb").write_bytes(b"")
    answer = admin.put("/admin/models/default/policy", json={"versions": [1]})
    assert answer.status_code == 409
    assert answer.json()["detail"].startswith("The policy stays as it was, for none of these versions can serve: ")
    assert "has changed since the export" in answer.json()["detail"]
    assert admin.get("/admin/models/default/state").json()["policy"]["versions"] == [2]
    assert version_of(admin) == 2
    assert put_policy(admin, versions=[1, 3])[3] == "available", "one that serves is enough"


def test_a_choice_is_taken_back_though_the_operator_has_left(
    administered: Application, admin: httpx.Client, models: Path
) -> None:
    unheard: list[object] = []
    administered.loop.set_exception_handler(lambda _, context: unheard.append(context))
    put_policy(admin, versions=[1])
    (models / "default" / "2" / "saved_model.pb").write_bytes(b"")
    file, body = models / "policies.toml", b'{"versions": [2]}'
    head = f"PUT /admin/models/default/policy HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with held_loading(administered.folder) as loading, listening(administered.front, administered.loop) as port:
        with connect(port) as sock:
            sock.sendall(head.encode() + body)
            loading.wait_until_reached()
        assert tomllib.loads(file.read_text())["default"]["versions"] == [2]
        wait_until(lambda: 'status="499"' in admin.get("/metrics").text)
        loading.release()
    wait_until(lambda: tomllib.loads(file.read_text())["default"]["versions"] == [1])
    wait_until(lambda: not changes._under_way)
    assert version_of(admin) == 1
    gc.collect()
    assert unheard == [], "a conflict that nobody waits for is no error"


def test_a_refused_label_holds_on_to_no_version(admin: httpx.Client) -> None:
    def states() -> dict[int, str]:
        entries = admin.get("/admin/models/default/state").json()["versions"]
        return {entry["version"]: entry["state"] for entry in entries}

    gc.disable()  # an idle service collects nothing for hours
    try:
        assert admin.put("/admin/models/default/labels/own", json={"version": 2}).status_code == 409
        put_policy(admin, versions=[1])
        wait_until(lambda: states()[3] == "ended")
    finally:
        gc.enable()


def test_a_label_put_while_a_choice_is_taken_back_stays(
    administered: Application, admin: httpx.Client, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0
    try_lock = policies._try_lock

    def count(handle: int) -> bool:
        nonlocal tries
        tries += 1
        return try_lock(handle)

    put_policy(admin, versions=[1, 3])
    (models / "default" / "2" / "saved_model.pb").write_bytes(b"")
    monkeypatch.setattr(policies, "_try_lock", count)
    with held_loading(administered.folder) as loading, ThreadPoolExecutor() as pool:
        choice = pool.submit(admin.put, "/admin/models/default/policy", json={"versions": [2]})
        loading.wait_until_reached()
        label = pool.submit(admin.put, "/admin/models/default/labels/stable", json={"version": 1})
        wait_until(lambda: tries > 1)  # the first change has its turn, the second asks for it
        assert not label.done()
        loading.release()
        assert choice.result().status_code == 409
        assert label.result().status_code == 200
    assert label.result().json()["labels"] == {"stable": 1}
    assert admin.get("/admin/models/default/state").json()["policy"]["labels"] == {"stable": 1}
    assert admin.get("/admin/models/default/state").json()["policy"]["versions"] == [1, 3]
    assert version_of(admin, label="stable") == 1


@pytest.mark.parametrize(("by_hand", "in_the_end"), [([3], [3]), ([2], [1])])
def test_a_choice_that_is_taken_back_leaves_what_was_written_by_hand(
    by_hand: list[int], in_the_end: list[int], administered: Application, admin: httpx.Client, models: Path
) -> None:
    put_policy(admin, versions=[1])
    (models / "default" / "2" / "saved_model.pb").write_bytes(b"")
    with held_loading(administered.folder) as loading, ThreadPoolExecutor() as pool:
        choice = pool.submit(admin.put, "/admin/models/default/policy", json={"versions": [2]})
        loading.wait_until_reached()
        file = models / "policies.toml"
        file.write_text(f"[default]\nversions = {by_hand}\nlabels = {{ mine = 1 }}\n")
        loading.release()
        assert choice.result().status_code == 409
    assert tomllib.loads(file.read_text())["default"] == {"versions": in_the_end, "labels": {"mine": 1}}


def test_a_label_for_a_version_that_another_worker_lets_go_is_refused(admin: httpx.Client, models: Path) -> None:
    put_policy(admin, versions=[1, 3])
    assert admin.put("/admin/models/default/labels/stable", json={"version": 3}).status_code == 200
    with application(models.parent, admin_key=KEY, watch_seconds=0) as late, late.client() as client:
        client.headers["Authorization"] = f"Bearer {KEY}"
        put_policy(admin, versions=[3])
        for label in ("stable", "new"):  # this service has not heard of it yet
            assert client.put(f"/admin/models/default/labels/{label}", json={"version": 1}).status_code == 409
    assert tomllib.loads((models / "policies.toml").read_text())["default"]["labels"] == {"stable": 3}


def test_the_documentation_knows_the_key(admin: httpx.Client) -> None:
    document = admin.get("/openapi.json").json()
    [name] = document["components"]["securitySchemes"]
    assert document["paths"]["/admin/models/{name}/policy"]["put"]["security"] == [{name: []}]
    assert "security" not in document["paths"]["/predict"]["post"]


def test_another_model_may_be_let_rest(admin: httpx.Client, models: Path) -> None:
    shutil.copytree(models / "default" / "1", models / "other" / "1")
    wait_until(lambda: admin.get("/models/other").status_code == 200)
    assert admin.put("/admin/models/other/policy", json={"versions": []}).status_code == 200
    assert admin.get("/models/other").status_code == 404


@pytest.mark.parametrize("scheme", ["bearer", "BEARER"])
def test_the_scheme_of_the_key_has_any_case(scheme: str, admin: httpx.Client) -> None:
    answer = admin.get("/admin/models", headers={"Authorization": f"{scheme} {KEY}"})
    assert answer.status_code == 200
    assert admin.get("/admin/models", headers={"Authorization": KEY}).status_code == 401


def test_an_unknown_model_has_no_policy(admin: httpx.Client) -> None:
    assert admin.put("/admin/models/other/policy", json={"latest": 1}).status_code == 404
    assert admin.get("/admin/models/other/state").status_code == 404


def test_a_file_that_cannot_be_changed_stays_and_is_told(admin: httpx.Client, models: Path) -> None:
    (models / "policies.toml").write_text("[default\n")
    answer = admin.put("/admin/models/default/policy", json={"latest": 1})
    assert answer.status_code == 409
    assert answer.json()["detail"].startswith("The policies cannot be changed: their file is not TOML")
    assert str(models) not in answer.text
    wait_until(lambda: "policies.toml: is not TOML" in str(admin.get("/healthz").json()["trouble"]))
    assert version_of(admin) == 3


def test_a_file_that_an_operator_edits_is_followed(admin: httpx.Client, models: Path) -> None:
    (models / "policies.toml").write_text("[default]\nversions = [2]\nlabels = { stable = 2 }\n")
    wait_until(lambda: version_of(admin) == 2)
    assert version_of(admin, label="stable") == 2


def test_without_a_watch_a_look_can_be_asked_for(models: Path) -> None:
    with application(models.parent, admin_key=KEY, watch_seconds=0) as service, service.client() as client:
        client.headers["Authorization"] = f"Bearer {KEY}"
        shutil.copytree(models / "default" / "3", models / ".new")
        (models / ".new").rename(models / "default" / "4")
        assert client.post("/admin/refresh").json()[0]["versions"][-1]["state"] == "available"
        assert version_of(client) == 4


def test_every_worker_follows_a_change(models: Path) -> None:
    with serving(models.parent, admin_key=KEY, watch_seconds=WATCH_SECONDS, workers=2) as server:
        wait_until(lambda: len(server.log("ready")) == 2)
        with server.client() as client:
            client.headers["Authorization"] = f"Bearer {KEY}"
            put_policy(client, versions=[1])
            wait_until(lambda: len([line for line in server.log("version released") if line["version"] == 3]) == 2)
        asked = [server.post("/predict", json={"window": WINDOW}) for _ in range(20)]
        assert {answer.json()["version"] for answer in asked} == {1}


class Callers:
    """Some who ask without a pause, as long as the block lasts, and count the answers by status and version."""

    def __init__(self, server: Server, count: int = 4) -> None:
        self.answers: Counter[tuple[int, str | None]] = Counter()
        self._server = server
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]

    def _ask(self) -> None:
        with self._server.client() as client:
            while not self._is_over.is_set():
                try:
                    answer = client.post("/predict", json={"window": WINDOW})
                except httpx.TransportError:
                    self.answers[0, None] += 1
                    continue
                is_right = answer.status_code == 200 and answer.json()["prediction"] == FORECAST
                status = 200 if is_right else -answer.status_code
                self.answers[status, answer.headers.get("X-Windowcast-Version")] += 1

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)


@pytest.fixture
def roller(models: Path) -> Iterator[Server]:
    """The same service in a process of its own."""
    with serving(models.parent, admin_key=KEY, watch_seconds=WATCH_SECONDS) as server:
        server.wait_for("/readyz")
        yield server


def test_callers_lose_nothing_while_versions_come_and_go(roller: Server, models: Path) -> None:
    broken = models / ".broken"
    shutil.copytree(models / "default" / "1", broken)
    record_wrong_golden_rows(broken)
    with roller.client() as admin, Callers(roller) as callers:
        admin.headers["Authorization"] = f"Bearer {KEY}"
        for _ in range(3):
            put_policy(admin, versions=[1])
            put_policy(admin, latest=1)
        broken.rename(models / "default" / "4")
        wait_until(lambda: admin.get("/admin/models/default/state").json()["versions"][-1]["state"] == "failed")
        shutil.rmtree(models / "default" / "3")
        admin.post("/admin/refresh")
    assert {key for key, count in callers.answers.items() if count} == {(200, "1"), (200, "3")}


@pytest.mark.parametrize("workers", [1, 2])
def test_no_label_is_lost_that_one_operator_puts_while_another_chooses_what_cannot_serve(
    workers: int, models: Path
) -> None:
    (models / "default" / "2" / "saved_model.pb").write_bytes(b"")
    count = 15

    def choose_in_vain(client: httpx.Client) -> set[int]:
        path = "/admin/models/default/policy"
        return {client.put(path, json={"versions": [2]}).status_code for _ in range(count)}

    def put_labels(client: httpx.Client) -> set[int]:
        path = "/admin/models/default/labels"
        return {client.put(f"{path}/l{number}", json={"version": 1}).status_code for number in range(count)}

    with serving(models.parent, admin_key=KEY, watch_seconds=WATCH_SECONDS, workers=workers) as server:
        wait_until(lambda: len(server.log("ready")) == workers)
        with server.client() as one, server.client() as another, ThreadPoolExecutor() as pool:
            for client in (one, another):
                client.headers["Authorization"] = f"Bearer {KEY}"
            put_policy(one, versions=[1])
            choices, labels = pool.submit(choose_in_vain, one), pool.submit(put_labels, another)
            assert (choices.result(), labels.result()) == ({409}, {200})
    written = tomllib.loads((models / "policies.toml").read_text())["default"]
    assert written == {"versions": [1], "labels": {f"l{number}": 1 for number in range(count)}}


def test_a_failed_version_is_told_everywhere_and_disturbs_nothing(admin: httpx.Client, models: Path) -> None:
    broken = models / ".broken"
    shutil.copytree(models / "default" / "1", broken)
    (broken / "saved_model.pb").write_bytes(b"")
    broken.rename(models / "default" / "4")
    wait_until(lambda: "default/4" in admin.get("/healthz").json()["failures"])
    wait_until(lambda: "has changed since" in admin.get("/healthz").json()["failures"]["default/4"])
    assert admin.get("/readyz").status_code == 200
    assert version_of(admin) == 3
    assert "has changed since" in admin.get("/models").json()["failures"]["default/4"]
    state = admin.get("/admin/models/default/state").json()["versions"][-1]
    assert (state["version"], state["state"]) == (4, "failed")
    metrics = admin.get("/metrics").text
    assert 'windowcast_version_state{model="default",state="failed",version="4"} 1.0' in metrics
