"""Settings of every test, in each of the processes that share the tests."""

import gc
import os

import hypothesis

# Its threads spin while they wait for work, which costs more than they gain on arrays of this size.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# How long an example takes says how busy the machine is, and nothing of the code.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


def pytest_collection_finish() -> None:
    """Keeps the garbage collector from searching what the imports made, again and again: it stays to the end."""
    gc.collect()
    gc.freeze()
