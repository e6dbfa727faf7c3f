"""Names in error texts: lists of names, and names that a caller sent."""

from collections.abc import Sequence
from urllib.parse import quote

MAX_NAMES_SHOWN = 8
"""How many names a list shows."""

MAX_LISTED_CHARACTERS = 40
"""Longest part of a listed name that is shown."""

MAX_QUOTED_CHARACTERS = 64
"""Longest part of a caller's name that an error repeats."""


def listed(names: Sequence[str]) -> str:
    """Lists names in a sentence: the first few, and how many more there are."""
    shown = ", ".join(name[:MAX_LISTED_CHARACTERS] for name in names[:MAX_NAMES_SHOWN])
    return f"{shown} and {len(names) - MAX_NAMES_SHOWN} more" if len(names) > MAX_NAMES_SHOWN else shown


def quoted(name: str, max_characters: int = MAX_QUOTED_CHARACTERS) -> str:
    """Returns the start of a caller's name, percent-encoded so that it is safe in an answer."""
    return quote(name[:max_characters], safe="/:%", errors="replace")
