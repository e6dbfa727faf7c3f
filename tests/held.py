"""The service with an engine that a test can hold: `python -m tests.held` in place of `python -m app`.

A window that is held is computed when it is released; all others are computed at once, in the engine's thread. Loading
can be held too. Test and service meet in the folder where the service runs, so it does not matter which worker works.
"""

import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.__main__ import main
from app.arrays import Array
from app.engines.onnx import OnnxEngine
from tests.servers import wait_until

FIRST_NUMBER = 1000
LOOK_SECONDS = 0.005
LOADING = "loading"

_numbers = itertools.count(FIRST_NUMBER)


class Hold:
    """Something that the service does not do until it is released."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._gate = folder / f"{name}.held"
        self._gate.touch()

    def wait_until_reached(self, times: int = 1) -> None:
        """Returns once so many processes have begun with it."""
        wait_until(lambda: len(list(self._folder.glob(f"{self._name}.*.reached"))) >= times)

    def release(self) -> None:
        """Lets the service go on."""
        self._gate.unlink(missing_ok=True)


class HeldWindow(Hold):
    """A window of `contract_of()`.

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
    """A window that the service in that folder does not compute until the block ends, unless it is released before."""
    window = HeldWindow(folder)
    try:
        yield window
    finally:
        window.release()


@contextmanager
def held_loading(folder: Path) -> Iterator[Hold]:
    """Keeps the service in that folder from loading a version until the block ends, unless it is released before."""
    loading = Hold(folder, LOADING)
    try:
        yield loading
    finally:
        loading.release()


def wait_for_release(name: str) -> None:
    """Says that the process has come so far, and returns once it may go on."""
    gate = Path(f"{name}.held")
    if gate.exists():
        Path(f"{name}.{os.getpid()}.reached").touch()
    while gate.exists():
        time.sleep(LOOK_SECONDS)


def make_holdable() -> None:
    """Makes the engine of this process wait for releases."""
    compute, warm_up = OnnxEngine.predict, OnnxEngine.warm_up

    def predict_when_released(engine: OnnxEngine, windows: Array) -> Array:
        for number in windows[:, 0, 0]:
            if number >= FIRST_NUMBER:
                wait_for_release(f"{number:.0f}")
        return compute(engine, windows)

    def warm_up_when_released(engine: OnnxEngine) -> None:
        wait_for_release(LOADING)
        warm_up(engine)

    OnnxEngine.predict = predict_when_released  # type: ignore[assignment, method-assign]
    OnnxEngine.warm_up = warm_up_when_released  # type: ignore[assignment, method-assign]
    OnnxEngine.is_steady = False


# Workers import this module, too, before they import the application.
if __name__ in {"__main__", "__mp_main__"}:
    make_holdable()
if __name__ == "__main__":
    main()
