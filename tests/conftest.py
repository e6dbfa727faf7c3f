"""What holds for every test, and for the processes that the tests are shared out among."""

import gc
import os

import hypothesis

# Its threads wait for work by turning in circles, which costs more than they ever gain on arrays of this size.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# How long an example takes, or takes to be made, says how busy the machine is.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


def pytest_collection_finish() -> None:
    """Keeps the collector from looking again and again at what all imports have left: nothing of it ever goes."""
    gc.collect()
    gc.freeze()
