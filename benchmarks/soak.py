"""Whether the service grows or errs: a million requests of every kind, while versions come and go.

The requests come in legs. In a leg a version comes, the label moves to it, and the folder of the oldest version
goes. Meanwhile some clients leave before they are answered. At the end of each leg, when nothing is under way, memory,
files, threads and what the service tells of itself are looked at.
"""

import random
import shutil
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus

import httpx
import numpy as np

from benchmarks.dialects import ask_single
from benchmarks.generator import Outcome, send_closed
from benchmarks.models import Model, made_models
from benchmarks.processes import HOST, KIB_PER_MIB, open_files, resident_mib, threads
from benchmarks.servers import Server, errors_logged
from benchmarks.tables import Bar, bars, figure, ratio, table
from benchmarks.traffic import a_round, cases
from benchmarks.wire import ADMIN_KEY, LABEL, Case, Subject, asked_program

CONNECTIONS = 16
FIRST = 1
WATCH_SECONDS = 0.25
PATIENCE_SECONDS = 600
"""A leg, or a change of versions, that takes longer is given up."""
LEAVE_SECONDS = 0.02
"""Time between two clients that leave early."""
REST_SECONDS = 1.0
"""From the last request of a leg to the look at the service."""
SLOPE_MB = 10.0
"""Most memory that a million requests may add."""
POOL_THREADS = 4
"""Python starts the threads of its pool one by one, when several are wanted at once."""
METRICS = 1.02
"""Series of rare refusals are there or not, as the versions have had them."""
MILLION = 1_000_000
FAULTS = (
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)
RESET = struct.pack("ii", 1, 0)
"""The value of SO_LINGER that ends a connection by a reset."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is done.

    Attributes:
        legs: How many legs the run has.
        requests: How many requests are sent in each.
        changes: In how many of the first legs versions change.
    """

    legs: int
    requests: int
    changes: int


EFFORTS = {"onnx": Effort(50, 20_000, 50), "tensorflow": Effort(25, 20_000, 1)}
"""TensorFlow keeps what XLA compiled for a version for good, some megabytes that would hide what requests add."""
QUICK = Effort(4, 1000, 4)


@dataclass(frozen=True, slots=True)
class Look:
    """What is seen of the service at rest.

    Attributes:
        requests: How many requests were answered before.
        resident: Memory of its processes, in MiB.
        highest: The most memory they have had, in MiB.
        files: How many files they have open.
        threads: How many threads they have.
        series: How many lines `/metrics` has.
        versions: How many versions the repository's index has.
    """

    requests: int
    resident: float
    highest: float
    files: int
    threads: int
    series: int
    versions: int


@dataclass(slots=True)
class Story:
    """What happened in all legs."""

    looks: list[Look] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    unexpected: Counter[str] = field(default_factory=Counter)
    left: int = 0
    changes: int = 0
    seconds: float = 0.0
    errors: int = 0

    @property
    def requests(self) -> int:
        """How many requests were answered."""
        return self.statuses.total()

    @property
    def warm(self) -> list[Look]:
        """The looks from the end of the warm-up on, which is a tenth of all."""
        return self.looks[len(self.looks) // 10 :]

    @property
    def slope(self) -> float | None:
        """Memory that a million requests add, in MB, as the line that fits the looks best; None for a single look."""
        if len(self.warm) < 2:
            return None
        requests = [look.requests / MILLION for look in self.warm]
        return float(np.polyfit(requests, [look.resident for look in self.warm], 1)[0]) * KIB_PER_MIB**2 / 1e6

    def add(self, outcome: Outcome, sent: Sequence[Case]) -> None:
        """Counts the answers of a leg."""
        self.seconds += outcome.seconds
        for place, status in zip(outcome.kinds.tolist(), outcome.statuses.tolist(), strict=True):
            self.statuses[status] += 1
            if status != sent[place].status:
                self.unexpected[f"{status} for {sent[place].name}"] += 1
        if outcome.unanswered:
            self.unexpected["no answer"] += outcome.unanswered


def run(only: list[str], *, quick: bool) -> Iterator[str]:
    """Yields tables and the bars for each engine."""
    for engine, effort in EFFORTS.items():
        if not only or engine in only:
            with made_models(["small"]) as models:
                model = models["small"]
                story = _soak(model, engine, QUICK if quick else effort)
                yield f"### {model.shape}, {engine} engine, {CONNECTIONS} connections\n"
                yield f"{_describe(story)}\n\n{_looks(story)}\n\n{_statuses(story)}\n\n{bars(_bars(story))}\n"


def _soak(model: Model, engine: str, effort: Effort) -> Story:
    shutil.copytree(model.folder_of(FIRST), model.folder_of(FIRST + 1))
    program = asked_program(model, FIRST + 1, engine=engine, watch_seconds=WATCH_SECONDS)
    server = Server(program, model.folder / "soak")
    story = Story()
    try:
        server.wait_for(ask_single(model.windows(1)))
        _wait_for(server, lambda known: known.get(FIRST + 1) == "READY")
        for leg in range(effort.legs):
            oldest = FIRST + min(leg, effort.changes)
            change = partial(_swap, server, model, oldest) if leg < effort.changes else _stay
            _walk(server, story, cases(Subject.of(model, oldest + 1)), change, effort.requests)
        story.changes = min(effort.legs, effort.changes)
        story.errors = errors_logged(server)
    finally:
        server.group.stop()
    return story


def _walk(server: Server, story: Story, known: Sequence[Case], change: Callable[[], None], requests: int) -> None:
    """Sends the requests of a leg while versions change, then looks at the service."""
    sent = [known[place] for place in a_round(known, len(story.looks))]
    leavers = Leavers(server.port, known)
    with _meanwhile(change), leavers.leaving():
        outcome = send_closed(
            server.port, [case.request for case in sent], CONNECTIONS, seconds=PATIENCE_SECONDS, count=requests
        )
    story.add(outcome, sent)
    story.left += leavers.count
    time.sleep(REST_SECONDS)
    story.looks.append(_look(server, story.requests))


def _stay() -> None:
    """Changes nothing."""


def _swap(server: Server, model: Model, oldest: int) -> None:
    """Adds a version, moves the label to it, and removes the oldest version's folder."""
    newest = oldest + 2
    shutil.copytree(model.folder_of(oldest + 1), model.folder_of(newest))
    _wait_for(server, lambda known: known.get(newest) == "READY")
    url = f"{server.url}/admin/models/default/labels/{LABEL}"
    key = {"Authorization": f"Bearer {ADMIN_KEY}"}
    answer = httpx.put(url, json={"version": newest}, headers=key, timeout=PATIENCE_SECONDS, trust_env=False)
    answer.raise_for_status()
    shutil.rmtree(model.folder_of(oldest))
    _wait_for(server, lambda known: oldest not in known)


def _wait_for(server: Server, holds: Callable[[dict[int, str]], bool]) -> None:
    """Returns once something holds for the states of the versions."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not holds(known := _versions(server)):
        if time.monotonic() > end or not server.group.is_running:
            raise server.group.failure(f"the versions are not as they should be: {known}")
        time.sleep(WATCH_SECONDS)


def _versions(server: Server) -> dict[int, str]:
    """Asks for the states of all versions in the repository's index."""
    answer = httpx.post(f"{server.url}/v2/repository/index", timeout=PATIENCE_SECONDS, trust_env=False)
    return {int(entry["version"]): entry["state"] for entry in answer.raise_for_status().json()}


@contextmanager
def _meanwhile(work: Callable[[], None]) -> Iterator[None]:
    """Does something in a thread beside the block, and waits for its end.

    Raises:
        Exception: What the work raises.
    """
    failures: list[Exception] = []

    def do_it() -> None:
        try:
            work()
        except Exception as failure:  # noqa: BLE001 (raised again below)
            failures.append(failure)

    thread = threading.Thread(target=do_it)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if failures:
        raise failures[0]


class Leavers:
    """Clients that leave before they are answered.

    Args:
        port: Where the service listens.
        known: What they ask for.
    """

    def __init__(self, port: int, known: Sequence[Case]) -> None:
        self._port = port
        self._requests = [case.request for case in known]
        self._random = random.Random(port)  # noqa: S311 (no secret)
        self._is_over = threading.Event()
        self.count = 0

    @contextmanager
    def leaving(self) -> Iterator[None]:
        """Lets clients come and leave during a `with` block."""
        with _meanwhile(self._keep_leaving):
            try:
                yield
            finally:
                self._is_over.set()

    def _keep_leaving(self) -> None:
        while not self._is_over.wait(LEAVE_SECONDS):
            request = self._random.choice(self._requests)
            with suppress(OSError), socket.create_connection((HOST, self._port)) as sock:
                if self._random.random() < 0.5:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                sock.sendall(request[: self._random.randint(0, len(request))])
            self.count += 1


def _look(server: Server, requests: int) -> Look:
    pid = server.group.process.pid
    resident, highest = resident_mib(pid)
    files, count = open_files(pid), threads(pid)
    metrics = httpx.get(f"{server.url}/metrics", timeout=PATIENCE_SECONDS, trust_env=False).raise_for_status()
    return Look(requests, resident, highest, files, count, len(metrics.text.splitlines()), len(_versions(server)))


def _describe(story: Story) -> str:
    rate = figure(story.requests / story.seconds)
    return (
        f"{story.requests} requests in {figure(story.seconds)} s ({rate} a second), {story.changes} changes of "
        f"versions, {story.left} clients that left early."
    )


def _looks(story: Story) -> str:
    head = ["after requests", "RSS, MiB", "highest, MiB", "files", "threads", "lines of /metrics", "versions known"]
    shown = [story.looks[0], *story.warm[:: max(1, len(story.warm) // 6)], story.looks[-1]]
    rows = [
        [str(look.requests), f"{look.resident:.1f}", f"{look.highest:.1f}"]
        + [str(number) for number in (look.files, look.threads, look.series, look.versions)]
        for look in dict.fromkeys(shown)
    ]
    return table(head, rows)


def _statuses(story: Story) -> str:
    rows = [[str(status), str(count)] for status, count in sorted(story.statuses.items())]
    unexpected = [[f"unexpected: {name}", str(count)] for name, count in story.unexpected.most_common()]
    return table(["status", "requests"], rows + unexpected)


def _bars(story: Story) -> Iterator[Bar]:
    faults = sum(story.statuses[fault] for fault in FAULTS)
    yield Bar("answers with another status than expected", story.unexpected.total(), "<=", 0)
    yield Bar("answers with 500, 502, 503 or 504", faults, "<=", 0)
    yield Bar("errors in the service's log", story.errors, "<=", 0)
    yield Bar("RSS that a million requests add", story.slope, "<", SLOPE_MB, "MB")
    first, last = story.warm[0], story.looks[-1]
    yield Bar("files more than after the warm-up", last.files - first.files, "<=", 0)
    yield Bar("threads more than after the warm-up", last.threads - first.threads, "<=", POOL_THREADS)
    yield Bar("versions known more than after the warm-up", last.versions - first.versions, "<=", 0)
    yield Bar("lines of /metrics, of those after the warm-up", ratio(last.series, first.series), "<=", METRICS, "x")
