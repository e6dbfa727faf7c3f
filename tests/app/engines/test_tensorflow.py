"""The TensorFlow engine: right, padded, and compiled before the first request."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from app.arrays import Inputs
from app.engines import tensorflow as module
from app.engines.engine import call_windows
from app.engines.tensorflow import TensorFlowEngine
from app.errors import ArtifactError
from app.version.golden import probe_inputs
from app.version.manifest import MAX_COLUMNS, MAX_NUMBERS, Contract
from tests.app.engines.test_onnx import assert_python_goes_on
from tests.servers import running
from tests.versions import (
    contract_of,
    expected_forecasts,
    laborious,
    make_version,
    mean_ahead,
    save_model,
    some_windows,
)

MAX_ROWS = 8


@pytest.fixture(scope="module")
def engine(models_dir: Path, contract: Contract) -> TensorFlowEngine:
    """Warmed up for 8 rows."""
    engine = TensorFlowEngine(models_dir / "default" / "2", contract, MAX_ROWS)
    engine.warm_up()
    return engine


def test_it_is_compiled_for_powers_of_two(engine: TensorFlowEngine) -> None:
    assert engine.remark == "XLA, compiled for batches of 1, 2, 4, 8"


@pytest.mark.parametrize(
    ("max_windows", "sizes"), [(1, (1,)), (2, (1, 2)), (5, (1, 2, 4, 8)), (10_000, (1, 2, 4, 8, 16, 32, 64, 128, 256))]
)
def test_the_ladder_holds_the_largest_batch_or_ends(max_windows: int, sizes: tuple[int, ...]) -> None:
    assert module._ladder(max_windows) == sizes


def test_large_windows_are_prepared_for_in_smaller_batches(contract: Contract) -> None:
    assert call_windows(contract, 256) == 256
    assert call_windows(contract.model_copy(update={"steps": 2**20}), 256) == 8
    assert call_windows(contract.model_copy(update={"horizon": 2**21}), 256) == 8
    assert call_windows(contract.model_copy(update={"horizon": 2**21}), 1) == 1


@pytest.mark.parametrize("shape", [(MAX_NUMBERS + 1,), (2, 2**20 + 1), (1, MAX_COLUMNS + 1)])
def test_a_foreign_model_that_takes_more_than_a_request_can_hold_is_refused(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    module = tf.Module()
    windows = tf.TensorSpec((None, *shape), tf.float32, name="windows")
    module.serve = tf.function(lambda windows: {"forecast": tf.reduce_sum(windows, 1)}, input_signature=[windows])
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.serve})
    with pytest.raises(ArtifactError, match=f"but at most {MAX_NUMBERS} in {MAX_COLUMNS} can be served"):
        TensorFlowEngine(tmp_path, None, 1)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 7, 8, 9, 16, 21])
def test_a_batch_of_any_size_answers_as_its_windows_alone_and_as_the_saved_model(
    rows: int, engine: TensorFlowEngine, models_dir: Path, contract: Contract
) -> None:
    windows = some_windows(rows, contract, seed=rows)
    together = engine.predict(Inputs(windows))
    assert together.shape == (rows, *contract.forecast_shape)
    assert together.dtype == np.float32
    saved = tf.saved_model.load(str(models_dir / "default" / "2")).signatures["serving_default"]
    assert_allclose(
        together, np.concatenate([engine.predict(Inputs(window[None])) for window in windows]), rtol=0, atol=1e-6
    )
    assert_allclose(together, saved(windows=tf.constant(windows))["forecast"], rtol=0, atol=1e-6)
    assert_allclose(together, expected_forecasts(windows, contract), rtol=0, atol=1e-6)


def test_the_order_of_a_batch_is_kept(engine: TensorFlowEngine, contract: Contract) -> None:
    windows = some_windows(21, contract)
    assert_array_equal(engine.predict(Inputs(windows))[::-1], engine.predict(Inputs(windows[::-1].copy())))


@pytest.mark.parametrize(
    "contract",
    [
        contract_of(steps=1, features=("co2",), horizon=1),
        contract_of(steps=7, features=("a", "b", "c"), horizon=5, targets=3),
    ],
)
def test_any_contract_is_kept(contract: Contract, tmp_path: Path) -> None:
    save_model(tmp_path, contract, mean_ahead(contract))
    engine = TensorFlowEngine(tmp_path, contract, 2)
    engine.warm_up()
    windows = some_windows(3, contract)
    assert_allclose(engine.predict(Inputs(windows)), expected_forecasts(windows, contract), rtol=0, atol=1e-6)


def test_nothing_is_traced_for_a_request(models_dir: Path, contract: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    def function(*arguments: Any, **options: Any) -> Any:
        functions.append(make_function(*arguments, **options))
        return functions[-1]

    make_function = tf.function
    functions: list[Any] = []
    monkeypatch.setattr(tf, "function", function)
    engine = TensorFlowEngine(models_dir / "default" / "2", contract, MAX_ROWS)
    engine.warm_up()
    [compiled] = functions
    traced = compiled.experimental_get_tracing_count()
    assert traced == 4
    for rows in range(1, 2 * MAX_ROWS + 2):
        engine.predict(Inputs(some_windows(rows, contract)))
    assert len(functions) == 1
    assert compiled.experimental_get_tracing_count() == traced


def test_nothing_is_compiled_for_a_request(contract: Contract, tmp_path: Path) -> None:
    def compiled() -> set[str]:
        return {path.name for path in dumps.iterdir()}

    make_version(tmp_path / "models", contract)
    make_version(tmp_path / "models", contract_of(features=("co2",)), "flat")
    make_version(tmp_path / "models", contract, "slow", make_forecast=laborious)
    dumps = tmp_path / "dumps"
    with running(tmp_path, XLA_FLAGS=f"--xla_dump_to={dumps}") as server, server.client() as client:
        server.wait_for("/readyz")
        before = compiled()
        assert before, "the compiler did not say what it compiles"
        window = [[1, 0], [2, 0], [3, 0], [6, 0]]
        for model in ("default", "flat", "slow"):
            for rows in range(1, MAX_ROWS + 1):
                batch = [[row[:1] if model == "flat" else row for row in window]] * rows
                assert client.post(f"/predict/batch?model={model}", json={"windows": batch}).status_code == 200
        assert compiled() == before


def test_the_event_loop_turns_while_it_computes(contract: Contract, tmp_path: Path) -> None:
    save_model(tmp_path, contract, laborious(contract))
    engine = TensorFlowEngine(tmp_path, contract, 1)
    engine.warm_up()
    assert_python_goes_on(lambda: engine.predict(Inputs(np.full((1, 4, 2), 100_000, np.float32))))


def test_a_model_that_xla_cannot_compile_is_run_plainly(tmp_path: Path, contract: Contract) -> None:
    def through_text(windows: tf.Tensor) -> tf.Tensor:
        return mean_ahead(contract)(tf.strings.to_number(tf.strings.as_string(windows, precision=9)))

    save_model(tmp_path, contract, through_text)
    engine = TensorFlowEngine(tmp_path, contract, MAX_ROWS)
    engine.warm_up()
    assert engine.remark == "plain execution, because XLA cannot compile this model"
    windows = some_windows(11, contract)
    assert_allclose(engine.predict(Inputs(windows)), expected_forecasts(windows, contract), atol=1e-6)


def test_a_model_that_xla_computes_otherwise_is_run_plainly(
    models_dir: Path, contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "deviation", lambda *_: 1.5)
    engine = TensorFlowEngine(models_dir / "default" / "2", contract, MAX_ROWS)
    engine.warm_up()
    assert engine.remark == "plain execution, because XLA gave other numbers than plain execution"
    windows = probe_inputs(contract, 3).windows
    assert_allclose(engine.predict(Inputs(windows)), expected_forecasts(windows, contract), atol=1e-6)


@pytest.mark.parametrize("has_too_many", [False, True])
def test_a_model_that_does_not_keep_to_its_shape_is_not_believed(
    has_too_many: bool, tmp_path: Path, contract: Contract
) -> None:
    def forecast(windows: tf.Tensor) -> tf.Tensor:
        forecasts = mean_ahead(contract)(windows)
        if has_too_many:  # the padding of a batch must not hide them
            return tf.concat([forecasts, forecasts[:1]], axis=0)
        return tf.boolean_mask(forecasts, windows[:, -1, 0] != 0)

    save_model(tmp_path, contract, forecast)
    engine = TensorFlowEngine(tmp_path, contract, MAX_ROWS)
    engine.warm_up()
    with pytest.raises(ValueError, match="but the contract needs"):
        engine.predict(Inputs(np.zeros((3, *contract.window_shape), np.float32)))


def test_a_folder_without_a_saved_model_is_named(tmp_path: Path, contract: Contract) -> None:
    with pytest.raises(ArtifactError, match=r"is not a SavedModel that loads \(OSError\)"):
        TensorFlowEngine(tmp_path, contract, 1)


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/variables.index"])
def test_a_file_cut_short_is_no_saved_model(name: str, version_dir: Path, contract: Contract) -> None:
    path = version_dir / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ArtifactError, match="is not a SavedModel that loads"):
        TensorFlowEngine(version_dir, contract, 1)


@pytest.mark.parametrize(
    "served",
    [
        contract_of(steps=5),
        contract_of(features=("load", "temp", "wind")),
        contract_of(horizon=3),
        contract_of(targets=2),
    ],
)
def test_a_signature_of_other_shapes_is_refused(served: Contract, version_dir: Path) -> None:
    with pytest.raises(ArtifactError, match=r"serving_default has .* but the contract needs float32"):
        TensorFlowEngine(version_dir, served, 1)


@pytest.mark.parametrize(
    ("signatures", "problem"),
    [
        ({}, "has no signature serving_default"),
        ({"other": ("windows",)}, "has no signature serving_default"),
        (
            {"serving_default": ("windows", "more")},
            "has more .* and windows .* but the contract needs float32 .* alone",
        ),
        ({"serving_default": ("whole",)}, "whole int32"),
    ],
)
def test_a_signature_that_is_not_ours_is_refused(
    signatures: dict[str, tuple[str, ...]], problem: str, tmp_path: Path, contract: Contract
) -> None:
    save_with_signatures(tmp_path, contract, signatures)
    with pytest.raises(ArtifactError, match=problem):
        TensorFlowEngine(tmp_path, contract, 1)


def save_with_signatures(version_dir: Path, contract: Contract, signatures: dict[str, tuple[str, ...]]) -> None:
    """A SavedModel whose signatures take inputs of these names; `whole` takes integers."""
    types = {"whole": tf.int32}
    made = {}
    for signature, names in signatures.items():
        inputs = [
            tf.TensorSpec((None, *contract.window_shape), types.get(name, tf.float32), name=name) for name in names
        ]
        made[signature] = tf.function(lambda *given: {"forecast": sum_of(given)}, input_signature=inputs)
    module = tf.Module()
    module.kept = list(made.values())
    concrete = {name: function.get_concrete_function() for name, function in made.items()}
    tf.saved_model.save(module, str(version_dir), signatures=concrete or None)


def sum_of(tensors: tuple[Any, ...]) -> Any:
    return tf.add_n([tf.cast(tensor, tf.float32)[:, :2, :1] for tensor in tensors])
