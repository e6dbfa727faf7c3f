"""What all parsers of JSON share."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keeps the collector of cycles away while JSON is parsed.

    JSON makes no cycles, and the collector would go through millions of lists again and again.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
