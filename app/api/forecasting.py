"""The pipeline of the product, once for all protocols: from a request to its forecasts.

    gates ──> select ──> check ──> read ──> decode ──> submit ──> encode

A protocol brings a `Dialect`, which knows its names, bodies and errors. The pipeline knows the order, the limits and
the times. Nothing here knows HTTP: a gRPC servicer or a test uses the pipeline with a request of its own.

What takes more than some 5 ms is done in the service's side thread, so that no request stops the others.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, Protocol, TypeAlias, TypeVar

from app.arrays import Array, Inputs
from app.errors import DeadlinePassed
from app.exchange import Exchange, Stage
from app.payloads.sizes import FindLargest, Largest
from app.serving.catalogue import Catalogue, ServedVersion
from app.serving.service import Service

MAX_NUMBERS_AT_ONCE = 32 * 1024
"""Most numbers of an answer that are written on the event loop. To compress them takes some 5 ms."""

NUMBER_BYTES = 4
"""Bytes of a float32."""

Gate: TypeAlias = Callable[[Exchange], None]
"""Raises a `ServiceError` where a request for forecasts may not pass: before its model is looked up."""


class Asked(Protocol):
    """A request in the form that its protocol has."""

    @property
    def exchange(self) -> Exchange:
        """What becomes of the request."""

    @property
    def size(self) -> int:
        """How many bytes it keeps in memory until it is decoded."""

    async def read(self, largest: FindLargest) -> None:
        """Waits until the whole request is here. Does nothing where a request comes as a whole.

        Args:
            largest: Works out the largest request. A larger one is refused, before it comes where possible.
        """


AskedT = TypeVar("AskedT", bound=Asked)
ContextT = TypeVar("ContextT")
AnswerT = TypeVar("AnswerT")


@dataclass(slots=True)
class Decoded(Generic[ContextT]):
    """What a request asks for.

    Attributes:
        inputs: What the version takes, in raw units.
        context: What the encoder needs to know of the request: the outputs asked for, a last timestamp, a quantile.
        allow_nan: Whether forecasts may be given that are not finite.
        timeout_seconds: The caller's own limit on the time for the forecasts; None for none but the service's.
    """

    inputs: Inputs
    context: ContextT
    allow_nan: bool = False
    timeout_seconds: float | None = None


class Dialect(ABC, Generic[AskedT, ContextT, AnswerT]):
    """What a protocol knows of a forecast, and the pipeline does not. Every method may raise a `ServiceError`."""

    @abstractmethod
    def select(self, asked: AskedT, catalogue: Catalogue) -> ServedVersion:
        """Finds the version that answers, by what is known before the body is read."""

    def check(self, asked: AskedT, served: ServedVersion) -> None:
        """Checks what the head of the request says of its body. By default there is nothing to check."""

    @abstractmethod
    def largest(self, asked: AskedT, served: ServedVersion) -> Largest:
        """Works out the largest request to a version, in the form that the request declares."""

    def decode_at_once(self, asked: AskedT, served: ServedVersion) -> Decoded[ContextT] | None:
        """Reads the inputs if that is a matter of some 5 ms at most; returns None if it may take longer.

        By default every request is read at once.
        """
        return self.decode(asked, served)

    @abstractmethod
    def decode(self, asked: AskedT, served: ServedVersion) -> Decoded[ContextT]:
        """Reads the inputs out of the request. Runs in the side thread where `decode_at_once` returns None."""

    @abstractmethod
    def encode(self, served: ServedVersion, forecasts: Array, context: ContextT) -> AnswerT:
        """Writes the forecasts, of shape (batch, horizon, targets) in raw units, as an answer.

        Runs in the side thread where there are more than `MAX_NUMBERS_AT_ONCE` numbers.
        """


class Forecasting:
    """The pipeline.

    Args:
        service: The service that computes.
        gates: What a request passes first, in this order.
    """

    def __init__(self, service: Service, gates: Sequence[Gate] = ()) -> None:
        self._service = service
        self._gates = tuple(gates)

    async def answer(self, asked: AskedT, dialect: Dialect[AskedT, ContextT, AnswerT]) -> AnswerT:
        """Forecasts what a request asks for.

        Raises:
            ServiceError: A gate, the dialect, the queue or the engine refuses the request, or memory is short.
        """
        exchange = asked.exchange
        self._service.check_ready()
        for gate in self._gates:
            gate(exchange)
        served = dialect.select(asked, self._service.catalogue)
        exchange.answered_by = served.name, served.version
        dialect.check(asked, served)
        served.batcher.check_room()
        await asked.read(partial(dialect.largest, asked, served))
        started = time.perf_counter()
        decoded = dialect.decode_at_once(asked, served)
        if decoded is None:
            decoded = await self._service.side.run(partial(dialect.decode, asked, served), asked.size)
        exchange.complete(Stage.DECODE, started)
        numbers = len(decoded.inputs) * served.forecast_numbers
        if numbers > MAX_NUMBERS_AT_ONCE:
            return await self._answer_large(decoded, served, dialect, exchange, numbers)
        forecasts = await _submit(decoded, served, exchange)
        started = time.perf_counter()
        answer = dialect.encode(served, forecasts, decoded.context)
        exchange.complete(Stage.ENCODE, started)
        return answer

    async def _answer_large(
        self,
        decoded: Decoded[ContextT],
        served: ServedVersion,
        dialect: Dialect[AskedT, ContextT, AnswerT],
        exchange: Exchange,
        numbers: int,
    ) -> AnswerT:
        """Does the same for many numbers. An engine may be quicker than the side thread, so their memory is bounded."""
        with self._service.leaving.taken(numbers * NUMBER_BYTES):
            forecasts = await _submit(decoded, served, exchange)
            started = time.perf_counter()
            encode = partial(dialect.encode, served, forecasts, decoded.context)
            answer = await self._service.side.run(encode, 0)
        exchange.complete(Stage.ENCODE, started)
        return answer


def _submit(decoded: Decoded[ContextT], served: ServedVersion, exchange: Exchange) -> Awaitable[Array]:
    """Returns the forecasts to be waited for, within the caller's own limit too; the service's limit may be shorter."""
    forecasts = served.batcher.submit(decoded.inputs, allow_nan=decoded.allow_nan, stages=exchange.stages)
    return forecasts if decoded.timeout_seconds is None else _in_time(forecasts, decoded.timeout_seconds)


async def _in_time(forecasts: Awaitable[Array], seconds: float) -> Array:
    try:
        async with asyncio.timeout(seconds):
            return await forecasts
    except TimeoutError:
        raise DeadlinePassed(seconds) from None
