"""The documentation: it builds, its links lead somewhere, it loads nothing from elsewhere, and nothing is left out.

The reference is written from the code, so these tests read the pages as people do, in the built site.
"""

import html
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest
import typer
from prometheus_client.metrics import MetricWrapperBase

from app.errors import ServiceError, SettingsError, VersionError
from app.serving.states import State
from app.settings import MOVED, PREFIX, Settings
from app.telemetry import metrics
from app.telemetry.metrics import Outcome
from app.version.manifest import Record
from tests.pages import CONTRIBUTING, DOCS, PAGES, README, commands_of, name_of, text_of
from tests.servers import ROOT, environment
from training.cli.commands import app as training_commands
from training.config import TrainingConfig
from training.errors import TrainingError

Error = TypeVar("Error", bound=Exception)

FOREIGN = re.compile(
    r"(?:<(?:script|img|iframe)[^>]+src=|<link[^>]+href=|url\(|@import )[\"']?(?:https?:)?//",
)
LINK = re.compile(r"\[[^]]+\]\(([^)#\s]*)(?:#([^)\s]+))?\)")
GENERATED = ["settings", "commands", "http", "errors", "exit-codes", "metrics", "manifest"]
COMMANDS = typer.main.get_command(training_commands).commands  # type: ignore[attr-defined]
NATIVE_BODIES = (
    *(
        "WindowRequest",
        "BatchRequest",
        "ForecastResponse",
        "BatchResponse",
        "Problem",
        "ProblemError",
        "Status",
        "Health",
    ),
    *("ModelDescription", "ModelList", "ModelState", "VersionState", "Policy", "Contract", "Score", "DataFingerprint"),
)
MAKEFILE = text_of(ROOT / "Makefile")
OTHER_OPTIONS = {
    "--config",
    "--help",
    "--read-only",  # docker's
    "--volumes",  # docker compose's
    "--target",  # ours, and docker's
}


def build(site: Path, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Builds the site of a folder as `make docs` does. Settings of the machine must not reach the pages."""
    [command] = re.findall(r"\$\(BIN\)/python (-m mkdocs build .+)", MAKEFILE)
    return subprocess.run(
        [sys.executable, *command.split(), "--site-dir", site],
        cwd=folder,
        env=environment(NO_MKDOCS_2_WARNING=1, WINDOWCAST_DOCS=0),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    result = build(folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def page_of(site: Path, source: Path) -> str:
    """The built page of a source in `docs/`."""
    relative = source.relative_to(DOCS).with_suffix("")
    folder = relative.parent if relative.name == "README" else relative
    return (site / folder / "index.html").read_text(encoding="utf-8")


def reference(site: Path, name: str) -> str:
    """The text of a reference page, as people read it."""
    page = page_of(site, DOCS / f"reference/{name}.md")
    article = page.partition("<article")[2].partition("</article>")[0]
    text = re.sub(r"<[^>]+>", " ", re.sub(r"</?(?:a|code|em|strong)\b[^>]*>", "", article))
    return " ".join(html.unescape(text).split())


def rows_of(site: Path, name: str, section: str = "") -> list[list[str]]:
    """The rows of the tables on a reference page, or in one section of it, cell by cell."""
    page = page_of(site, DOCS / f"reference/{name}.md")
    if section:
        page = re.split(r"<h[23]", page.partition(f'id="{section.lower()}"')[2])[0]
    rows = re.findall(r"<tr>(.*?)</tr>", page, flags=re.DOTALL)
    cells = (re.findall(r"<td[^>]*>(.*?)</td>", row, flags=re.DOTALL) for row in rows)
    return [[html.unescape(re.sub(r"<[^>]+>", "", cell)).strip() for cell in row] for row in cells if row]


def shown(text: str | None) -> str:
    """A docstring as the site shows it."""
    return " ".join(re.sub(r"`", "", text or "").split())


def described(rows: list[list[str]], name: str) -> set[str]:
    """What a table says of a name, which it must say: the last cells of its rows."""
    texts = {row[-1] for row in rows if row[0] == name}
    assert texts, f"{name} is missing"
    assert all(len(text) > 3 for text in texts), f"{name} is not described"
    return texts


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    files = [path for kind in ("html", "css") for path in site.rglob(f"*.{kind}")]
    assert len(files) > len(PAGES) - 2
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert not FOREIGN.search(text), path
        assert 'class="mermaid"' not in text, f"{path}: the theme loads mermaid from elsewhere"


def test_a_page_that_loads_from_elsewhere_would_be_found() -> None:
    for text in (
        '<script src="https://a.b/c.js">',
        '<link rel="stylesheet" href="//a.b/c.css">',
        "src: url(https://a.b/c.woff2)",
        '<img alt="" src=http://a.b/c.png>',
    ):
        assert FOREIGN.search(text), text
    assert not FOREIGN.search('<a href="https://a.b/">')


def test_a_link_or_an_anchor_that_leads_nowhere_fails_the_build(tmp_path: Path) -> None:
    """The settings of the build are tried on a site of one page."""
    validation = text_of(ROOT / "mkdocs.yml").partition("validation:")[2]
    (tmp_path / "docs").mkdir()
    (tmp_path / "mkdocs.yml").write_text(f"site_name: one\nvalidation:{validation}", encoding="utf-8")
    for text, code in (("# Here\n", 0), ("[a](missing.md)\n", 1), ("[a](#missing)\n", 1), ("[a](/missing)\n", 1)):
        (tmp_path / "docs/index.md").write_text(text, encoding="utf-8")
        assert build(tmp_path / "site", tmp_path).returncode == code, text


@pytest.mark.parametrize("page", [README, CONTRIBUTING], ids=name_of)
def test_links_from_outside_the_site_lead_somewhere(page: Path, site: Path) -> None:
    for target, anchor in LINK.findall(text_of(page)):
        path = page.parent / target if target else page
        assert path.exists(), target
        if anchor and path.is_relative_to(DOCS):
            assert f'id="{anchor}"' in page_of(site, path), f"{target}#{anchor}"
        elif anchor:
            headings = re.findall(r"^#+ (.+)$", text_of(path), flags=re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_every_decision_is_in_the_list(site: Path) -> None:
    page = page_of(site, DOCS / "decisions/README.md")
    decisions = sorted((DOCS / "decisions").glob("0*.md"))
    assert decisions
    for decision in decisions:
        assert f"../decisions/{decision.stem}/" in page or f'"{decision.stem}/"' in page, decision


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_page_has_no_mark_left(name: str, site: Path) -> None:
    assert "generated:" in text_of(DOCS / f"reference/{name}.md")
    assert "<!-- generated" not in page_of(site, DOCS / f"reference/{name}.md")


def test_every_setting_is_in_the_reference_with_its_default_and_its_meaning(site: Path) -> None:
    rows = rows_of(site, "settings")
    for name, setting in Settings.model_fields.items():
        default = "" if setting.default in {"", None} else str(setting.default)
        [(takes, given, text)] = [tuple(row[1:]) for row in rows if row[0] == f"{PREFIX}{name.upper()}"]
        assert takes, name
        assert given == default, name
        assert text == shown(setting.description), name
        assert text, name


def test_every_setting_that_moved_is_in_the_reference(site: Path) -> None:
    rows = rows_of(site, "settings")
    for before, now in MOVED.items():
        assert described(rows, before) == {now}


def test_every_command_and_every_option_of_training_is_in_the_reference(site: Path) -> None:
    text, rows = reference(site, "commands"), rows_of(site, "commands")
    for name, command in COMMANDS.items():
        assert f"python -m training {name}" in text
        assert shown(command.help) in text
        for parameter in command.params:
            if parameter.param_type_name == "option":
                names = ", ".join([*parameter.opts, *parameter.secondary_opts])
                help_texts = {text.partition(" Default: ")[0] for text in described(rows, names)}
                assert shown(parameter.help).partition(" Default: ")[0] in help_texts, f"{name} {names}"


def test_every_answer_that_is_an_error_is_in_the_reference_with_when_it_happens(site: Path) -> None:
    rows = {row[2]: row for row in rows_of(site, "errors") if len(row) == 4}
    errors = list(family(ServiceError))
    assert len(errors) == len(rows)
    for error in errors:
        status, title, _, text = rows[f"urn:windowcast:{error.slug}"]
        when = shown(first_paragraph(error.__doc__))
        assert [status, title] == [str(error.status.value), error.title]
        assert when, error
        assert text.startswith(when), error


@pytest.mark.parametrize("base", [VersionError, SettingsError, TrainingError])
def test_every_other_error_is_in_the_reference_with_when_it_happens(base: type[Exception], site: Path) -> None:
    rows = rows_of(site, "errors")
    for error in (base, *family(base)):
        if error is not TrainingError:
            assert described(rows, error.__name__) == {shown(first_paragraph(error.__doc__))}


def family(base: type[Error]) -> Iterator[type[Error]]:
    """The errors that descend from one, in the module in which it stands."""
    module = sys.modules[base.__module__]
    return (each for each in vars(module).values() if isinstance(each, type) and base in each.__mro__[1:])


def first_paragraph(text: str | None) -> str:
    return (text or "").partition("\n\n")[0]


def test_every_exit_code_is_in_the_reference(site: Path) -> None:
    rows = rows_of(site, "exit-codes")

    programs = {"app": ["0", "2", "3"], "app.healthcheck": ["0", "1"], "training": ["0", "1", "2", "130"]}
    assert [row[0] for row in rows] == [code for codes in programs.values() for code in codes]
    assert all(f"python -m {program}" in reference(site, "exit-codes") for program in programs)
    assert all(len(row[1]) > 3 for row in rows)


def test_every_metric_is_in_the_reference_with_its_labels_and_its_meaning(site: Path) -> None:
    rows = rows_of(site, "metrics")
    counted = [each for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)]
    assert counted
    for metric in counted:
        [described] = metric.describe()
        name = f"{described.name}_total" if described.type == "counter" else described.name
        labels = ", ".join(metric._labelnames)
        assert [name, described.type, labels, shown(described.documentation)] in rows
        assert described.documentation


@pytest.mark.parametrize("enum", [Outcome, State])
def test_every_value_of_a_label_is_in_the_reference_with_its_meaning(enum: type[Outcome | State], site: Path) -> None:
    rows = rows_of(site, "metrics")
    for member in enum:
        assert described(rows, member.value)


def test_every_field_of_a_manifest_is_in_the_reference_with_its_meaning(site: Path) -> None:
    rows = rows_of(site, "manifest")
    for record in Record.__subclasses__():
        for name, entry in record.model_fields.items():
            assert shown(first_paragraph(entry.description)) in described(rows, name), f"{record.__name__}.{name}"


@pytest.mark.parametrize(
    "route",
    [
        "POST /predict",
        "POST /predict/batch",
        "GET /models",
        "GET /models/{name}/example",
        "POST /v1/models/{model}:predict",
        "POST /v1/models/{model}/labels/{label}:predict",
        "GET /v1/models/{model}/metadata",
        "POST /v2/models/{model}/infer",
        "GET /v2/health/ready",
        "POST /v2/repository/index",
        "GET /livez",
        "GET /readyz",
        "GET /healthz",
        "GET /metrics",
        "PUT /admin/models/{name}/policy",
        "DELETE /admin/models/{name}/labels/{label}",
        "POST /admin/refresh",
    ],
)
def test_every_kind_of_route_is_in_the_reference_with_what_it_does(route: str, site: Path) -> None:
    [text] = [row[1] for row in rows_of(site, "http") if row[0] == route]
    assert len(text) > 10


@pytest.mark.parametrize("body", NATIVE_BODIES)
def test_every_field_of_a_native_body_is_in_the_reference_with_its_meaning(body: str, site: Path) -> None:
    rows = rows_of(site, "http", body)
    assert rows
    for row in rows:
        assert row[-1] not in {"", "yes"}, row
        assert described(rows, row[0])


def test_no_variable_is_named_that_is_no_setting() -> None:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    kubernetes = {f"{PREFIX}SERVICE_HOST"}
    for page in PAGES:
        assert set(re.findall(rf"{PREFIX}[A-Z_]+", text_of(page))) <= known | kubernetes, page


def test_every_option_that_is_named_exists() -> None:
    options = {
        option for command in COMMANDS.values() for each in command.params for option in each.opts + each.secondary_opts
    }
    options |= {f"--{name.replace('_', '-')}" for name in TrainingConfig.model_fields} | OTHER_OPTIONS
    for page in PAGES:
        if "decisions" not in page.parts:
            code = re.findall(r"`(--[a-z-]+)[^`]*`", text_of(page))
            typed = re.findall(r"(?<= )--[a-z-]+", "\n".join(c for c in commands_of(page) if "-m training" in c))
            assert {*code, *typed} <= options, page


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, flags=re.MULTILINE))
    for page in PAGES:
        named = re.findall(r"(?:`|^\$ (?:\w+=\S+ )*)make ([a-z-]+)", text_of(page), flags=re.MULTILINE)
        assert set(named) <= targets, page


def test_make_test_builds_the_documentation() -> None:
    [needed] = re.findall(r"^test: (.+) ##", MAKEFILE, flags=re.MULTILINE)

    assert {"docs", "tests"} <= set(needed.split())


def test_every_docker_target_that_is_named_exists() -> None:
    stages = re.findall(r"^FROM \S+ AS (\S+)$", text_of(ROOT / "Dockerfile"), flags=re.MULTILINE)
    named = {name for page in PAGES for name in re.findall(r"docker build --target (\S+)", text_of(page))}

    assert stages[-1] == "full"
    assert named == {"slim"} < set(stages)


def test_every_file_and_folder_that_a_page_names_exists() -> None:
    for page in PAGES:
        for name in re.findall(r"`((?:app|training|tests|tools|examples|benchmarks|deploy)/[\w./-]*)`", text_of(page)):
            assert "NAME" in name or (ROOT / name).exists(), f"{name_of(page)}: {name}"


def test_every_test_that_a_page_names_exists() -> None:
    named = {name for page in PAGES for name in re.findall(r"`(tests/[\w/]+\.py::\w+)`", text_of(page))}

    assert len(named) >= 40
    for name in named:
        file, _, function = name.partition("::")
        assert re.search(rf"^(?:async )?def {function}\(", text_of(ROOT / file), re.MULTILINE), name


def test_every_promise_of_reliability_has_a_test_or_says_that_it_is_not_built() -> None:
    promises = re.split(r"^- \*\*R(\d+)\*\* ", text_of(DOCS / "explanation" / "reliability.md"), flags=re.MULTILINE)[1:]

    assert [int(number) for number in promises[::2]] == list(range(1, 41))
    for promise in promises[1::2]:
        assert "`tests/" in promise or "Not built" in promise
