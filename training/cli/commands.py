"""`python -m training`: train, inspect, verify and fuse versions; find rates, compare networks, run reference tasks."""

import inspect as signatures
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.engines.engine import EngineName
from app.errors import VersionError
from app.version.golden import Golden
from app.version.manifest import Manifest, Score
from training.config import ReferenceTask, TrainingConfig, read_config, shown
from training.console import note, tell
from training.data.prepare import prepare
from training.data.windows import Dataset
from training.errors import ConfigError, TrainingError
from training.network.outline import Task, keras_layers, shape_table, table_titles, torch_layers

if TYPE_CHECKING:
    from training.fitting.learning_rate import Sweep

USAGE_ERROR = 2
INTERRUPTED = 130
NOTHING_EXPORTED = "nothing was exported"
SWEEP_LINE = 20
"""Steps of a sweep from one line of its table to the next."""

app = typer.Typer(
    help="Turns a table of numbers into a model version that `python -m app` serves.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
console = Console()
error_console = Console(stderr=True)

PANELS = {"data": "Data", "window": "Windows", "cell": "Model", "loss": "Fitting", "name": "Version"}
"""The first field of each group of the configuration, and the heading it starts in `train --help`."""

ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="TOML file with any of the options below as keys.")
]
VersionPath = Annotated[Path, typer.Argument(metavar="PATH", help="Folder of a version, for example models/default/1.")]


def _takes_config(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command one option per field of `TrainingConfig`, so that each is described in one place.

    The command's own options, which it takes by keyword only, come first.
    """
    own = [each for each in signatures.signature(command).parameters.values() if each.kind is each.KEYWORD_ONLY]
    parameters = [
        signatures.Parameter("config", signatures.Parameter.KEYWORD_ONLY, default=None, annotation=ConfigFile),
        *own,
    ]
    panel = ""
    for name, field in TrainingConfig.model_fields.items():
        panel = PANELS.get(name, panel)
        option = _option(name, field.annotation, panel)
        parameters.append(
            signatures.Parameter(name, signatures.Parameter.KEYWORD_ONLY, default=None, annotation=option)
        )
    command.__signature__ = signatures.Signature(parameters)  # type: ignore[attr-defined]
    return command


def _option(name: str, annotation: Any, panel: str) -> Any:
    field = TrainingConfig.model_fields[name]
    is_switch = annotation is bool
    flag = name.replace("_", "-")
    default = f" Default: {shown(field.default)}." if field.default not in (None, (), {}) else ""
    option = typer.Option(
        f"--{flag}/--no-{flag}" if is_switch else f"--{flag}",
        help=" ".join((field.description or "").split()) + default,
        metavar="" if is_switch else _metavar(name, annotation),
        rich_help_panel=panel,
        show_default=False,
    )
    return Annotated[bool | None if is_switch else str | None, option]


def _metavar(name: str, annotation: Any) -> str:
    """What the option's value looks like, from the type of its field."""
    if name == "learning_rate":
        return "NUMBER|auto"
    choices = [get_args(part) for part in (annotation, *get_args(annotation)) if get_origin(part) is Literal]
    if choices:
        return "|".join(choices[0])
    known = {"target": "COL[,COL]", "features": "COL[,COL]", "time": "COL", "measured_in": "COL=UNIT", "data": "FILE"}
    known |= {"units": "N[,N]", "split": "N,N[,N]", "models_dir": "DIR", "name": "NAME", "tensorboard": "DIR"}
    return known.get(name, "NUMBER")


@app.command()
@_takes_config
def train(config: Path | None, **options: Any) -> None:
    """Trains a model on a series and publishes it as the next version of its name.

    Options beat the --config file; the file beats the defaults.
    """
    settings, dataset = _prepared(config, options)
    # TensorFlow takes seconds to import; `--help` and a mistake in the options or the data should not.
    from training.train import train as run  # noqa: PLC0415

    with _clearing_away_on_ctrl_c() as published:
        outcome = run(settings, dataset, console)
        published.append(outcome.version_dir)
        console.print(_score_table(outcome.scores))
        tell(console, outcome.verdict)
        _say_why_no_twin(Manifest.read(outcome.version_dir))
        tell(console, f"Version: {outcome.version_dir}")


@app.command("find-lr")
@_takes_config
def find_lr(
    config: Path | None,
    *,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw loss against rate, on a logarithmic axis.")
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="Write the rate into this configuration file; the rest of it stays."),
    ] = None,
    **options: Any,
) -> None:
    """Finds a learning rate: trains a throw-away model at rising rates and picks one.

    Takes the options of train; nothing is published. `train --learning-rate auto` does the same and goes on.
    """
    settings, dataset = _prepared(config, options)
    if plot:
        _require_drawable(plot)
    from training.fitting.examine import examine  # noqa: PLC0415
    from training.fitting.learning_rate import read_settings, sweep, write_rate  # noqa: PLC0415

    if write:
        read_settings(write)
    for finding in examine(settings, dataset):
        note(console, finding.sentence)
    found = sweep(settings, dataset)
    console.print(_sweep_table(found))
    tell(console, f"--learning-rate {found.chosen:g}: {found.reason}")
    if plot:
        _draw(found, plot)
    if write:
        write_rate(write, found.chosen)


def _require_drawable(plot: Path) -> None:
    """Refuses what no figure can be written to: told before the work, not after."""
    if not plot.parent.is_dir():
        raise ConfigError(f"{plot}: there is no folder {plot.parent}; make it first.")
    if plot.suffix.lower() != ".png" or plot.is_dir():
        raise ConfigError(f"--plot {plot} is no PNG file; give one such as sweep.png.")


@app.command()
def inspect(path: VersionPath) -> None:
    """Shows what a version says about itself."""
    manifest = Manifest.read(path)
    console.print(_manifest_table(manifest))
    if manifest.scores:
        console.print(_score_table(manifest.scores))
    tell(console, manifest.verdict)


@app.command()
def fuse(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="Folder of a version, or of a SavedModel from elsewhere.")
    ],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the model; that of the version, or of the folder.")
    ] = None,
    models_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder that holds the models; that of the version, or models.")
    ] = None,
) -> None:
    """Publishes a model again, with a fused twin that is served many times faster.

    PATH is a version that was exported without one, or a SavedModel of LSTM, GRU or SimpleRNN layers and one Dense
    layer that Keras wrote. The twin is published only if it computes what the SavedModel does.
    """
    from training.publishing.fuse import fuse as run  # noqa: PLC0415

    with _clearing_away_on_ctrl_c() as published:
        published.append(run(path, name, models_dir))
        tell(console, f"Version: {published[0]}")


@app.command()
def verify(path: VersionPath) -> None:
    """Proves a version: the checksums of its files, and its golden rows computed anew by every engine it has.

    Exits with 1 on a mismatch.
    """
    manifest = Manifest.read(path)
    manifest.verify_files(path)
    golden = Golden.load(path)
    from app.engines.choice import load_engine  # noqa: PLC0415

    engines: list[EngineName] = ["tensorflow", "onnx"] if manifest.has_twin else ["tensorflow"]
    for engine in engines:
        load_engine(engine, path, manifest, golden, max_windows=len(golden.windows), threads=1)
    tell(
        console,
        f"{path} is sound: {len(manifest.files)} files match their checksums, "
        f"{len(golden.windows)} golden rows come out as recorded by the engines {' and '.join(engines)}.",
    )
    _say_why_no_twin(manifest)


@app.command()
@_takes_config
def compare(
    config: Path | None,
    *,
    seeds: Annotated[int, typer.Option(metavar="NUMBER", min=1, help="Fits of each network.")] = 3,
    results: Annotated[Path, typer.Option(metavar="DIR", help="Where the table and the plot go.")] = Path("comparison"),
    **options: Any,
) -> None:
    """Compares SimpleRNN, GRU, LSTM and bidirectional LSTM in one to three layers on one task.

    Takes the options of `train`, and publishes nothing. --units gives the cells of each layer, the last number those of
    all further ones; --cell and --bidirectional mean nothing here.
    """
    settings, dataset = _prepared(config, options)
    from training.studies.compare import compare as run  # noqa: PLC0415

    with _clearing_away_on_ctrl_c():
        console.print(run(settings, dataset, seeds, results, console))
        tell(console, f"Table and plot: {results}")


@app.command()
@_takes_config
def shapes(config: Path | None, **options: Any) -> None:
    """Shows the shapes of a network layer by layer, in Keras' and in PyTorch's words: outputs, states, parameters.

    Takes the options of `train`, trains nothing, and reads no file.
    """
    settings = _configured(config, options)
    task = Task.of(settings)
    for title, layers in zip(table_titles(settings), (keras_layers, torch_layers), strict=True):
        console.print(shape_table(title, layers(settings, task)))


@app.command()
def reference(
    task: Annotated[
        ReferenceTask | None,
        typer.Argument(metavar="[TASK]", help="lesson, exercise, multiplication or sunspots; all unless given."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, metavar="NUMBER", help="Networks to train for each figure.")] = 5,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="CSV file of monthly sunspots, columns month (1749-01) and sunspots; the sunspots task needs it.",
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the figures there too, as JSON.")] = None,
) -> None:
    """Runs the reference tasks and shows how good the forecasts are.

    Each task is run by its own protocol over several seeds; its table has what others published, the baselines, the
    floor where it is known, and our mean, standard deviation and worst seed. Without TASK all are run, sunspots only
    with --data.
    """
    from training.studies import reference as tasks  # noqa: PLC0415

    names = [task] if task else [name for name in tasks.TASKS if name != "sunspots" or data]
    chosen = [tasks.TASKS[name] for name in names]
    if not task and not data:
        note(console, "sunspots is left out, because it needs --data FILE")
    results: list[tasks.Result] = []

    def leave(*_: object) -> None:
        done = f"{len(results)} of {len(chosen)} task{'s are' if len(chosen) > 1 else ' is'} done"
        _leave_at_once(f"{done} and stand in {output}" if output and results else done)

    signal.signal(signal.SIGINT, leave)
    if output:
        tasks.require_writable(output)  # told now, and not in an hour
    for result in tasks.run(chosen, seeds, data, console):
        if output:  # after each task, so that an interrupt loses only the one that runs
            tasks.write([*results, result], output)
        results.append(result)


@contextmanager
def _clearing_away_on_ctrl_c() -> Iterator[list[Path]]:
    """Ends the command after Ctrl-C with a word on what is published, which the caller puts into the list."""
    published: list[Path] = []
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # from here on there may be a folder to clear away
        yield published
    except KeyboardInterrupt as interrupt:
        state = f"the version is {published[0]}" if published else NOTHING_EXPORTED
        tell(error_console, f"Interrupted; {str(interrupt) or state}.")
        raise typer.Exit(INTERRUPTED) from None


def _configured(config: Path | None, options: dict[str, Any]) -> TrainingConfig:
    """The configuration of a command: the options that were given over the file over the defaults."""
    return read_config(config, {name: value for name, value in options.items() if value is not None})


def _prepared(config: Path | None, options: dict[str, Any]) -> tuple[TrainingConfig, Dataset]:
    """The same, and the data set it asks for, whose rows and notices are told."""
    settings = _configured(config, options)
    dataset = prepare(settings)
    _tell(dataset)
    return settings, dataset


def _tell(dataset: Dataset) -> None:
    data = dataset.provenance
    parts = f"{data.training_rows} to train, {data.validation_rows} to validate, {data.test_rows} to test"
    tell(console, f"{data.source}: {data.rows} rows, {parts}")
    for notice in data.notices:
        note(console, notice)


def _say_why_no_twin(manifest: Manifest) -> None:
    if not manifest.has_twin:
        note(console, f"no fused twin: {_why_no_twin(manifest)}; TensorFlow serves it")


def _why_no_twin(manifest: Manifest) -> str:
    return manifest.no_twin or "none was made; `python -m training fuse` makes one"


def _score_table(scores: tuple[Score, ...]) -> Table:
    table = Table(title="Test part", title_justify="left")
    several = any(score.target for score in scores)
    table.add_column("forecaster")
    if several:
        table.add_column("target")
    for error in ("MAE", "RMSE", "MASE", "sMAPE"):
        table.add_column(error, justify="right")
    for score in scores:
        names = (score.forecaster, Text(score.target or "")) if several else (score.forecaster,)
        errors = (score.mae, score.rmse, score.mase, score.smape)
        table.add_row(*names, *("" if error is None else f"{error:.4g}" for error in errors))
    return table


def _sweep_table(sweep: "Sweep") -> Table:
    """Two lines for every power of ten of the rate, and the last one."""
    table = Table(title="Learning-rate sweep", title_justify="left")
    for heading in ("rate", "loss", "smoothed"):
        table.add_column(heading, justify="right")
    rows = list(zip(sweep.rates, sweep.losses, sweep.smoothed, strict=True))
    for rate, loss, smoothed in [*rows[:-1:SWEEP_LINE], rows[-1]]:
        table.add_row(f"{rate:.1e}", f"{loss:.4g}", f"{smoothed:.4g}")
    if sweep.diverged_at is not None:
        table.caption = f"the loss left for good at {sweep.diverged_at:.2g}"
    return table


def _draw(sweep: "Sweep", path: Path) -> None:
    from training.reporting import canvas, plots  # noqa: PLC0415

    try:
        canvas.png(plots.sweep(sweep), path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}).") from None


def _manifest_table(manifest: Manifest) -> Table:
    table = Table(show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in _manifest_rows(manifest):
        table.add_row(name, Text(value))
    return table


def _manifest_rows(manifest: Manifest) -> Iterator[tuple[str, str]]:
    contract, data = manifest.contract, manifest.data
    yield "name", manifest.name
    yield "created", f"{manifest.created:%Y-%m-%d %H:%M:%S %Z}"
    apart = f", {contract.frequency} apart" if contract.frequency else ""
    yield "window", f"{contract.steps} steps{apart}, of {', '.join(contract.feature_names)}"
    for feature in contract.features:
        unit = f" {feature.unit}" if feature.unit else ""
        if feature.minimum is not None and feature.maximum is not None:
            yield "  feature", f"{feature.name}: {feature.minimum:g} to {feature.maximum:g}{unit} in training"
    yield "forecast", f"{contract.horizon} steps of {', '.join(contract.target_names)}"
    period = f", {data.first_time} to {data.last_time}" if data.first_time else ""
    if data.rows is None:
        yield "data", data.source
    else:
        yield "data", f"{data.source}: {data.rows} rows{period}"
        yield "", f"{data.training_rows} to train, {data.validation_rows} to validate, {data.test_rows} to test"
    for notice in data.notices:
        yield "", notice
    yield "versions", ", ".join(f"{package} {release}" for package, release in manifest.versions.items())
    settings = [f"{name}={_plain(value)}" for name, value in manifest.config.items() if not _is_blank(value)]
    if settings:
        yield "config", ", ".join(settings)
    yield "twin", "fused, for ONNX Runtime" if manifest.has_twin else f"none: {_why_no_twin(manifest)}"
    yield "files", f"{len(manifest.files)}, sha256 of each recorded"


def _is_blank(value: object) -> bool:
    """Whether a setting says nothing; a zero and an `off` do say something."""
    return value is None or value in ("", [], {})


def _plain(value: object) -> str:
    return shown(tuple(value)) if isinstance(value, list) else str(value)


def _leave_at_once(state: str) -> None:
    """Ends the process on Ctrl-C where there is nothing to clear away, with a word on what there is.

    An exception would not do: libraries swallow or rename one that strikes during their import.
    """
    os.write(2, f"Interrupted; {state}.\n".encode())
    os._exit(INTERRUPTED)


def main() -> None:
    """Runs a command; a user's mistake is told in one sentence, without a traceback.

    Exit codes: 0 done, 1 a version that does not prove sound, 2 a mistake in the options or the data, 130 interrupted.
    """
    signal.signal(signal.SIGINT, lambda *_: _leave_at_once(NOTHING_EXPORTED))
    try:
        app(standalone_mode=True)
    except TrainingError as error:
        error_console.print(str(error), style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(USAGE_ERROR)
    except VersionError as error:
        error_console.print(str(error), style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(1)
