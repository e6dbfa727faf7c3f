"""What the peers of `python -m benchmarks forecasts` share: an order, rows, a clock of CPU time, and no network.

Each peer runs in an environment of its own as `python -m benchmarks.peers.NAME ORDER.json`, one process for a file and
a method, and writes its forecasts to the file that the order names. Needs numpy only.
"""

import csv
import ipaddress
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[Any]]

NETWORK_EVENTS = {"socket.connect", "socket.getaddrinfo", "socket.sendto"}
"""What Python does, by the names of its audit events, before it talks to another machine."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a peer is asked to forecast.

    Attributes:
        method: Which of its methods forecasts.
        csv: File with the columns `time` and `value`: whole rows in time order.
        validation: Row number, from 0, where validation starts.
        test: Row number where the test part starts. No row from here on may be fitted to.
        window: Rows before a forecast that a network may read.
        horizon: Rows to forecast.
        seasons: Rows in each season, shortest first; none where there is no season.
        origins: Row numbers of the first row of each forecast. Rows before an origin are known there.
        cpu_seconds: CPU time after which a fit has to stop.
        answer: The npz file for `forecasts` (origins, horizon).
    """

    method: str
    csv: str
    validation: int
    test: int
    window: int
    horizon: int
    seasons: tuple[int, ...]
    origins: tuple[int, ...]
    cpu_seconds: float
    answer: str

    @property
    def is_out_of_time(self) -> bool:
        """Whether this process, with all its threads, has used up the CPU time of its fit."""
        return time.process_time() > self.cpu_seconds

    def rows(self) -> tuple[list[str], Array]:
        """Returns the times, and the values (rows,) float64."""
        with Path(self.csv).open(encoding="ascii", newline="") as file:
            _, *lines = csv.reader(file)
        return [line[0] for line in lines], np.array([float(line[1]) for line in lines])

    def windows(self, values: Array) -> Array:
        """Returns the window before each origin: (origins, window)."""
        slid = np.lib.stride_tricks.sliding_window_view(values, self.window)
        return np.asarray(slid[np.array(self.origins) - self.window])


def answer(methods: Mapping[str, Callable[[Order], Array]]) -> None:
    """Does the order whose file is named on the command line.

    Args:
        methods: Functions from an order to forecasts (origins, horizon), by name.
    """
    stay_offline()
    order = Order(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    forecasts = np.asarray(methods[order.method](order), np.float32)
    np.savez(order.answer, allow_pickle=False, forecasts=forecasts)


def stay_offline() -> None:
    """Lets no Python code of this process reach another machine, whatever a library would report to its makers."""
    sys.addaudithook(_refuse_network)


def _refuse_network(event: str, arguments: tuple[Any, ...]) -> None:
    if event in NETWORK_EVENTS and not _is_local(arguments[0 if event == "socket.getaddrinfo" else 1]):
        raise OSError(f"a benchmark talks to this machine only, but {event} was called with {arguments[1:]}")


def _is_local(address: Any) -> bool:
    """Whether an address is a path, or a host of this machine."""
    host = address[0] if isinstance(address, tuple) else address
    if host in (None, "", "localhost") or not isinstance(address, tuple | str) or "/" in str(host):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
