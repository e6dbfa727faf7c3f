"""Documents of Triton's extensions of the Open Inference Protocol: tensors of a configuration, statistics."""

from collections.abc import Sequence
from typing import Any

from app.payloads.open_inference.tensors import datatype_of
from app.telemetry.figures import Figures, Timed
from app.version.signature import TensorSpec

PLATFORM = "tensorflow_savedmodel"
"""What a version is on disk, whatever computes it."""


NOTHING = {"count": 0, "ns": 0}


def configured_tensors(tensors: Sequence[TensorSpec]) -> list[dict[str, Any]]:
    """Describes tensors in a model's configuration, without the batch."""
    return [
        {"name": tensor.name, "data_type": f"TYPE_{datatype_of(tensor)}", "dims": tensor.shape} for tensor in tensors
    ]


def statistics(name: str, version: int, figures: Figures) -> dict[str, Any]:
    """Describes the figures of a version, for the statistics of a model."""
    return {
        "name": name,
        "version": str(version),
        "last_inference": round(1000 * figures.last_prediction),
        "inference_count": figures.windows,
        "execution_count": figures.calls,
        "inference_stats": {
            "success": _duration(figures.succeeded),
            "fail": _duration(figures.failed),
            "queue": _duration(figures.queue),
            "compute_input": _duration(figures.decoding),
            "compute_infer": _duration(figures.engine),
            "compute_output": _duration(figures.encoding),
            "cache_hit": NOTHING,
            "cache_miss": NOTHING,
        },
        "response_stats": {},
        "batch_stats": [],
        "memory_usage": [],
    }


def _duration(timed: Timed) -> dict[str, int]:
    return {"count": timed.count, "ns": round(1e9 * timed.seconds)}
