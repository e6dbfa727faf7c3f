"""Chooses the lags: which seasons before a row of the forecast the linear path reads.

The choice is made by the linear autoregression alone, in seconds: the mean absolute error over rolling origins at the
end of the training part. Validation and test are not used. What the regression can use, the network starts from.
"""

from collections.abc import Iterator

from training.config import TrainingConfig
from training.data.period import suggested
from training.data.windows import Dataset
from training.errors import ConfigError
from training.network.layers import fit_scaling
from training.network.reading import places_of
from training.network.ridge import TAIL, late_error

MOST_SEASONS = 3
"""Seasons before a row that are tried together."""

LONGEST_SHARE = 0.25
"""Longest lag, as a share of the training rows: the first rows of a lag are lost as targets."""

LONGEST_LAG = 2048
"""Longest lag that is tried. A longer one makes every request larger; --lags can ask for it."""

LEAST_GAIN = 0.02
"""Share by which more lags must lower the error to be taken."""

ENOUGH = 1e-3
"""An error of so few standard deviations leaves nothing to gain."""

Lags = tuple[int, ...]


def settle_lags(config: TrainingConfig, dataset: Dataset) -> tuple[TrainingConfig, Dataset]:
    """Chooses the lags where the configuration leaves them open, and makes windows that are long enough for them.

    Args:
        config: The configuration; its lags may be `auto`.
        dataset: The data set, as `training.data.prepare` makes it.

    Returns:
        The configuration with its lags settled, and the data set with windows to fit.

    Raises:
        ConfigError: The configuration asks for lags that the data set cannot give.
    """
    if isinstance(config.lags, tuple):
        _check(config.lags, dataset)
        lags = config.lags
    elif config.lags == "auto" and config.skip:
        lags = _best(config, dataset)
    else:
        lags = ()
    config = config.model_copy(update={"lags": lags or "none"})
    return config, dataset.with_lags(lags) if lags else dataset


def _check(lags: Lags, dataset: Dataset) -> None:
    if dataset.rows is None:
        raise ConfigError("--lags reads rows before a window, but these windows stand alone; use --lags none")
    needed, there = max(lags) + dataset.rows.horizon, dataset.rows.edges[1]
    if needed > there:
        raise ConfigError(
            f"--lags {max(lags)} needs at least {needed} rows to train, but there are {there}; choose a shorter "
            "lag, or bring more rows"
        )
    missing = next((name for name in dataset.target_names if name not in dataset.feature_names), None)
    if missing is not None:
        raise ConfigError(
            f"--lags needs the targets among the features; add '{missing}' to --features, or use --lags none"
        )


def _best(config: TrainingConfig, dataset: Dataset) -> Lags:
    """Returns the lags with the lowest error; fewer lags where more gain little."""
    if dataset.rows is None or not dataset.selection.any(axis=0).all():
        return ()
    candidates = list(dict.fromkeys(_candidates(dataset, dataset.rows.edges[1])))
    longest = max((max(lags) for lags in candidates), default=0)
    if longest <= config.window:
        return ()
    tail = int(TAIL * len(dataset.with_lags([longest]).train.windows))  # the same for all, while the rows before differ
    scaling = fit_scaling(dataset, config.chosen_scale, config.output)
    best, least = Lags(), late_error(dataset, scaling, tail)
    for lags in candidates:
        tried = dataset.with_lags(lags)
        if len(places_of(tried)) == dataset.recent_steps * len(dataset.feature_names):
            continue  # the window reaches back as far
        error = late_error(tried, scaling, tail)
        if error < (1 - LEAST_GAIN) * least and least > ENOUGH:
            best, least = lags, error
    return best


def _candidates(dataset: Dataset, rows: int) -> Iterator[Lags]:
    """Yields sets of lags, small sets first: of seasons that the calendar knows, and of the season that was found."""
    seasons = sorted({*suggested(dataset.frequency), *([dataset.period] if dataset.period else [])})
    longest = min(LONGEST_LAG, int(LONGEST_SHARE * rows))
    seasons = [season for season in seasons if season <= longest]
    for count in range(1, MOST_SEASONS + 1):
        for season in seasons:
            lags = tuple(season * number for number in range(1, count + 1))
            if lags[-1] <= longest:
                yield lags
    if len(seasons) > 1:
        yield tuple(seasons)
