"""What callers notice while versions come and go: lost answers, and latency, under all the load the service can take.

Throughout each phase one roll follows another, which is worse than any operator does. Going forward and back are
changes of policy, as they are in operation; a failed roll is a version that does everything but compute its golden
rows, touched again and again so that it is tried again.
"""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
import numpy as np

from app.version.folders import SETTLING_SECONDS
from app.version.golden import Golden
from app.version.manifest import MANIFEST_FILE, Manifest, digest_files
from benchmarks.dialects import Request, ask_single
from benchmarks.generator import Outcome, encode, send_closed
from benchmarks.models import Model, made_models
from benchmarks.servers import Server, own_program
from benchmarks.tables import Bar, bars, figure, ratio, table

CONNECTIONS = 16
SECONDS = {"onnx": 10.0, "tensorflow": 40.0}
"""For how long each phase lasts; the TensorFlow engine compiles for seconds."""
ADMIN_KEY = "only for this benchmark"
GENTLE, BROKEN = 1, 3
"""The version that serves first, and the one that cannot."""
OK = 200


@dataclass(frozen=True, slots=True)
class Phase:
    """What happened in a phase: the answers, and how long each roll took."""

    outcome: Outcome
    rolls: list[float]

    @property
    def p99_ms(self) -> float:
        """Latency that one answer in a hundred exceeds."""
        return float(np.percentile(self.outcome.latencies, 99) * 1e3)

    @property
    def lost(self) -> int:
        """Requests without an answer, or with another than 200."""
        return int(np.count_nonzero(self.outcome.statuses != OK)) + self.outcome.unanswered


def run(only: list[str], *, quick: bool) -> Iterator[str]:
    """Yields a table and the bars for each engine."""
    with made_models(["small"]) as models:
        model = models["small"]
        _add_versions(model)
        for engine, seconds in SECONDS.items():
            if not only or engine in only:
                phases = _measure(model, engine, seconds / 5 if quick else seconds)
                yield f"### {model.shape}, {engine} engine, {CONNECTIONS} connections\n\n{_table(phases)}\n"
                yield f"{bars(_bars(phases))}\n"


def _add_versions(model: Model) -> None:
    """A second version like the first, and a third whose golden rows are not its own."""
    for version in (GENTLE + 1, BROKEN):
        shutil.copytree(model.version_dir, model.folder_of(version))
    broken_dir = model.folder_of(BROKEN)
    manifest = Manifest.read(broken_dir)
    golden = Golden.load(broken_dir, manifest.contract)
    Golden(golden.inputs, golden.forecasts + 1).save(broken_dir)
    changed = manifest.model_copy(update={"files": digest_files(broken_dir)})
    (broken_dir / MANIFEST_FILE).write_text(changed.model_dump_json())


def _measure(model: Model, engine: str, seconds: float) -> dict[str, Phase]:
    (model.models_dir / "policies.toml").write_text(f"[default]\nversions = [{GENTLE}]\n")
    program = own_program(model, engine=engine, admin_key=ADMIN_KEY, watch_seconds=0, max_batch_windows=256)
    server = Server(program, model.folder / f"roll-{engine}")
    request = ask_single(model.windows(1))
    try:
        server.wait_for(request)
        with httpx.Client(
            base_url=server.url, headers={"Authorization": f"Bearer {ADMIN_KEY}"}, timeout=120, trust_env=False
        ) as admin:
            send_closed(server.port, [encode(request)], CONNECTIONS, seconds=seconds / 4)  # to warm up
            return {
                "steady": _phase(server, request, seconds, lambda _: time.sleep(seconds)),
                "forward and back": _phase(server, request, seconds, lambda turn: _choose(admin, [GENTLE + turn % 2])),
                "failed rolls": _phase(server, request, seconds, lambda _: _fail(admin, model)),
            }
    finally:
        server.group.stop()


def _phase(server: Server, request: Request, seconds: float, roll: Callable[[int], None]) -> Phase:
    """Rolls again and again while the load lasts."""
    rolls: list[float] = []
    is_over = threading.Event()

    def keep_rolling() -> None:
        turn = 1
        while not is_over.is_set():
            started = time.perf_counter()
            roll(turn)
            rolls.append(time.perf_counter() - started)
            turn += 1

    rolling = threading.Thread(target=keep_rolling)
    rolling.start()
    try:
        outcome = send_closed(server.port, [encode(request)], CONNECTIONS, seconds=seconds)
    finally:
        is_over.set()
        rolling.join()
    return Phase(outcome, rolls)


def _choose(admin: httpx.Client, versions: list[int]) -> None:
    answer = admin.put("/admin/models/default/policy", json={"versions": versions}).raise_for_status().json()
    serving = [entry["version"] for entry in answer["versions"] if entry["state"] == "available"]
    if serving != versions:
        raise RuntimeError(f"versions {serving} serve, not {versions}")


def _fail(admin: httpx.Client, model: Model) -> None:
    """Has the broken version tried once more, which goes on serving nothing."""
    (model.folder_of(BROKEN) / MANIFEST_FILE).touch()
    time.sleep(SETTLING_SECONDS)
    answer = admin.put("/admin/models/default/policy", json={"latest": 1}).raise_for_status().json()
    states = {entry["version"]: entry["state"] for entry in answer["versions"]}
    if states[BROKEN] != "failed" or "available" not in states.values():
        raise RuntimeError(f"the broken version should have failed: {states}")


def _table(phases: dict[str, Phase]) -> str:
    head = ["phase", "requests/s", "p50, ms", "p99, ms", "longest, ms", "lost", "rolls", "seconds a roll"]
    rows = []
    for name, phase in phases.items():
        latencies = phase.outcome.latencies * 1e3
        rates = figure(len(latencies) / phase.outcome.seconds)
        cells = [figure(float(value)) for value in (np.median(latencies), phase.p99_ms, latencies.max())]
        is_steady = name == "steady"
        rolls = ["-", "-"] if is_steady else [str(len(phase.rolls)), figure(float(np.mean(phase.rolls)))]
        rows.append([name, rates, *cells, str(phase.lost), *rolls])
    return table(head, rows)


def _bars(phases: dict[str, Phase]) -> Iterator[Bar]:
    steady = phases["steady"]
    for name, phase in phases.items():
        if phase is not steady:
            yield Bar(f"{name}: requests lost", phase.lost, "<=", 0)
            yield Bar(f"{name}: p99, of the steady one", ratio(phase.p99_ms, steady.p99_ms), "<=", 2, "x")
