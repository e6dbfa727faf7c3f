"""How commands speak to their user: whole sentences, as they are, whatever the terminal."""

from rich.console import Console


def tell(console: Console, sentence: str) -> None:
    """Prints a sentence without colours, markup or line breaks of its own: it may hold names from anywhere."""
    console.print(sentence, highlight=False, markup=False, soft_wrap=True)


def note(console: Console, sentence: str) -> None:
    """Tells the user something to think about."""
    tell(console, f"note: {sentence}")
