"""TensorBoard's logs, read back as TensorBoard would."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.training.tiny import config_of, dataset_of, part_of, waves
from training.errors import ConfigError
from training.fitting.fit import fit
from training.fitting.history import Epoch, History
from training.fitting.tensorboard import EventWriter
from training.network.model import Forecaster, build_model

DATASET = dataset_of(part_of(waves()))


def fitted(folder: Path) -> History:
    config = config_of(epochs=3, tensorboard=folder)
    writer = EventWriter(folder, config.name)
    return fit(Forecaster(build_model(config, DATASET)), config, DATASET.train, DATASET.validation, writer)


def read(run: Path) -> dict[str, dict[int, float]]:
    """Values by name and step."""
    found: dict[str, dict[int, float]] = {}
    [path] = run.glob("events.out.tfevents.*")
    for record in tf.data.TFRecordDataset(str(path)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            assert value.metadata.plugin_data.plugin_name == "scalars"
            found.setdefault(value.tag, {})[event.step] = float(tf.make_ndarray(value.tensor))
    return found


def test_every_epoch_is_written(tmp_path: Path) -> None:
    history = fitted(tmp_path / "logs")

    [run] = (tmp_path / "logs").iterdir()
    written = read(run)
    assert set(written) == {"loss", "validation_loss", "gradient_norm", "largest_norm"}
    for name, values in written.items():
        expected = {epoch.number: np.float32(getattr(epoch, name)) for epoch in history.epochs}
        assert values == pytest.approx(expected)


def test_every_run_has_a_folder_of_its_own(tmp_path: Path) -> None:
    for _ in range(2):
        with EventWriter(tmp_path, "default") as writer:
            writer.epoch_done(Epoch(1, 0.5, 0.25, best=True))

    runs = sorted(tmp_path.iterdir())
    assert len(runs) == 2
    assert all(run.name.startswith("default-") for run in runs)
    assert read(runs[0]) == read(runs[1])


def test_what_is_no_number_is_left_out(tmp_path: Path) -> None:
    with EventWriter(tmp_path, "a") as writer:
        writer.epoch_done(Epoch(1, 0.5, float("nan"), best=True))

    [run] = tmp_path.iterdir()
    assert read(run) == {"loss": {1: 0.5}}


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ConfigError, match=r"--tensorboard .*file.* cannot be written to \(Not a directory\)"):
        EventWriter(tmp_path / "file", "a")
