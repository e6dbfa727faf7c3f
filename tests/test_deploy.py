"""What `deploy/` shows is what the service counts, and all its parts find each other."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from app.serving.states import State
from app.telemetry.metrics import Outcome
from tests.app.telemetry.test_metrics import samples_of
from tests.holding import held_loading
from tests.pages import PAGES, commands_of
from tests.promql import BadQuery, Labels, check
from tests.servers import ROOT, Server, serving
from tests.versions import contract_of, make_fused_version
from tests.waiting import wait_until

DEPLOY = ROOT / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/windowcast.json").read_text(encoding="utf-8"))
WINDOW = [[1, 0], [2, 0], [3, 0], [6, 0]]
UP = {"up": frozenset[str]()}
"""What Prometheus counts of its own accord."""
COUNTED_BY_LABEL = {"outcome": {*Outcome}, "state": {*State}}


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


COMPOSE = read_yaml(DEPLOY / "compose.yaml")
PROMETHEUS = read_yaml(DEPLOY / "prometheus.yml")
ALERTS = [rule for group in read_yaml(DEPLOY / "alerts.yml")["groups"] for rule in group["rules"]]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
TARGETS = [(panel["title"], target) for panel in PANELS for target in panel["targets"]]
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that has been asked well, badly and too early, and has a version that cannot be loaded."""
    folder = tmp_path_factory.mktemp("deploy")
    make_fused_version(folder / "models", contract_of())
    broken = make_fused_version(folder / "models", contract_of(), version=2)
    (broken / "variables" / "variables.index").write_bytes(b"")
    with held_loading(folder) as loading, serving(folder, watch_seconds=0.2) as server, server.client() as client:
        server.wait_for("/livez")
        assert client.post("/predict", json={"window": WINDOW}).status_code == 503
        loading.release()
        server.wait_for("/readyz")
        assert client.post("/predict", json={"window": WINDOW}).status_code == 200
        assert client.post("/predict", json={"window": []}).status_code == 422
        wait_until(lambda: "default/2" in client.get("/healthz").json()["failures"])
        yield server


@pytest.fixture(scope="module")
def metrics(server: Server) -> dict[str, Labels]:
    """The names of all samples in the service's own answer, with their labels."""
    [scrape] = PROMETHEUS["scrape_configs"]
    samples = samples_of(server.get(scrape["metrics_path"]).text)
    return {name: frozenset[str]().union(*(labels for labels, _ in found)) for name, found in samples.items()} | UP


def without_variables(query: str) -> str:
    """A dashboard's query as Grafana sends it."""
    for name in set(re.findall(r"\$(\w+)", query)) - {"__rate_interval"}:
        assert name in VARIABLES
        query = query.replace(f"${name}", "x")
    return query.replace("$__rate_interval", "1m")


@pytest.mark.parametrize(("title", "target"), TARGETS, ids=[f"{title}, {t['refId']}" for title, t in TARGETS])
def test_a_panel_shows_what_the_service_counts(title: str, target: dict[str, Any], metrics: dict[str, Labels]) -> None:
    query = check(without_variables(target["expr"]), metrics)
    assert query.labels is not None
    assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= query.labels
    assert_values_exist(query.selected)


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_looks_at_what_the_service_counts(rule: dict[str, Any], metrics: dict[str, Labels]) -> None:
    query = check(rule["expr"], metrics)
    assert query.labels is not None
    assert re.search(r"(==|>) [\d.]+$", rule["expr"])
    assert set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])) <= query.labels
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert_values_exist(query.selected)


def assert_values_exist(selected: list[tuple[str, list[tuple[str, str, str]]]]) -> None:
    """Where a query names values of a closed set, or the job, they are members."""
    known = {**COUNTED_BY_LABEL, "job": {scrape["job_name"] for scrape in PROMETHEUS["scrape_configs"]}}
    for _, matchers in selected:
        for label, _, text in matchers:
            assert label not in known or {*text.split("|")} <= known[label]


def test_every_metric_of_the_service_is_shown(metrics: dict[str, Labels]) -> None:
    shown = " ".join(target["expr"] for _, target in TARGETS)
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in metrics if name.startswith("windowcast_")}
    assert "windowcast_ready" in families
    assert [family for family in families if family not in shown] == []


METRICS = {
    "requests_total": frozenset({"route", "outcome"}),
    "seconds_bucket": frozenset({"route", "le"}),
    "rows": frozenset({"model"}),
}


@pytest.mark.parametrize(
    ("query", "labels"),
    [
        ("rows", {"model", "job", "instance"}),
        ("sum(rows)", set()),
        ("sum by (model) (rows) > 0", {"model"}),
        ("sum (rows) by (model, job)", {"model", "job"}),
        ('sum(rate(requests_total{outcome=~"a|b", route!=""}[5m])) / sum(rate(requests_total[5m])) > 0.01', set()),
        ("histogram_quantile(0.5, sum by (route, le) (rate(seconds_bucket[1m])))", {"route"}),
        ("time() - max(rows)", set()),
        ("(1 + 2) * rows{}", {"model", "job", "instance"}),
        ("1 + 2", None),
    ],
)
def test_the_reader_of_queries_knows_what_comes_out(query: str, labels: set[str] | None) -> None:
    assert check(query, METRICS).labels == labels


@pytest.mark.parametrize(
    "query",
    [
        "",
        "sum(rows",
        "sum(rows))",
        "rows rows",
        "rows +",
        "row",
        "rows{route='x'}",
        'rows{route="x"}',
        'rows{model="x}',
        'rows{model "x"}',
        "rows[5m]",
        "rate(requests_total)",
        "rate(requests_total[5])",
        "rate(rows[5m])",
        "sum by (route) (rows)",
        "sum by (route (rate(requests_total[5m]))",
        "sum(1)",
        "histogram_quantile(0.5, sum by (route) (rate(seconds_bucket[1m])))",
        "histogram_quantile(0.5, sum(rate(seconds_bucket[1m])))",
        "histogram_quantile(99, rate(seconds_bucket[1m]))",
        "histogram_quantil(0.5, rate(seconds_bucket[1m]))",
        "sum by (route) (rate(requests_total[5m])) / sum(rate(requests_total[5m]))",
        "rows ! 1",
    ],
)
def test_the_reader_of_queries_refuses_what_prometheus_cannot_answer(query: str) -> None:
    with pytest.raises(BadQuery):
        check(query, METRICS)


def test_the_panels_lie_side_by_side_without_gaps_in_the_grid() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    height = max(y for _, y in taken) + 1
    assert len(taken) == 24 * height
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_every_panel_asks_the_data_source_that_is_chosen() -> None:
    assert VARIABLES["datasource"]["query"] == "prometheus"
    for panel in PANELS:
        assert {source["datasource"]["uid"] for source in (panel, *panel["targets"])} == {"${datasource}"}


def test_the_models_to_choose_from_are_those_that_are_counted(metrics: dict[str, Labels]) -> None:
    matched = re.fullmatch(r"label_values\((\w+), (\w+)\)", VARIABLES["model"]["query"]["query"])
    assert matched is not None
    assert matched[2] in metrics[matched[1]]
    assert VARIABLES["model"]["allValue"] == ".*"


def mounts_of(service: str) -> dict[str, str]:
    """Where each file or folder of a container comes from."""
    mounts = (re.fullmatch(r"(.+?):(/[^:]*)(:ro)?", mount) for mount in COMPOSE["services"][service]["volumes"])
    return {mount[2]: mount[1] for mount in mounts if mount is not None}


def host_path(service: str, path: str) -> Path:
    """The file in this repository that is a file in a container."""
    for target, source in mounts_of(service).items():
        if Path(path).is_relative_to(target):
            return DEPLOY / source / Path(path).relative_to(target)
    raise AssertionError(f"{path} is not mounted into {service}")


def test_everything_that_is_mounted_exists() -> None:
    for name, service in COMPOSE["services"].items():
        assert len(mounts_of(name)) == len(service["volumes"])
        for source in mounts_of(name).values():
            source = re.sub(r"^\$\{\w+:-(\w+)\}$", r"\1", source)  # noqa: PLW2901
            assert source in COMPOSE["volumes"] or (DEPLOY / source).exists(), source


def test_the_configuration_is_where_prometheus_and_grafana_look_for_it() -> None:
    assert host_path("prometheus", "/etc/prometheus/prometheus.yml") == DEPLOY / "prometheus.yml"
    for file in PROMETHEUS["rule_files"]:
        assert host_path("prometheus", f"/etc/prometheus/{file}").is_file()
    provisioning = host_path("grafana", "/etc/grafana/provisioning")
    [source] = read_yaml(next((provisioning / "datasources").glob("*.yml")))["datasources"]
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    [provider] = read_yaml(next((provisioning / "dashboards").glob("*.yml")))["providers"]
    assert host_path("grafana", provider["options"]["path"]) == DEPLOY / "grafana/dashboards"
    home = COMPOSE["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert json.loads(host_path("grafana", home).read_text(encoding="utf-8")) == DASHBOARD


def test_the_services_find_each_other_at_the_ports_they_listen_on() -> None:
    [scrape] = PROMETHEUS["scrape_configs"]
    [static] = scrape["static_configs"]
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    port = re.search(r"^EXPOSE (\d+)$", dockerfile, flags=re.MULTILINE)
    assert port is not None
    assert static["targets"] == [f"windowcast:{port[1]}"]
    provisioning = host_path("grafana", "/etc/grafana/provisioning")
    [source] = read_yaml(next((provisioning / "datasources").glob("*.yml")))["datasources"]
    assert source["url"] == "http://prometheus:9090"
    published = {name: service["ports"] for name, service in COMPOSE["services"].items()}
    assert published == {
        "windowcast": [f"127.0.0.1:{port[1]}:{port[1]}"],
        "prometheus": ["127.0.0.1:9090:9090"],
        "grafana": ["127.0.0.1:3000:3000"],
    }


def test_the_models_are_mounted_where_the_image_has_its_own_and_cannot_be_written() -> None:
    [models, *others] = COMPOSE["services"]["windowcast"]["volumes"]
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    folder = re.search(r"WINDOWCAST_MODELS_DIR=(\S+)", dockerfile)
    assert folder is not None
    assert (models, others) == (f"${{MODELS:-models}}:{folder[1]}:ro", [])


def test_orphans_in_a_container_are_reaped() -> None:
    assert COMPOSE["services"]["windowcast"]["init"] is True
    commands = [command for page in PAGES for command in commands_of(page) if "docker run" in command]
    assert commands
    assert [command for command in commands if "docker run --init " not in command] == []


def test_images_from_elsewhere_are_pinned() -> None:
    services = COMPOSE["services"]
    assert (DEPLOY / services["windowcast"]["build"] / "Dockerfile").samefile(ROOT / "Dockerfile")
    for name in ("prometheus", "grafana"):
        assert re.fullmatch(r"[\w/]+:v?\d+\.\d+\.\d+", services[name]["image"]), name


def test_anybody_may_look_at_grafana_and_nobody_knows_its_password() -> None:
    grafana = COMPOSE["services"]["grafana"]
    assert grafana["environment"]["GF_AUTH_ANONYMOUS_ENABLED"] == "true"
    assert grafana["environment"]["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert "GF_SECURITY_ADMIN_PASSWORD" not in grafana["environment"]
    assert password_of_grafana("our own") == "our own"
    first, second = password_of_grafana(""), password_of_grafana("")
    assert len(first) == len(second) == 32
    assert first != second


def password_of_grafana(given: str) -> str:
    """What Grafana's container is started with, as far as a shell can tell without the container."""
    grafana = COMPOSE["services"]["grafana"]
    [(variable, _)] = [item for item in grafana["environment"].items() if item[1] == "${GRAFANA_ADMIN_PASSWORD:-}"]
    command = [word.replace("$$", "$") for word in grafana["entrypoint"]]
    assert command[-1].endswith("; exec /run.sh")
    command[-1] = command[-1].replace("exec /run.sh", 'printf %s "$GF_SECURITY_ADMIN_PASSWORD"')
    run = subprocess.run(command, env={**os.environ, variable: given}, capture_output=True, text=True, check=True)
    return run.stdout
