"""How many windows a second our `fit` learns from, beside Keras' own on the same model, data and schedule.

Each is a process of its own that takes orders on standard input: a whole fit with the seed it is given. They are
measured in turns. Started as a module, this is the process itself:

    python -m benchmarks.fitting NAME SIZE EPOCHS
"""

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median, stdev
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.models import ROOT
from benchmarks.processes import ProcessGroup, environment
from benchmarks.tables import Bar, bars, figure, ratio, table, times

OURS = "windowcast"
AS_IT_COMES = "keras fit"
COMPILED, PLAIN = "keras fit, jit_compile=True", "keras fit, jit_compile=False"
RIVALS = (AS_IT_COMES, COMPILED, PLAIN)

WINDOWS, BATCH = 2048, 32
"""A multiple of the batch, so that every step of either has a full one."""
LIMIT = 1.5


@dataclass(frozen=True, slots=True)
class Size:
    """What is fitted: two layers of LSTM on windows of one feature, one row ahead."""

    name: str
    steps: int
    units: int

    def __str__(self) -> str:
        return f"windows ({self.steps}, 1), 2 x {self.units} units"


SIZES = {size.name: size for size in (Size("default", 52, 64), Size("small", 30, 32))}


@dataclass(frozen=True, slots=True)
class Effort:
    """How long is measured."""

    seeds: int = 5
    epochs: int = 10

    @classmethod
    def of(cls, *, quick: bool) -> "Effort":
        """A run for figures, or one to see that everything works."""
        return cls(2, 2) if quick else cls()


@dataclass(frozen=True, slots=True)
class Fit:
    """One fit.

    Attributes:
        whole: Seconds from the call to its return, compilation included.
        steady: Seconds of an epoch after the first, on average.
        loss: Of the fitted model over all training windows, without dropout or noise, in units of the yardstick.
    """

    whole: float
    steady: float
    loss: float


Fits = dict[str, list[Fit]]
"""By contender, one for each seed."""


def run(only: list[str], effort: Effort) -> Iterator[str]:
    """Yields a table for each size, and the bars at the end."""
    verdicts: list[Bar] = []
    for size in SIZES.values():
        with TemporaryDirectory(prefix="windowcast-benchmark-") as folder, ExitStack() as stack:
            names = [name for name in (OURS, *RIVALS) if not only or name in only]
            fitters: list[Fitter] = []
            for name in names:
                fitters.append(Fitter(name, size, effort.epochs, Path(folder) / f"{len(fitters)}.txt"))
                stack.callback(fitters[-1].stop)
            fits: Fits = defaultdict(list)
            for seed in range(effort.seeds):
                for fitter in fitters:
                    fits[fitter.name].append(fitter.fit(seed))
        yield f"### {size}, {effort.epochs} epochs of {WINDOWS} windows, batches of {BATCH}\n\n{_table(fits, effort)}\n"
        verdicts += _bars(size, fits)
    yield f"### Bars\n\n{bars(verdicts)}\n"


def _table(fits: Fits, effort: Effort) -> str:
    head = ["fitted by", "windows/s after the first epoch", "windows/s, compilation included", "loss", "spread"]
    rows = []
    for name, each in fits.items():
        steady, whole = _speed(each), WINDOWS * effort.epochs / median(fit.whole for fit in each)
        compared = times(ratio(_speed(fits.get(OURS)), steady))
        losses = [fit.loss for fit in each]
        rows.append(
            [name, f"{figure(steady)} ({compared})", figure(whole), f"{mean(losses):.5f}", f"{_spread(each):.5f}"]
        )
    return table(head, rows)


def _bars(size: Size, fits: Fits) -> Iterator[Bar]:
    ours = fits.get(OURS)
    for rival in RIVALS:
        faster = ratio(_speed(ours), _speed(fits.get(rival)))
        yield Bar(f"{size}: windows/s of {OURS} / {rival}", faster, ">=", LIMIT, "x")
    apart = None
    if ours and (theirs := fits.get(AS_IT_COMES)):
        distance = abs(mean(fit.loss for fit in ours) - mean(fit.loss for fit in theirs))
        apart = ratio(distance, _spread(ours) + _spread(theirs))
    yield Bar(f"{size}: distance of the losses / both spreads", apart, "<=", 1, "x")


def _speed(fits: list[Fit] | None) -> float | None:
    """Windows a second after the first epoch, in the median fit."""
    return WINDOWS / median(fit.steady for fit in fits) if fits else None


def _spread(fits: list[Fit]) -> float:
    return stdev(fit.loss for fit in fits) if len(fits) > 1 else 0.0


class Fitter:
    """A contender in a process of its own, paused whenever it is not measured."""

    def __init__(self, name: str, size: Size, epochs: int, output: Path) -> None:
        variables = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
        command = [sys.executable, "-m", "benchmarks.fitting", name, size.name, str(epochs)]
        self._group = ProcessGroup(command, environment(variables, ROOT), ROOT, output, is_piped=True)
        self.name = name
        try:
            self._group.read()
        except BaseException:
            self.stop()
            raise
        self._group.pause()

    def fit(self, seed: int) -> Fit:
        """Fits a model anew."""
        return Fit(**self._group.ask(seed))

    def stop(self) -> None:
        """Ends the process."""
        self._group.stop()


def serve(name: str, size: Size, epochs: int) -> None:
    """Fits a model for every seed that comes in, and tells how it went."""
    import keras

    from training.config import TrainingConfig
    from training.data.windows import Dataset, cut_training
    from training.fitting.fit import fit
    from training.network.model import Forecaster, build_model

    rows = _rows(WINDOWS + size.steps)
    part = cut_training(rows, rows, size.steps, 1)
    dataset = Dataset(("wave",), ("wave",), part, part, part)
    print("{}", flush=True)
    for line in sys.stdin:
        config = TrainingConfig(
            series="lesson",
            window=size.steps,
            units=(size.units, size.units),
            batch_size=BATCH,
            epochs=epochs,
            seed=int(line),
        )
        keras.utils.clear_session()
        model = build_model(config, dataset)
        forecaster = Forecaster(model)
        ends: list[float] = []
        started = time.perf_counter()
        if name == OURS:
            fit(forecaster, config, part, None, _clock(ends))
        else:
            _fit_by_keras(model, config, rows, part.targets, {COMPILED: True, PLAIN: False}.get(name, "auto"), ends)
        whole = time.perf_counter() - started
        errors = (forecaster(part.inputs) - part.targets) / model.get_layer("forecast").yardstick
        loss = float(np.where(np.abs(errors) <= 1, errors**2 / 2, np.abs(errors) - 0.5).mean())
        print(json.dumps(asdict(Fit(whole, (ends[-1] - ends[0]) / (epochs - 1), loss))), flush=True)


def _rows(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """(count, 1): a wave with a drift and noise."""
    steps = np.arange(count)
    noise = np.random.default_rng(0).normal(0, 0.3, count)
    return (10 + np.sin(steps / 8) + steps / 500 + noise).astype(np.float32)[:, np.newaxis]


def _clock(ends: list[float]) -> Any:
    from training.fitting.listener import Listener

    class Clock(Listener):
        def epoch_done(self, epoch: Any) -> None:  # noqa: ARG002
            ends.append(time.perf_counter())

    return Clock()


def _fit_by_keras(model: Any, config: Any, rows: Any, targets: Any, jit_compile: bool | str, ends: list[float]) -> None:
    """As Keras' guides have one do it, with the loss, the schedule, the optimiser and the clipping of ours."""
    import keras

    yardstick = model.get_layer("forecast").yardstick
    huber = keras.losses.Huber(delta=1.0)
    data = keras.utils.timeseries_dataset_from_array(
        rows[:-1], targets, sequence_length=config.window, batch_size=config.batch_size, shuffle=True, seed=config.seed
    )
    rate = keras.optimizers.schedules.CosineDecay(config.learning_rate, config.epochs * len(targets) // BATCH)
    model.compile(
        optimizer=keras.optimizers.Adam(rate, global_clipnorm=config.clip),
        loss=lambda actual, forecast: huber(actual / yardstick, forecast / yardstick),
        jit_compile=jit_compile,
    )
    clock = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: ends.append(time.perf_counter()))
    model.fit(data, epochs=config.epochs, callbacks=[clock], verbose=0)


if __name__ == "__main__":
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    serve(sys.argv[1], SIZES[sys.argv[2]], int(sys.argv[3]))
