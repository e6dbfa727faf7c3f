"""The commands of `python -m training`.

TensorFlow takes seconds to import. Commands import what needs it inside their functions, so that `--help` and mistakes
in the options or the data are told at once.
"""
# ruff: noqa: PLC0415

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from app.engines.engine import EngineName
from app.version.golden import Golden
from app.version.manifest import Manifest
from training.cli.options import ConfigFile, VersionPath, read_options, takes_config
from training.cli.tables import manifest_table, score_table, sweep_table, why_no_twin
from training.config import TrainingConfig, read_toml, write_setting
from training.console import note, tell
from training.data.prepare import prepare
from training.data.windows import Dataset
from training.errors import ConfigError
from training.interrupts import clearing_away
from training.network.outline import Task, keras_layers, shape_table, table_titles, torch_layers
from training.studies.tasks import TASKS, ReferenceTask
from training.writing import check_writable, write_whole

app = typer.Typer(
    help="Turns a table of numbers into a model version that `python -m app` serves.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
console = Console()


@app.command()
@takes_config
def train(config: ConfigFile, **options: Any) -> None:
    """Trains a model on a series and publishes it as the next version of its name.

    Options beat the --config file; the file beats the defaults.
    """
    settings = read_options(config, options)
    dataset = _prepare(settings)
    from training.train import train as run

    with clearing_away() as published:
        outcome = run(settings, dataset, console)
        published.append(outcome.version_dir)
        console.print(score_table(outcome.scores))
        tell(console, outcome.verdict)
        if outcome.warning:
            note(console, outcome.warning)
        _say_why_no_twin(Manifest.read(outcome.version_dir))
        tell(console, f"Version: {outcome.version_dir}")


@app.command("find-lr")
@takes_config
def find_lr(
    config: ConfigFile,
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
    settings = read_options(config, options)
    _check_outputs(plot, write)
    dataset = _prepare(settings)
    from training.fitting.examine import examine
    from training.fitting.learning_rate import sweep
    from training.network.start import settle_start

    for finding in examine(settings, dataset):
        note(console, finding.sentence)
    found = sweep(*settle_start(settings, dataset))
    console.print(sweep_table(found))
    tell(console, f"--learning-rate {found.chosen:g}: {found.reason}")
    if plot:
        from training.reporting import canvas, plots

        write_whole(plot, canvas.png(plots.sweep(found)))
    if write:
        write_setting(write, "learning_rate", found.chosen)


@app.command()
def inspect(path: VersionPath) -> None:
    """Shows what a version says about itself."""
    manifest = Manifest.read(path)
    console.print(manifest_table(manifest))
    if manifest.scores:
        console.print(score_table(manifest.scores))
    tell(console, manifest.verdict)


@app.command()
def fuse(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="Folder of a version, or of a SavedModel from elsewhere.")
    ],
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of the model. Without it, the name of the version, or of the folder."),
    ] = None,
    models_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder that holds the models. Without it, the folder of the version, or models."
        ),
    ] = None,
) -> None:
    """Publishes a model again, with a fused twin that is served many times faster.

    PATH is a version that was exported without a twin, or a SavedModel of LSTM, GRU or SimpleRNN layers and one Dense
    layer that Keras wrote. The twin is published only if it computes what the SavedModel does.
    """
    from training.publishing.fuse import fuse as run

    with clearing_away() as published:
        published.append(run(path, name, models_dir))
        tell(console, f"Version: {published[0]}")


@app.command()
def verify(path: VersionPath) -> None:
    """Proves a version: compares the checksums of its files, and computes its golden rows with every engine it has.

    Exits with 1 on a mismatch.
    """
    manifest = Manifest.read(path)
    manifest.check_files(path)
    golden = Golden.load(path, manifest.contract)
    from app.engines.choice import load_engine

    engines: list[EngineName] = ["tensorflow", "onnx"] if manifest.has_twin else ["tensorflow"]
    for engine in engines:
        load_engine(engine, path, manifest, golden, max_windows=len(golden.inputs), threads=1)
    tell(
        console,
        f"{path} is sound: {len(manifest.files)} files match their checksums, "
        f"{len(golden.inputs)} golden rows come out as recorded by the engines {' and '.join(engines)}.",
    )
    _say_why_no_twin(manifest)


@app.command()
@takes_config
def compare(
    config: ConfigFile,
    *,
    seeds: Annotated[int, typer.Option(metavar="NUMBER", min=1, help="Fits of each network.")] = 3,
    results: Annotated[Path, typer.Option(metavar="DIR", help="Where the table and the plot go.")] = Path("comparison"),
    **options: Any,
) -> None:
    """Compares SimpleRNN, GRU, LSTM and bidirectional LSTM in one to three layers on one task.

    Takes the options of `train`, and publishes nothing. --units gives the cells of each layer, and its last number the
    cells of all further layers; --cell and --bidirectional mean nothing here.
    """
    settings = read_options(config, options)
    dataset = _prepare(settings)
    from training.network.start import settle_start
    from training.studies.compare import compare as run

    console.print(run(*settle_start(settings, dataset), seeds, results, console))
    tell(console, f"Table and plot: {results}")


@app.command()
@takes_config
def shapes(config: ConfigFile, **options: Any) -> None:
    """Shows the shapes of a network layer by layer, in Keras' and in PyTorch's words: outputs, states, parameters.

    Takes the options of `train`, trains nothing, and reads no file.
    """
    settings = read_options(config, options)
    task = Task.of(settings)
    for title, layers in zip(table_titles(settings), (keras_layers, torch_layers), strict=True):
        console.print(shape_table(title, layers(settings, task)))


@app.command()
def reference(
    task: Annotated[
        ReferenceTask | None,
        typer.Argument(metavar="[TASK]", help="lesson, exercise, multiplication or sunspots. Without it, all of them."),
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

    Each task is run by its own protocol over several seeds. Its table has what others published, the baselines, the
    floor where it is known, and our mean, standard deviation and worst seed. Without TASK all are run, sunspots only
    with --data.
    """
    names = [task] if task else [name for name in TASKS if name != "sunspots" or data]
    if not task and not data:
        note(console, "sunspots is left out, because it needs --data FILE")
    from training.studies.reference import run

    run([TASKS[name] for name in names], seeds, console, data, output)


def _prepare(settings: TrainingConfig) -> Dataset:
    """Prepares the data set of a configuration, and tells its rows and notices."""
    dataset = prepare(settings)
    data = dataset.provenance
    parts = f"{data.training_rows} to train, {data.validation_rows} to validate, {data.test_rows} to test"
    tell(console, f"{data.source}: {data.rows} rows, {parts}")
    for notice in data.notices:
        note(console, notice)
    return dataset


def _check_outputs(plot: Path | None, write: Path | None) -> None:
    """Checks, before the work, that its results can be written.

    Raises:
        ConfigError: A file cannot be written, the plot is no PNG file, or the configuration file is not TOML.
    """
    if plot:
        if plot.suffix.lower() != ".png":
            raise ConfigError(f"--plot {plot} is no PNG file; give a name that ends in .png, such as sweep.png.")
        check_writable(plot)
    if write:
        if write.exists():
            read_toml(write)
        check_writable(write)


def _say_why_no_twin(manifest: Manifest) -> None:
    if not manifest.has_twin:
        note(console, f"no fused twin: {why_no_twin(manifest)}; TensorFlow serves it")
