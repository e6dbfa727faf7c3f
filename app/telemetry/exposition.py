"""What the metrics tell: the series of the versions that are known, in Prometheus' format and for other protocols.

A version is known as long as a worker has a status for it, which `windowcast_version_state` says; see
`app.serving.states`. The series of a version, and of a model without versions, end when nobody knows it any more: each
has about 120, and versions come for as long as the service runs.
"""

import os
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Metric, generate_latest, multiprocess
from prometheus_client.registry import REGISTRY
from prometheus_client.samples import Sample

from app.telemetry.metrics import BY_MODEL, MULTIPROCESS_DIR, VERSION_STATE, count_queues


class Known:
    """The versions and models that are known.

    Args:
        states: Samples of `windowcast_version_state`.
    """

    def __init__(self, states: Iterable[Sample]) -> None:
        self._versions = {(each.labels["model"], each.labels["version"]) for each in states if each.value > 0}
        self._models = {model for model, _ in self._versions}

    def has(self, labels: Mapping[str, str]) -> bool:
        """Returns whether labels name a known version, a known model, or neither a version nor a model."""
        model, version = labels.get("model"), labels.get("version")
        if not model:
            return True
        return (model, version) in self._versions if version else model in self._models


class Exposed:
    """Metrics for Prometheus' own code, which asks for something to collect from."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        """Returns the metrics."""
        return self._metrics


def registry() -> CollectorRegistry:
    """Returns the metrics of all workers. Those of other workers lag by a moment, their queues by `QUEUES_SECONDS`."""
    count_queues()
    if MULTIPROCESS_DIR not in os.environ:
        return REGISTRY
    together = CollectorRegistry()
    multiprocess.MultiProcessCollector(together)  # type: ignore[no-untyped-call]
    return together


def collect() -> list[Metric]:
    """Collects the metrics of all workers, without the series of versions and models that no worker knows any more."""
    metrics = list(registry().collect())
    states = (metric.samples for metric in metrics if metric.name == "windowcast_version_state")
    known = Known(next(states, ()))
    for metric in metrics:
        metric.samples = [sample for sample in metric.samples if known.has(sample.labels)]
    return metrics


def exposition() -> bytes:
    """Writes the metrics of all workers in Prometheus' text format."""
    return generate_latest(Exposed(collect()))


def remove_ended_series() -> None:
    """Frees the series of versions and models that this process knows no more.

    A request that ends later may bring a series back, until the next call.

    Several workers share files, from which prometheus-client removes nothing, nor from its memory. So each worker keeps
    the series of ended versions, which `collect` leaves out: for each version of which every metric has told, 250 KB of
    memory until the worker ends, and 70 KB of file, in which its successor counts on.
    """
    if MULTIPROCESS_DIR in os.environ:
        return
    [states] = VERSION_STATE.collect()
    known = Known(states.samples)
    for metric in BY_MODEL:
        for values in list(metric._metrics):  # noqa: SLF001 (collecting every sample would take far longer)
            if not known.has(dict(zip(metric._labelnames, values, strict=True))):  # noqa: SLF001
                metric.remove(*values)
