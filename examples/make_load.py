"""Writes `load.csv` beside this file: six weeks of hourly electricity load and temperature, made up and not measured.

    python examples/make_load.py

Load follows the hour of the day, is lower at weekends, and rises where it is cold enough to heat or warm enough to
cool. Temperature follows the hour too, around weather that wanders. The numbers are drawn from numpy's `RandomState`,
whose stream never changes, so everyone gets the same file.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FILE = Path(__file__).with_name("load.csv")
START = np.datetime64("2024-04-01T00", "h")
"""A Monday."""
HOURS = 6 * 7 * 24
SEED = 7

DAILY_MW = np.array([0, -6, -9, -10, -9, -4, 8, 24, 32, 30, 28, 27, 26, 25, 26, 29, 34, 40, 42, 36, 26, 16, 8, 3]) * 4
"""By hour of the day, how far the load of a working day is above that of midnight."""
WEEKEND = 0.55
"""Share of the daily course that is left on Saturdays and Sundays."""
HEATED_BELOW, COOLED_ABOVE = 14, 20
"""Degrees Celsius."""


def table() -> tuple[NDArray[np.datetime64], NDArray[np.float64], NDArray[np.float64]]:
    """Returns the times, the load in MW and the temperature in degrees Celsius, each of (hours,)."""
    random = np.random.RandomState(SEED)
    hours = np.arange(HOURS)
    weather = np.zeros(HOURS)
    for hour in hours[1:]:
        weather[hour] = 0.97 * weather[hour - 1] + random.normal(0, 0.6)
    temperature = 16 + 5 * np.sin((hours - 9) / 24 * 2 * np.pi) + weather
    is_weekend = hours // 24 % 7 >= 5
    daily = DAILY_MW[hours % 24] * np.where(is_weekend, WEEKEND, 1)
    heating = 9 * np.maximum(HEATED_BELOW - temperature, 0)
    cooling = 11 * np.maximum(temperature - COOLED_ABOVE, 0)
    load = 500 + daily + heating + cooling + random.normal(0, 4, HOURS)
    return START + hours, load, temperature


def main() -> None:
    """Writes the file."""
    rows = (
        f"{str(time).replace('T', ' ')}:00,{load:.1f},{temp:.1f}" for time, load, temp in zip(*table(), strict=True)
    )
    FILE.write_text("\n".join(["timestamp,load,temp", *rows]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
