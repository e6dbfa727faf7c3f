"""What commands take: one option for each field of `TrainingConfig`, and the paths that several commands share."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from training.config import TrainingConfig, read_config, shown

PANELS = {"data": "Data", "window": "Windows", "cell": "Model", "loss": "Fitting", "name": "Version"}
"""The first field of each group of the configuration, and the heading that it starts in `train --help`."""

ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="TOML file with any of the options below as keys.")
]
VersionPath = Annotated[Path, typer.Argument(metavar="PATH", help="Folder of a version, for example models/default/1.")]

_METAVARS = {
    "data": "FILE",
    "target": "COL[,COL]",
    "features": "COL[,COL]",
    "known": "COL[,COL]",
    "calendar": "auto|none|NAME[,NAME]",
    "time": "COL",
    "measured_in": "COL=UNIT",
    "split": "N,N[,N]",
    "units": "N[,N]|auto",
    "learning_rate": "NUMBER|auto",
    "budget": "SECONDS|none",
    "tensorboard": "DIR",
    "name": "NAME",
    "models_dir": "DIR",
}


def takes_config(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command one option for each field of `TrainingConfig`, so that each field is described in one place.

    `--help` lists `--config` first, then the command's own options, which are its keyword-only parameters.
    """
    parameters = [_keyword("config", ConfigFile), *_own_options(command)]
    panel = ""
    for name in TrainingConfig.model_fields:
        panel = PANELS.get(name, panel)
        parameters.append(_keyword(name, _option(name, panel)))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


def read_options(config: Path | None, options: Mapping[str, Any]) -> TrainingConfig:
    """Makes the configuration of a command: options beat the file, the file beats the defaults.

    Args:
        config: The `--config` file, or None.
        options: Value of each field's option; None where the option was not given.

    Raises:
        ConfigError: The file cannot be read, or a value cannot be used.
    """
    return read_config(config, {name: value for name, value in options.items() if value is not None})


def _own_options(command: Callable[..., None]) -> list[inspect.Parameter]:
    parameters = inspect.signature(command).parameters.values()
    return [parameter for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]


def _keyword(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _option(name: str, panel: str) -> Any:
    field = TrainingConfig.model_fields[name]
    is_switch = field.annotation in (bool, bool | None)
    flag = name.replace("_", "-")
    default = f" Default: {shown(field.default)}." if field.default not in (None, (), {}) else ""
    option = typer.Option(
        f"--{flag}/--no-{flag}" if is_switch else f"--{flag}",
        help=" ".join((field.description or "").split()) + default,
        metavar="" if is_switch else _metavar(name, field.annotation),
        rich_help_panel=panel,
        show_default=False,
    )
    return Annotated[bool | None if is_switch else str | None, option]


def _metavar(name: str, annotation: Any) -> str:
    """Shows what the value of an option looks like: its choices where there are some."""
    choices = [get_args(part) for part in (annotation, *get_args(annotation)) if get_origin(part) is Literal]
    return _METAVARS.get(name) or ("|".join(choices[0]) if choices else "NUMBER")
