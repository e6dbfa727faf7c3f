"""The cycles of the calendar: how many rows of a table each of them lasts."""

from collections.abc import Sequence
from fractions import Fraction

from app.version.grid import MICROSECONDS, MONTHS
from app.version.manifest import Frequency, Phase
from training.errors import ConfigError

DAY = MICROSECONDS["day"]
DAYS: dict[str, Fraction] = {"hour": Fraction(1), "weekday": Fraction(7), "yearday": Fraction(1461, 4)}
"""Days that a cycle lasts. A year has 365 days and a quarter."""
CYCLES = (*DAYS, "month")
"""The names of the cycles: the hour of the day, the day of the week, the day of the year, the month of the year."""

MOST_ROWS = 2**31
"""Most rows of a cycle: a year of hundredths of a second has more."""


def phase_of(name: str, frequency: Frequency) -> Phase | None:
    """Returns a cycle in rows.

    Args:
        name: One of `CYCLES`.
        frequency: Distance between rows.

    Returns:
        None if the rows do not tell the cycle: it is shorter than two rows, or rows are no times.
    """
    rows = _rows_of(name, frequency)
    if rows is None or rows < 2 or rows.numerator > MOST_ROWS:
        return None
    return Phase(name=name, rows=rows.numerator, per=rows.denominator)


def possible_calendar(frequency: Frequency | None, rows: int) -> tuple[Phase, ...]:
    """Returns the cycles of which some rows show at least two."""
    if frequency is None:
        return ()
    phases = (phase_of(name, frequency) for name in CYCLES)
    return tuple(phase for phase in phases if phase and 2 * phase.rows <= rows * phase.per)


def chosen_calendar(names: Sequence[str], frequency: Frequency | None) -> tuple[Phase, ...]:
    """Returns the cycles that a user names.

    Raises:
        ConfigError: A name is unknown, or the rows do not tell the cycle.
    """
    if frequency is None:
        raise ConfigError(
            "--calendar counts rows on a grid of times, but these rows have none; name their column with --time, or "
            "use --calendar none"
        )
    phases = []
    for name in names:
        phase = phase_of(name, frequency) if name in CYCLES else None
        if phase is None:
            fitting = ",".join(each.name for each in possible_calendar(frequency, MOST_ROWS)) or "none"
            raise ConfigError(
                f"--calendar {name} means nothing for rows that are {frequency.words} apart; expected some of {fitting}"
            )
        phases.append(phase)
    return tuple(phases)


def _rows_of(name: str, frequency: Frequency) -> Fraction | None:
    if frequency.unit in MONTHS:
        months = MONTHS[frequency.unit] * frequency.count
        return Fraction(12, months) if name == "month" else None
    if frequency.unit == "business day":
        return Fraction(5, frequency.count) if name == "weekday" else None
    if frequency.unit in MICROSECONDS and name in DAYS:
        return DAYS[name] * DAY / (MICROSECONDS[frequency.unit] * frequency.count)
    return None
