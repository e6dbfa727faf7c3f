"""The time of a request: the number of the first row to forecast, or the row's time as a text."""

from datetime import datetime

from app.payloads.lists import kind_of
from app.version.grid import INT64_MAX, row_number
from app.version.manifest import Frequency

EXAMPLE = "2026-11-29T13:00:00"

MAX_TEXT_CHARACTERS = 48
"""Longest text that is read as a time. A time with microseconds and a zone has 32 characters."""


def read_time(value: object, spacing: Frequency | None) -> int:
    """Returns the number of a row that a body gives by its number or by its time.

    Args:
        value: A whole number, or a text as ISO 8601 writes times, whose zone is ignored.
        spacing: The distance between rows; None where rows have no times.

    Raises:
        ValueError: The value is neither. The error says in words what was expected.
    """
    if type(value) is int:
        if not -INT64_MAX <= value <= INT64_MAX:
            raise ValueError("expected a whole number within int64, got a larger one")
        return value
    came = "a number that is not whole" if type(value) is float else kind_of(value)
    if spacing is None or spacing.unit == "step":
        raise ValueError(f"expected the whole number of a row, got {came}")
    if type(value) is str:
        time = _parsed(value) if len(value) <= MAX_TEXT_CHARACTERS else None
        if time is not None:
            return row_number(time, spacing)
        came = "another string"
    raise ValueError(f"expected a time such as {EXAMPLE}, or the whole number of a row, got {came}")


def _parsed(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
