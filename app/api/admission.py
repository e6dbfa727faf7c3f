"""Refuses requests for forecasts by their head alone, where the queue of their model is full.

The server asks as soon as a head is read, while many requests are under way; see `app.process.http.refusals`. All other
requests, and all requests whose path is not plain, take the way through the application, which checks the queue too.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import choice
from typing import TypeAlias

from app.api.middleware import NO_SNIFFING, AnswerError, version_headers
from app.errors import QUEUE_RETRY_SECONDS, QueueFull, ServiceError
from app.exchange import sane_or_new_id
from app.process.http.cycle import render_head
from app.process.http.refusals import Header
from app.process.lifecycle import Phase
from app.serving.catalogue import Miss
from app.serving.service import Service
from app.telemetry.metrics import Outcome, Requests, count_requests
from app.telemetry.tally import Tally

KNOWN_TARGETS = 256
"""How many different targets are remembered with their meaning."""

MAX_TARGET_BYTES = 512
"""Longest target that is looked at."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the target of a request for forecasts asks for.

    Attributes:
        protocol: What the request is counted as.
        route: The route of the target.
        answer_error: The protocol's form of an error.
        model: The model's name; None for the default model.
        version: The version, if the target names one.
        label: The version's label, if the target names one.
    """

    protocol: str
    route: str
    answer_error: AnswerError
    model: str | None = None
    version: int | None = None
    label: str | None = None


Read: TypeAlias = Callable[[str, bytes], Asked | None]
"""Returns what a path with its percent signs, and a query, ask a protocol for; None for anything but forecasts."""


class NoRoom:
    """The refusal of requests for one version. Its parts are made once.

    Args:
        asked: What the requests ask for.
        model: The name of the model.
        version: The version.
    """

    def __init__(self, asked: Asked, model: str, version: int) -> None:
        self._asked = asked
        self._model = model
        self._version = version
        self._parts = [self._parts_of(seconds) for seconds in QUEUE_RETRY_SECONDS]
        self._tally = Tally("requests refused", model=model, version=version, reason=QueueFull.slug)

    def _parts_of(self, retry_seconds: int) -> tuple[bytes, bytes]:
        """Returns the answer as it goes over the wire, in the parts before and behind the request's id."""
        answer = self._asked.answer_error(QueueFull(retry_seconds), "")
        headers: list[Header] = [*answer.headers, (b"content-length", b"%d" % len(answer.body))]
        headers += [NO_SNIFFING, *version_headers(self._model, self._version), (b"x-request-id", b"")]
        head = render_head(answer.status, headers)
        return head.removesuffix(b"\r\n\r\n"), b"\r\n\r\n" + answer.body

    def answer(self, headers: Sequence[Header]) -> bytes:
        """Returns the answer to a request with these headers."""
        given = next((value for name, value in headers if name == b"x-request-id"), None)
        before, behind = choice(self._parts)  # noqa: S311 (no secret)
        return b"%s%s%s" % (before, sane_or_new_id(None if given is None else given.decode("latin-1")).encode(), behind)

    def note(self, seconds: list[float]) -> None:
        """Counts refused requests, given the seconds that each of them took."""
        asked = self._asked
        count_requests(
            Requests(
                protocol=asked.protocol,
                route=asked.route,
                model=self._model,
                version=str(self._version),
                outcome=Outcome.REFUSED,
                status=QueueFull.status,
                reason=QueueFull.slug,
                seconds=seconds,
                decoding=[],
                encoding=[],
                ended=time.time(),
            )
        )
        self._tally.add(len(seconds))


class Admission:
    """Decides by its head whether there is room for a request.

    Args:
        service: The running service.
        readers: Read the targets of all protocols.
    """

    def __init__(self, service: Service, readers: Sequence[Read]) -> None:
        self._service = service
        self._readers = tuple(readers)
        self._asked_by = lru_cache(KNOWN_TARGETS)(self._read)
        self._no_room = lru_cache(KNOWN_TARGETS)(NoRoom)

    @property
    def is_crowded(self) -> bool:
        """Whether the queue of a model was full when somebody last asked."""
        return bool(self._service.crowd)

    def refusal_of(self, method: bytes, target: bytes) -> NoRoom | None:
        """Returns the refusal of a request, or None where the application shall handle it.

        Args:
            method: The request's method.
            target: The path and the query, as they came.
        """
        if method != b"POST" or len(target) > MAX_TARGET_BYTES or self._service.lifecycle.phase is not Phase.READY:
            return None
        asked = self._asked_by(target)
        if asked is None:
            return None
        try:
            served = self._service.catalogue.find(asked.model, asked.version, asked.label)
        except Miss:
            return None
        return None if served.batcher.admit() else self._no_room(asked, served.name, served.version)

    def _read(self, target: bytes) -> Asked | None:
        path, _, query = target.partition(b"?")
        try:
            plain = path.decode("ascii")
            return next(filter(None, (read(plain, query) for read in self._readers)), None)
        except (ServiceError, UnicodeDecodeError):
            return None
