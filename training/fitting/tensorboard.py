"""Writes how a fit goes for TensorBoard, which need not be installed: TensorFlow's core writes the files."""

import math
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import tensorflow as tf

from training.errors import ConfigError
from training.fitting.history import Epoch
from training.fitting.listener import Listener

SCALARS = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "scalars"}, data_class=1)
"""Tells TensorBoard to draw a value's curve over the steps; `tf.summary.scalar` would need TensorBoard itself."""


class EventWriter(Listener):
    """Writes losses and norms of every epoch, each epoch as soon as it is over.

    Args:
        folder: For many runs; this one gets a folder of its own in it.
        name: Of the model, the start of that folder's name; the time follows.
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
        """Writes what of the epoch is a finite number."""
        with self._writer.as_default():
            for name in ("loss", "validation_loss", "gradient_norm", "largest_norm"):
                value = getattr(epoch, name)
                if math.isfinite(value):
                    tf.summary.write(name, tf.constant(value), step=epoch.number, metadata=SCALARS)
        self._writer.flush()
