"""Holds work of the service: the service begins with the work, and goes on when the test says so.

Test and service meet in a folder: a file there holds the work, another says that the work has begun. So it does not
matter which process works, nor how fast.
"""

import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from app.arrays import Array, Inputs
from app.engines.engine import Engine
from app.serving.loading import LoadedVersion, LoadVersion
from app.version.manifest import Manifest
from tests.waiting import wait_until

FIRST_NUMBER = 1000
"""Windows whose first number is smaller are never held."""
LOADING = "loading"
LOOK_SECONDS = 0.005

_numbers = itertools.count(FIRST_NUMBER)


class Hold:
    """Work that the service does not do until it is released."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._gate = folder / f"{name}.held"
        self._gate.touch()

    def wait_until_reached(self, processes: int = 1) -> None:
        """Returns once so many processes have begun with the work."""
        wait_until(lambda: len(list(self._folder.glob(f"{self._name}.*.reached"))) >= processes)

    def release(self) -> None:
        """Lets the service go on."""
        self._gate.unlink(missing_ok=True)


class HeldWindow(Hold):
    """A window for `contract_of()` whose forecast is not computed until it is released.

    Attributes:
        window: What to send, all steps alike.
        forecast: What is answered in the end.
    """

    def __init__(self, folder: Path) -> None:
        number = float(next(_numbers))
        self.window = [[number, 0.0]] * 4
        self.forecast = [[number], [number + 1]]
        super().__init__(folder, f"{number:.0f}")


@contextmanager
def held_window(folder: Path) -> Iterator[HeldWindow]:
    """Holds a window of the service that meets the test in that folder, at most to the end of the block."""
    window = HeldWindow(folder)
    try:
        yield window
    finally:
        window.release()


@contextmanager
def held_loading(folder: Path) -> Iterator[Hold]:
    """Holds every load of the service that meets the test in that folder, at most to the end of the block."""
    loading = Hold(folder, LOADING)
    try:
        yield loading
    finally:
        loading.release()


def holdable(load_version: LoadVersion, folder: Path) -> LoadVersion:
    """Returns the same loader with loads and engines that can be held."""

    def load(version_dir: Path, manifest: Manifest | None) -> LoadedVersion:
        _wait_for_release(folder, LOADING)
        loaded = load_version(version_dir, manifest)
        return replace(loaded, engine=HoldableEngine(loaded.engine, folder))

    return load


class HoldableEngine:
    """Wraps an engine. It is never steady, so the service calls it in the engine's thread, where it may wait."""

    is_steady = False

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.name = engine.name
        self.remark = engine.remark
        self._engine = engine
        self._folder = folder

    def warm_up(self) -> None:
        """Warms up the engine."""
        self._engine.warm_up()

    def predict(self, inputs: Inputs) -> Array:
        """Forecasts when none of the windows is held any more."""
        for number in inputs.windows[:, 0, 0]:
            if number >= FIRST_NUMBER:
                _wait_for_release(self._folder, f"{number:.0f}")
        return self._engine.predict(inputs)


def _wait_for_release(folder: Path, name: str) -> None:
    gate = folder / f"{name}.held"
    if gate.exists():
        (folder / f"{name}.{os.getpid()}.reached").touch()
    while gate.exists():
        time.sleep(LOOK_SECONDS)
