"""What the metrics of all workers say of each version, as plain numbers."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client.samples import Sample

from app.telemetry.exposition import collect

REQUESTS = "windowcast_request_seconds"


@dataclass(frozen=True, slots=True)
class Timed:
    """How often something was timed, and the sum of its times in seconds."""

    count: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of a version since the start. Times of the engine count calls, all others count requests.

    Attributes:
        last_prediction: Unix time of the last request that was answered with forecasts; 0 if there was none.
        windows: How many windows the engine computed.
        calls: How often the engine was called.
        succeeded: Requests that got what they asked for.
        failed: All other requests.
        queue: Time in the queue.
        decoding: Time from bodies to windows.
        engine: Time of the engine.
        encoding: Time from forecasts to bodies.
    """

    last_prediction: float = 0.0
    windows: int = 0
    calls: int = 0
    succeeded: Timed = Timed()
    failed: Timed = Timed()
    queue: Timed = Timed()
    decoding: Timed = Timed()
    engine: Timed = Timed()
    encoding: Timed = Timed()


def figures_by_version() -> dict[tuple[str, int], Figures]:
    """Returns the figures of every version that was asked, by model and version."""
    samples: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for metric in collect():
        for sample in metric.samples:
            if {"model", "version"} <= sample.labels.keys() and not sample.name.endswith("_bucket"):
                samples[sample.labels["model"], sample.labels["version"]].append(sample)
    return {(model, int(version)): _figures(own) for (model, version), own in samples.items() if version}


def _figures(samples: Sequence[Sample]) -> Figures:
    requests = [sample for sample in samples if sample.name.startswith(REQUESTS)]
    return Figures(
        last_prediction=_total(samples, "windowcast_last_prediction_timestamp_seconds"),
        windows=round(_total(samples, "windowcast_batch_windows_sum")),
        calls=round(_total(samples, "windowcast_batch_windows_count")),
        succeeded=_timed([sample for sample in requests if sample.labels["outcome"] == "ok"], REQUESTS),
        failed=_timed([sample for sample in requests if sample.labels["outcome"] != "ok"], REQUESTS),
        queue=_timed(samples, "windowcast_queue_seconds"),
        decoding=_timed(samples, "windowcast_decoding_seconds"),
        engine=_timed(samples, "windowcast_engine_seconds"),
        encoding=_timed(samples, "windowcast_encoding_seconds"),
    )


def _timed(samples: Sequence[Sample], metric: str) -> Timed:
    return Timed(round(_total(samples, f"{metric}_count")), _total(samples, f"{metric}_sum"))


def _total(samples: Sequence[Sample], name: str) -> float:
    return sum(sample.value for sample in samples if sample.name == name)
