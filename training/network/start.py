"""Settles where a network starts: the lags and the calendar that the linear path reads, and the scale of its windows.

The lags are chosen on the training part alone, see `lags`. Calendar and scale are chosen by validation, as the network
beside the path will be: the regression is fitted on the training part with each, and forecasts the validation part.
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


CALENDAR_GAIN = 0.03
"""Share by which the calendar must lower the error: with it, a client has to say for when it wants a forecast."""


def settle_start(config: TrainingConfig, dataset: Dataset) -> tuple[TrainingConfig, Dataset]:
    """Chooses lags, calendar and scale where the configuration leaves them open.

    Args:
        config: The configuration; its lags, its calendar and its scale may be `auto`.
        dataset: The data set, as `training.data.prepare` makes it.

    Returns:
        The configuration with all of them settled, and the data set with windows to fit.

    Raises:
        ConfigError: The configuration asks for lags that the data set cannot give.
    """
    config, dataset = settle_lags(config, dataset)
    candidates = [dataset.with_calendar(())] if config.calendar == "auto" else [dataset]
    if config.calendar == "auto" and dataset.calendar:
        candidates.append(dataset)
    if len(candidates) == 1 and (config.scale != "auto" or not config.skip):
        return _settled(config, candidates[0], config.chosen_scale)
    choices = [_best_scale(config, candidate) for candidate in candidates]
    (without, _), (best, _) = choices[0], choices[-1]
    taken = -1 if best < (1 - CALENDAR_GAIN) * without else 0
    return _settled(config, candidates[taken], choices[taken][1] if config.skip else config.chosen_scale)


def _settled(config: TrainingConfig, dataset: Dataset, scale: Scale) -> tuple[TrainingConfig, Dataset]:
    names = tuple(phase.name for phase in dataset.calendar)
    return config.model_copy(update={"calendar": names or "none", "scale": scale}), dataset


def _best_scale(config: TrainingConfig, dataset: Dataset) -> tuple[float, Scale]:
    """Returns the lowest validation error of the regression, and its scale; the usual scale where it is close."""
    scales = SCALES if config.scale == "auto" else (config.scale,)
    errors = {scale: validation_error(dataset, fit_scaling(dataset, scale, config.output)) for scale in scales}
    best = min(scales, key=lambda scale: errors[scale])
    scale = best if errors[best] < (1 - LEAST_GAIN) * errors[scales[0]] else scales[0]
    return errors[scale], scale
