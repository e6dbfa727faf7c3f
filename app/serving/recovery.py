"""Computes once more what failed in one call, in halves: a request that fails spoils no other request.

A call may fail because of one window, or because it has more windows than the engine can take. Halves find out which,
in few calls. Every call waits for its turn in the engine's thread, so other models compute in between, and no call is
made for a request that nobody waits for any more.
"""

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import numpy as np

from app.arrays import Array, Inputs, concatenate
from app.serving.jobs import Computed, Job, fail, share_out
from app.telemetry.logs import get_logger

log = get_logger()

Compute = Callable[[Inputs], Awaitable[Array]]
"""Computes the forecasts of inputs in the engine's thread."""

Part = TypeVar("Part", Inputs, list[Job])


async def compute_again(batch: list[Job], error: Exception, compute: Compute) -> None:
    """Gives the jobs of a call that failed their forecasts, or fails them.

    Args:
        batch: The jobs of the call.
        error: How the call failed.
        compute: Computes inputs.
    """
    log.warning("batch failed; computing it again in halves", requests=len(batch), exc_info=error)
    if len(batch) == 1:
        await _compute_in_pieces(batch[0], compute, _halves(batch[0].inputs))
        return
    groups = _halves(batch)
    while groups:
        group = [job for job in groups.pop() if job.is_wanted]
        if len(group) == 1:
            await _compute_in_pieces(group[0], compute, [group[0].inputs])
        elif group and not await _is_computed(group, compute):
            groups += _halves(group)


async def _is_computed(jobs: list[Job], compute: Compute) -> bool:
    """Computes jobs in one call, and tells whether the call succeeded."""
    started = time.perf_counter()
    try:
        forecasts = await compute(concatenate([job.inputs for job in jobs]))
    except Exception:  # noqa: BLE001 (the job that fails alone tells)
        return False
    share_out(Computed(jobs, forecasts, started, time.perf_counter()))
    return True


async def _compute_in_pieces(job: Job, compute: Compute, pieces: list[Inputs]) -> None:
    """Computes one job, and halves the pieces that fail. A single window that fails is the end of the job."""
    started = time.perf_counter()
    forecasts: list[Array] = []
    while pieces and job.is_wanted:
        piece = pieces.pop()
        try:
            forecasts.append(await compute(piece))
        except Exception:
            if len(piece) == 1:
                log.exception("prediction failed", windows=job.size)
                fail(job)
                return
            pieces += _halves(piece)
    if not pieces:
        share_out(Computed([job], np.concatenate(forecasts), started, time.perf_counter()))


def _halves(whole: Part) -> list[Part]:
    """Returns the second half and the first, as a stack gives them back; the whole if it has a single item."""
    middle = len(whole) // 2
    return [whole[middle:], whole[:middle]] if middle else [whole]
