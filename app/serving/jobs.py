"""What waits in a queue, and what a call of the engine makes of it."""

import asyncio
import time
from dataclasses import dataclass

import numpy as np

from app.arrays import Array, Inputs
from app.errors import PredictionFailed
from app.exchange import Stage, Stages
from app.telemetry.logs import get_logger
from app.telemetry.metrics import Batch

log = get_logger()

NO_INPUTS = Inputs(np.empty(0, np.float32))


class Job:
    """The inputs of one request, and the future of their forecasts."""

    __slots__ = ("allow_nan", "deadline", "forecasts", "inputs", "is_queued", "size", "stages", "submitted")

    def __init__(
        self,
        inputs: Inputs,
        deadline: float,
        forecasts: asyncio.Future[Array],
        stages: Stages | None,
        *,
        allow_nan: bool,
    ) -> None:
        self.inputs = inputs
        self.size = len(inputs)
        self.deadline = deadline
        self.forecasts = forecasts
        self.stages = stages
        self.allow_nan = allow_nan
        self.is_queued = True
        self.submitted = time.perf_counter()

    @property
    def is_wanted(self) -> bool:
        """Whether somebody still waits for the forecasts."""
        return not self.forecasts.done()


@dataclass(slots=True)
class Computed:
    """A call of the engine that has succeeded.

    Attributes:
        jobs: The jobs that the call computed.
        forecasts: Their forecasts one after another.
        started: When the call began, by `time.perf_counter`.
        ended: When the call ended.
    """

    jobs: list[Job]
    forecasts: Array
    started: float
    ended: float

    @property
    def facts(self) -> Batch:
        """What the metrics count of the call."""
        waits = [self.started - job.submitted for job in self.jobs]
        return Batch(len(self.forecasts), self.ended - self.started, waits)


def share_out(computed: Computed) -> None:
    """Gives each job its forecasts. A job whose forecasts are not finite fails, unless it allows them."""
    is_sound = np.isfinite(computed.forecasts).all()
    start = 0
    for job in computed.jobs:
        own = computed.forecasts[start : start + job.size]
        start += job.size
        if not (is_sound or job.allow_nan or np.isfinite(own).all()):
            log.error("forecast is not finite", windows=job.size)
            fail(job)
        elif job.is_wanted:
            if job.stages is not None:
                job.stages[Stage.QUEUE] = job.submitted, computed.started
                job.stages[Stage.COMPUTE] = computed.started, computed.ended
            job.forecasts.set_result(own)


def fail(job: Job) -> None:
    """Tells the caller of a job that the engine failed."""
    if job.is_wanted:
        job.forecasts.set_exception(PredictionFailed())
