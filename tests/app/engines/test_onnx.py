"""The ONNX engine, on twins whose forecasts can be worked out in the head."""

import gc
import importlib
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from onnx import ModelProto, helper, numpy_helper

from app.arrays import Array, Inputs
from app.engines.onnx import PIECE_WINDOWS, SHARED_FROM, OnnxEngine
from app.errors import ArtifactError, EngineNotInstalled
from app.version.manifest import TWIN_FILE, Contract
from tests.servers import HOST, ROOT, environment, running
from tests.versions import contract_of, expected_forecasts, make_fused_version, mean_twin, some_windows
from tests.waiting import PATIENCE_SECONDS, wait_until

MANY_TURNS = 30
"""Far more than a thread gets before another thread takes the lock for good, far fewer than in a third of a second."""


def assert_python_goes_on(compute: Callable[[], object]) -> None:
    """Checks that a long computation in another thread leaves this one, which could be an event loop, its turns."""
    thread = threading.Thread(target=compute)
    turns = 0
    thread.start()
    while thread.is_alive():
        time.sleep(0.001)
        turns += 1
    assert turns > MANY_TURNS


class Recorder:
    """A session that remembers how many windows it was given in each call."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.batches: list[int] = []

    def run(self, outputs: list[str], inputs: dict[str, Array]) -> Any:
        self.batches.append(len(inputs["windows"]))
        return self.session.run(outputs, inputs)


@pytest.fixture
def contract() -> Contract:
    return contract_of()


@pytest.fixture(scope="module")
def twin() -> bytes:
    return bytes(mean_twin().SerializeToString())


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_batches_of_every_size(threads: int, twin: bytes, contract: Contract) -> None:
    engine = OnnxEngine(twin, contract, 70, threads)
    engine.warm_up()

    for rows in (*range(1, 71), 1000):
        windows = some_windows(rows, contract)
        forecasts = engine.predict(Inputs(windows))
        assert forecasts.dtype == np.float32
        assert_allclose(forecasts, expected_forecasts(windows, contract), rtol=1e-6)


def test_forecast_is_the_same_alone_and_in_company(twin: bytes, contract: Contract) -> None:
    engine = OnnxEngine(twin, contract, 64, threads=2)
    windows = some_windows(300, contract)

    alone = np.concatenate([engine.predict(Inputs(window[None])) for window in windows])

    assert_array_equal(engine.predict(Inputs(windows)), alone)


def test_windows_may_be_a_view(twin: bytes, contract: Contract) -> None:
    engine = OnnxEngine(twin, contract, 64, threads=1)
    windows = some_windows(20, contract)

    assert_array_equal(engine.predict(Inputs(windows[::-2])), engine.predict(Inputs(windows))[::-2])


@pytest.mark.parametrize(
    ("rows", "alone", "shared"),
    [
        (1, [1], []),
        (SHARED_FROM - 1, [SHARED_FROM - 1], []),
        (SHARED_FROM, [], [SHARED_FROM]),
        (2 * PIECE_WINDOWS, [], [2 * PIECE_WINDOWS]),
        (3 * PIECE_WINDOWS + 1, [12, 12, 12, 13], []),
        (100 * PIECE_WINDOWS, [PIECE_WINDOWS] * 100, []),
    ],
)
def test_only_large_batches_wake_other_threads(
    rows: int, alone: list[int], shared: list[int], twin: bytes, contract: Contract
) -> None:
    engine = OnnxEngine(twin, contract, 64, threads=2)
    engine._alone, engine._shared = Recorder(engine._alone), Recorder(engine._shared)

    engine.predict(Inputs(some_windows(rows, contract)))

    assert (sorted(engine._alone.batches), engine._shared.batches) == (alone, shared)


def test_a_thread_that_is_held_up_leaves_the_pieces_to_the_others(twin: bytes, contract: Contract) -> None:
    engine = OnnxEngine(twin, contract, 64, threads=2)
    session = engine._alone
    computed: dict[int, int] = defaultdict(int)
    others_done = threading.Event()

    class Held:
        def run(self, outputs: list[str], inputs: dict[str, Array]) -> list[Array]:
            computed[threading.get_ident()] += 1
            if sum(computed.values()) == 1:
                assert others_done.wait(PATIENCE_SECONDS)
            elif sum(computed.values()) == 8:
                others_done.set()
            return list(session.run(outputs, inputs))

    engine._alone = Held()
    windows = some_windows(8 * PIECE_WINDOWS, contract)
    assert_allclose(engine.predict(Inputs(windows)), expected_forecasts(windows, contract), rtol=1e-6)
    assert sorted(computed.values()) == [1, 7]


@pytest.mark.parametrize("failing", ["MainThread", "engine-helper_0"])
def test_a_piece_that_fails_fails_the_batch_and_keeps_nothing(failing: str, twin: bytes, contract: Contract) -> None:
    engine = OnnxEngine(twin, contract, 64, threads=2)
    session = engine._alone
    calls, both_compute = count(), threading.Barrier(2)

    class Failing:
        def run(self, outputs: list[str], inputs: dict[str, Array]) -> list[Array]:
            if next(calls) < 2:
                both_compute.wait(PATIENCE_SECONDS)
            if threading.current_thread().name == failing:
                raise RuntimeError("broken")
            return list(session.run(outputs, inputs))

    engine._alone = Failing()
    windows = some_windows(2 * 2 * PIECE_WINDOWS, contract)
    kept = weakref.ref(windows)
    gc.disable()  # the collector would free them at some time
    try:
        with pytest.raises(RuntimeError, match="broken") as failed:
            engine.predict(Inputs(windows))
        del windows, failed
        wait_until(lambda: kept() is None)  # the helper's thread may be about to drop them
    finally:
        gc.enable()


def test_one_thread_needs_one_session(twin: bytes, contract: Contract) -> None:
    engine = OnnxEngine(twin, contract, 64, threads=1)

    assert engine._alone is engine._shared


def test_name_and_remark(twin: bytes, contract: Contract) -> None:
    one, two = (OnnxEngine(twin, contract, 64, threads) for threads in (1, 2))

    assert one.name == "onnx"
    assert one.remark == "fused operators, 1 thread"
    assert two.remark == "fused operators, 2 threads"


@pytest.mark.parametrize(
    ("unfit", "problem"),
    [
        (mean_twin(window_shape=("batch", 5, 2)), r"the input windows tensor\(float\) \['batch', 5, 2\]"),
        (mean_twin(window_shape=("batch", 4, 3)), "the input .*, but the contract needs windows .* 4, 2"),
        (mean_twin(window_shape=(1, 4, 2), forecast_shape=(1, 2, 1)), r"the input windows tensor\(float\) \[1, 4, 2\]"),
        (mean_twin(names=("x", "forecast")), "the input x "),
        (mean_twin(names=("windows", "y")), "the output y "),
    ],
    ids=["steps", "features", "batch", "input name", "output name"],
)
def test_twin_that_breaks_the_contract_is_refused(unfit: ModelProto, problem: str, contract: Contract) -> None:
    with pytest.raises(ArtifactError, match=rf"^models/{TWIN_FILE}: has {problem}"):
        OnnxEngine(unfit.SerializeToString(), contract, 64, threads=1, source=Path("models", TWIN_FILE))


@pytest.mark.parametrize("contract", [contract_of(horizon=3), contract_of(targets=2)], ids=["horizon", "targets"])
def test_other_forecast_than_the_contract_says_is_refused(twin: bytes, contract: Contract) -> None:
    with pytest.raises(ArtifactError, match=rf"{TWIN_FILE}: has the output forecast"):
        OnnxEngine(twin, contract, 64, threads=1)


@pytest.mark.parametrize("keep", [0, 100, -1], ids=["empty", "cut", "short"])
def test_corrupt_twin_is_told(keep: int, twin: bytes, contract: Contract) -> None:
    with pytest.raises(ArtifactError, match=rf"{TWIN_FILE}: is not a graph that ONNX Runtime loads"):
        OnnxEngine(twin[:keep], contract, 64, threads=1)


def test_twin_that_names_another_file_is_refused(
    contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    onnx.save_model(mean_twin(), path, save_as_external_data=True, location="weights", size_threshold=0)
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ArtifactError, match="is not a graph that ONNX Runtime loads"):
        OnnxEngine(path.read_bytes(), contract, 64, threads=1)


def test_graph_that_cannot_be_run_is_told(contract: Contract) -> None:
    twin = mean_twin()
    [constant] = [tensor for tensor in twin.graph.initializer if tensor.name == "targets"]
    constant.CopyFrom(numpy_helper.from_array(np.array([99]), "targets"))
    engine = OnnxEngine(twin.SerializeToString(), contract, 64, threads=1)

    with pytest.raises(ArtifactError, match=rf"{TWIN_FILE}: the graph fails when it is run \("):
        engine.warm_up()


def test_window_of_another_shape_is_an_error(twin: bytes, contract: Contract) -> None:
    engine = OnnxEngine(twin, contract, 64, threads=1)

    with pytest.raises(Exception, match="Got invalid dimensions"):
        engine.predict(Inputs(np.zeros((1, 5, 2), np.float32)))


def forgetful_twin() -> bytes:
    """A twin that answers windows whose last number is not 0, and leaves out the others, against its signature."""
    twin = mean_twin()
    last = [numpy_helper.from_array(np.array(each), name) for name, each in (("step", -1), ("feature", 0))]
    nodes = [
        helper.make_node("Gather", ["windows", "step"], ["row"], axis=1),
        helper.make_node("Gather", ["row", "feature"], ["number"], axis=1),
        helper.make_node("Cast", ["number"], ["is_kept"], to=onnx.TensorProto.BOOL),
        helper.make_node("Compress", ["kept", "is_kept"], ["forecast"], axis=0),
    ]
    twin.graph.node[-1].output[0] = "kept"
    twin.graph.node.extend(nodes)
    twin.graph.initializer.extend(last)
    return bytes(twin.SerializeToString())


@pytest.mark.parametrize("windows", [1, 2, 2 * 2 * PIECE_WINDOWS])
def test_a_twin_that_leaves_out_a_window_is_not_believed(windows: int, contract: Contract) -> None:
    engine = OnnxEngine(forgetful_twin(), contract, 64, threads=2)
    full = some_windows(windows, contract) + 100
    assert_allclose(engine.predict(Inputs(full)), expected_forecasts(full, contract), rtol=1e-6)

    for left_out in (slice(1), slice(1, None)):  # one forecast too few, or a single forecast for many windows
        some = full.copy()
        some[left_out, -1, 0] = 0
        if windows > 1 or left_out.stop == 1:
            with pytest.raises(ValueError, match="but the contract needs"):
                engine.predict(Inputs(some))


REPORT_SECONDS = 12
"""ONNX Runtime calls its maker nine seconds after it was imported."""


def load_and_predict(twin: bytes, folder: Path, *, seconds: float = 0, **variables: object) -> list[str]:
    """Forecasts by ONNX Runtime in a process of its own with a new home, and returns what the home has in the end.

    Args:
        twin: What to forecast by.
        folder: Where twin and home go.
        seconds: How long the process lives after the forecast.
        variables: Environment variables of the process.
    """
    home, path = folder / "home", folder / "model.onnx"
    home.mkdir()
    path.write_bytes(twin)
    code = """
import sys, time
from pathlib import Path
from app.engines.onnx import OnnxEngine
from app.version.manifest import Contract
twin, contract, seconds = sys.argv[1:]
engine = OnnxEngine(Path(twin).read_bytes(), Contract.model_validate_json(contract), 8, threads=2)
engine.warm_up()
time.sleep(float(seconds))
"""
    given = {**environment(HOME=home, ORT_DISABLE_TELEMETRY="0"), **{name: str(it) for name, it in variables.items()}}
    for name in ("XDG_CACHE_HOME", "no_proxy", "NO_PROXY"):
        given.pop(name, None)
    subprocess.run(
        [sys.executable, "-c", code, str(path), contract_of().model_dump_json(), str(seconds)], env=given, check=True
    )
    return sorted(str(path.relative_to(home)) for path in home.rglob("*"))


def test_onnxruntime_leaves_nothing_in_the_home_of_its_user(twin: bytes, tmp_path: Path) -> None:
    assert load_and_predict(twin, tmp_path) == []


def test_onnxruntime_calls_nobody(twin: bytes, tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as proxy:  # ONNX Runtime reports through a proxy where one is named
        url = f"http://{HOST}:{proxy.getsockname()[1]}"
        load_and_predict(twin, tmp_path, seconds=REPORT_SECONDS, https_proxy=url, http_proxy=url, all_proxy=url)
        proxy.settimeout(0)
        with pytest.raises(BlockingIOError):
            proxy.accept()


def test_the_event_loop_turns_while_it_computes(contract: Contract) -> None:
    engine = OnnxEngine(laborious_twin().SerializeToString(), contract, 1, threads=1)
    assert_python_goes_on(lambda: engine.predict(Inputs(some_windows(1, contract))))


def laborious_twin() -> ModelProto:
    """The twin of `mean_ahead`, which multiplies large matrices before it forecasts."""
    twin, rounds = mean_twin(), 40
    matrix = np.full((1024, 1024), 1 / 1024, np.float32)
    twin.graph.initializer.extend(
        [numpy_helper.from_array(matrix, "matrix"), numpy_helper.from_array(np.float32(0), "zero")]
    )
    labour = [
        helper.make_node("ReduceMean", ["windows"], ["mean"], keepdims=0),
        helper.make_node("Add", ["matrix", "mean"], ["product 0"]),
        *(helper.make_node("MatMul", [f"product {n}", "matrix"], [f"product {n + 1}"]) for n in range(rounds)),
        helper.make_node("ReduceMean", [f"product {rounds}"], ["result"], keepdims=0),
        helper.make_node("Mul", ["result", "zero"], ["nothing"]),
        helper.make_node("Add", ["windows", "nothing"], ["windows after work"]),
    ]
    forecast = list(twin.graph.node)
    forecast[0].input[0] = "windows after work"
    del twin.graph.node[:]
    twin.graph.node.extend([*labour, *forecast])
    return twin


def test_missing_onnxruntime_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "app.engines.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    with pytest.raises(EngineNotInstalled, match=r"needs ONNX Runtime, .*; pip install -r requirements/onnx\.txt\.$"):
        importlib.import_module("app.engines.onnx")


def test_a_service_without_tensorflow_forecasts_by_the_twin(contract: Contract, tmp_path: Path) -> None:
    make_fused_version(tmp_path / "models", contract)
    missing = tmp_path / "without"
    missing.mkdir()
    (missing / "tensorflow.py").write_text("raise ModuleNotFoundError('not installed')")
    windows = some_windows(5, contract)

    with running(tmp_path, PYTHONPATH=f"{missing}:{ROOT}") as server:
        server.wait_for("/readyz")
        with server.client() as client:
            answer = client.post("/predict/batch", json={"windows": windows.tolist()}).json()
            engine = client.get("/models/default").json()["engine"]

    assert_allclose(answer["predictions"], expected_forecasts(windows, contract), rtol=1e-6)
    assert engine == "onnx"
