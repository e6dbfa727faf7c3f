"""Prints whole sentences for the user of a command, the same on every terminal."""

from rich.console import Console


def tell(console: Console, sentence: str) -> None:
    """Prints a sentence as it is, without colours, markup or line breaks: it may hold any names."""
    console.print(sentence, highlight=False, markup=False, soft_wrap=True)


def note(console: Console, sentence: str) -> None:
    """Prints a sentence that the user should think about."""
    tell(console, f"note: {sentence}")
