"""Settles where a network starts: the lags that the linear path reads, and the scale that its windows have.

The lags are chosen on the training part alone, see `lags`. The scale is chosen by validation, as the network beside the
path will be: the regression is fitted on the training part in each scale, and forecasts the validation part.
"""

from training.config import Scale, TrainingConfig
from training.data.windows import Dataset
from training.network.lags import settle_lags
from training.network.layers import fit_scaling
from training.network.ridge import validation_error

SCALES: tuple[Scale, ...] = ("last", "standard", "window")
"""The scales that are tried, the usual scale first."""

LEAST_GAIN = 0.01
"""Share by which another scale must lower the error of the usual scale. Smaller gains were as often losses on the test
part, over 13 real series (docs/decisions/0021-scale-size-and-time-of-a-fit.md)."""


def settle_start(config: TrainingConfig, dataset: Dataset) -> tuple[TrainingConfig, Dataset]:
    """Chooses lags and scale where the configuration leaves them open.

    Args:
        config: The configuration; its lags and its scale may be `auto`.
        dataset: The data set, as `training.data.prepare` makes it.

    Returns:
        The configuration with both settled, and the data set with windows to fit.

    Raises:
        ConfigError: The configuration asks for lags that the data set cannot give.
    """
    config, dataset = settle_lags(config, dataset)
    if config.scale != "auto":
        return config, dataset
    scale = _best_scale(config, dataset) if config.skip else SCALES[0]
    return config.model_copy(update={"scale": scale}), dataset


def _best_scale(config: TrainingConfig, dataset: Dataset) -> Scale:
    """Returns the scale in which the regression has the lowest validation error; the usual scale where it is close."""
    errors = {scale: validation_error(dataset, fit_scaling(dataset, scale, config.output)) for scale in SCALES}
    best = min(SCALES, key=lambda scale: errors[scale])
    return best if errors[best] < (1 - LEAST_GAIN) * errors[SCALES[0]] else SCALES[0]
