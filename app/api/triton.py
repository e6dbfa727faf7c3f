"""Triton's extensions of the Open Inference Protocol, as documents: configuration, statistics, repository index."""

from typing import Any

from app.payloads.open_inference.tensors import DATATYPE
from app.serving.catalogue import ServedVersion
from app.serving.policies import Policy
from app.serving.states import State, Status
from app.telemetry.figures import Figures, Timed
from app.version.signature import Layout

PLATFORM = "tensorflow_savedmodel"
"""What a version is on disk, whatever computes it."""

STATES = {State.AVAILABLE: "READY", State.LOADING: "LOADING"}

NOT_SERVING = "UNAVAILABLE"

NOTHING = {"count": 0, "ns": 0}


def configured_tensors(layout: Layout) -> list[dict[str, Any]]:
    """Describes tensors in a model's configuration, without the batch."""
    return [{"name": tensor.name, "data_type": f"TYPE_{DATATYPE}", "dims": tensor.shape} for tensor in layout.tensors]


def version_policy(policy: Policy) -> dict[str, Any]:
    """Describes the versions that a model should serve."""
    if policy.versions is not None:
        return {"specific": {"versions": policy.versions}}
    return {"latest": {"num_versions": policy.latest or 1}}


def index_entry(name: str, version: int, status: Status) -> dict[str, str]:
    """Describes where a version stands, for the repository index."""
    state = STATES.get(status.state, NOT_SERVING)
    reason = status.reason or ("" if status.state in STATES else status.state.value)
    return {"name": name, "version": str(version), "state": state, "reason": reason}


def statistics(served: ServedVersion, figures: Figures) -> dict[str, Any]:
    """Describes the figures of a version, for the statistics of a model."""
    return {
        "name": served.name,
        "version": str(served.version),
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
