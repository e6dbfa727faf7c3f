"""Writes for TensorBoard how a fit goes. TensorBoard need not be installed: TensorFlow's core writes the files."""

import math
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import tensorflow as tf

from training.errors import ConfigError
from training.fitting.history import Epoch
from training.fitting.listener import Listener

SCALARS = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "scalars"}, data_class=1)
"""Tells TensorBoard to draw a value over the steps; `tf.summary.scalar` would need TensorBoard itself."""


class EventWriter(Listener):
    """Writes losses and norms of every epoch, as soon as the epoch is over.

    Args:
        folder: Folder of many runs; this run gets a folder of its own in it.
        name: Name of the model, with which the name of the run's folder starts; the time follows.

    Raises:
        ConfigError: The folder cannot be written to.
    """

    def __init__(self, folder: Path, name: str) -> None:
        run = folder / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
        try:
            run.mkdir(parents=True)
        except OSError as error:
            raise ConfigError(f"--tensorboard {folder}: cannot be written to ({error.strerror})") from None
        self._writer = tf.summary.create_file_writer(str(run))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._writer.close()

    def epoch_done(self, epoch: Epoch) -> None:
        """Writes the values of the epoch that are finite numbers."""
        with self._writer.as_default():
            for name in ("loss", "validation_loss", "gradient_norm", "largest_norm"):
                value = getattr(epoch, name)
                if math.isfinite(value):
                    tf.summary.write(name, tf.constant(value), step=epoch.number, metadata=SCALARS)
        self._writer.flush()
