"""The reference pages' tables: settings, commands, errors, exit codes, metrics and manifest, each from its code."""

import ast
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from itertools import pairwise
from types import ModuleType
from typing import Any

import typer
from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel

import app.__main__
import app.errors
import app.healthcheck
import training.__main__
import training.errors
from app.errors import ServiceError
from app.serving.states import State
from app.settings import MOVED, PREFIX, Settings
from app.telemetry import metrics
from app.telemetry.metrics import Outcome
from app.version import manifest
from tools.docs.tables import code, either, first_paragraph, table, type_in_words
from training.cli.commands import app as commands
from training.config import TrainingConfig
from training.errors import TrainingError

SHARED_OPTIONS = {"config", *TrainingConfig.model_fields}
"""Options that `train` has, and every command that takes the options of `train`."""
COUNTER_SUFFIX = "_total"


def settings() -> str:
    """Returns the table of the service's settings."""
    properties = Settings.model_json_schema()["properties"]
    rows = (
        (code(f"{PREFIX}{name.upper()}"), type_in_words(schema), code(schema.get("default")), schema["description"])
        for name, schema in properties.items()
    )
    return table(("variable", "takes", "default", "what it does"), rows)


def moved_settings() -> str:
    """Returns the table of settings that have another name now."""
    return table(("before", "now"), ((code(before), code(now)) for before, now in MOVED.items()))


def training_commands() -> str:
    """Returns a section for each command of `python -m training`, with its arguments and options."""
    group: Any = typer.main.get_command(commands)
    return "\n\n".join(_command(name, command) for name, command in group.commands.items())


def _command(name: str, command: Any) -> str:
    parts = [f"## {name}", f"`python -m training {name}{_usage(command)}`", command.help]
    own = [each for each in command.params if name == "train" or each.name not in SHARED_OPTIONS]
    if command.params != own and len(command.params) - len(own) == len(SHARED_OPTIONS):
        parts.append(
            "Takes the [options of `train`](#train), and:" if own else "Takes the [options of `train`](#train)."
        )
    elif name != "train":
        own = command.params
    for panel in dict.fromkeys(each.rich_help_panel for each in own):
        title = [f"### {panel}"] if panel else []
        rows = (_parameter(each) for each in own if each.rich_help_panel == panel)
        parts += [*title, table(("option", "takes", "what it does"), rows)]
    return "\n\n".join(parts)


def _usage(command: Any) -> str:
    arguments = "".join(f" {each.metavar}" for each in command.params if each.param_type_name == "argument")
    return arguments + (" [OPTIONS]" if any(each.param_type_name == "option" for each in command.params) else "")


def _parameter(parameter: Any) -> tuple[str, str, str]:
    is_argument = parameter.param_type_name == "argument"
    names = parameter.metavar.strip("[]") if is_argument else ", ".join([*parameter.opts, *parameter.secondary_opts])
    takes = "" if is_argument or not parameter.metavar else either(parameter.metavar.split("|"))
    default = f" Default: {parameter.default}." if parameter.show_default and parameter.default is not None else ""
    return code(names), takes, f"{parameter.help}{default}"


def service_errors() -> str:
    """Returns the table of the errors that a request can be answered with, by status."""
    errors = sorted(_family(ServiceError, app.errors), key=lambda error: error.status)
    rows = (
        (str(error.status.value), error.title, code(f"urn:windowcast:{error.slug}"), _meaning(error))
        for error in errors
    )
    return table(("status", "title", "type", "when"), rows)


def _meaning(error: type[ServiceError]) -> str:
    headers = f" Sent with {either(list(error.headers))}." if error.headers else ""
    return first_paragraph(error.__doc__) + headers


def version_errors() -> str:
    """Returns the table of what keeps a version from serving, or the service from starting."""
    return _errors(error for error in _family(Exception, app.errors) if not issubclass(error, ServiceError))


def training_errors() -> str:
    """Returns the table of the mistakes that `training` tells in one sentence."""
    return _errors(_family(TrainingError, training.errors))


def _errors(errors: Iterable[type[Exception]]) -> str:
    return table(("error", "when"), ((code(error.__name__), first_paragraph(error.__doc__)) for error in errors))


def _family(base: type[Any], module: ModuleType) -> Iterator[type[Any]]:
    """The classes of a module that descend from a base, in the order in which they are written."""
    return (each for each in vars(module).values() if isinstance(each, type) and base in each.__mro__[1:])


def exit_codes() -> str:
    """Returns the tables of exit codes, from the docstring of each program's `main`."""
    programs = {"app": app.__main__, "app.healthcheck": app.healthcheck, "training": training.__main__}
    return "\n\n".join(
        f"## python -m {name}\n\n{table(('exit code', 'when'), _codes(program.main))}"
        for name, program in programs.items()
    )


def _codes(main: Callable[[], None]) -> list[tuple[str, str]]:
    """The lines `number: when` under `Exit codes:`."""
    section = (inspect.getdoc(main) or "").partition("Exit codes:\n")[2]
    codes = re.findall(r"^ +(\d+): (.+(?:\n {8}.+)*)$", section, flags=re.MULTILINE)
    if not codes:
        raise ValueError(f"the docstring of {main.__module__}.{main.__name__} lists no exit codes")
    return codes


def service_metrics() -> str:
    """Returns the table of metrics that the service itself counts."""
    rows = (_metric(each) for each in vars(metrics).values() if isinstance(each, MetricWrapperBase))
    return table(("metric", "type", "labels", "meaning"), rows)


def _metric(metric: MetricWrapperBase) -> tuple[str, str, str, str]:
    [described] = metric.describe()
    name = described.name + (COUNTER_SUFFIX if described.type == "counter" else "")
    return code(name), described.type, either(metric._labelnames), described.documentation  # noqa: SLF001 (no other way)


def outcomes() -> str:
    """Returns the table of outcomes of a request, which are values of the label `outcome`."""
    return _members("outcome", Outcome)


def states() -> str:
    """Returns the table of a version's states, which are values of the label `state`."""
    return _members("state", State)


def _members(title: str, enum: type[StrEnum]) -> str:
    remarks = _remarks(enum)
    return table((title, "meaning"), ((code(member.value), remarks[member.name]) for member in enum))


def _remarks(enum: type[StrEnum]) -> dict[str, str]:
    """The docstring under each member, which Python itself does not keep."""
    statements = [node for node in ast.walk(ast.parse(inspect.getsource(enum))) if isinstance(node, ast.stmt)]
    remarks: dict[str, str] = {}
    for statement, after in pairwise(statements):
        match statement, after:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str(text))):
                remarks[name] = text
    return remarks


def manifest_fields() -> str:
    """Returns a section for the manifest and for each kind of record in it."""
    records = (each for each in vars(manifest).values() if isinstance(each, type) and issubclass(each, manifest.Record))
    ordered = sorted(
        (each for each in records if each is not manifest.Record), key=lambda each: each is not manifest.Manifest
    )
    return "\n\n".join(_record(record) for record in ordered)


def _record(record: type[BaseModel]) -> str:
    schema = record.model_json_schema()
    required = schema.get("required", ())
    rows = (
        (code(name), type_in_words(field), "yes" if name in required else "", first_paragraph(field.get("description")))
        for name, field in schema["properties"].items()
    )
    fields = table(("field", "type", "always there", "meaning"), rows)
    return f"## {record.__name__}\n\n{inspect.getdoc(record)}\n\n{fields}"
