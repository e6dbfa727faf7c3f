"""Every error of the service, as one family and in one file, so that the whole family can be read at a glance.

ServiceError                  an answer that is not a forecast; carries its HTTP status
├── MalformedBody         400 the body is not what its Content-Type says
├── InvalidArgument       400 an argument of the request is wrong, or unknown to the protocol
├── Unauthorized          401 a key is missing or wrong
├── NotFound              404 no such path, model or version
├── NoSuchServable        404 no such model or version, in the words of TensorFlow Serving
├── MethodNotAllowed      405 the path takes another method
├── BodyTimeout           408 the body did not arrive in time
├── Conflict              409 the change does not fit what serves
├── BodyTooLarge          413 the body has more bytes than the service takes, or than the largest request has
├── BatchTooLarge         413 the request has more windows than the service takes
├── TooManyValues         413 the body has more values than the largest request
├── UnsupportedMediaType  415 the declared type of the body is neither plain JSON nor npy
├── UnsupportedEncoding   415 the service does not read this encoding of a body
├── InvalidRequest        422 the body or the query breaks the contract, and `errors` says where
├── TooManyRequests       429 this caller asks too often
├── InternalError         500 the service failed
├── PredictionFailed      500 the model failed on a valid window
├── Unimplemented         501 the service leaves out this part of a protocol
├── ModelNotReady         503 the service loads, drains or has failed
├── QueueFull             503 too many windows wait
├── TooManyLargeBodies    503 too many large bodies wait to be read
├── TooManyLargeForecasts  503 too many large forecasts are being made
└── DeadlinePassed        504 the forecast was not ready in time
VersionError                  a version cannot serve; for the default model, the service cannot start
├── ArtifactError             a model version on disk cannot be trusted
└── EngineNotInstalled        the package that an engine runs on is not there
SettingsError                 a setting cannot be used, and the service cannot start
AddressError                  the address cannot be listened on, and the service cannot start

The status stands on the class and comes from the standard library: nothing here needs a web framework. Constructors
take facts and write the sentence. No sentence repeats what the caller sent.
"""

import errno
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

MAX_LOCATED_ERRORS = 20

MAX_PROBLEM_CHARACTERS = 500
"""Longest part of what is wrong with a version that is told. It may hold names from the version, of any length."""

MAX_PATH_CHARACTERS = 4096
"""Longest part of a path that is told. No path of a file is longer, but a manifest may list any."""

RETRY_SOON = MappingProxyType({"Retry-After": "1"})
"""Headers of a refusal that may be over in a second."""


QUEUE_RETRY_SECONDS = 1, 2, 3
"""After how many seconds a caller who found a full queue may try again."""


@dataclass(frozen=True, slots=True)
class LocatedError:
    """One mistake in a request.

    Attributes:
        pointer: JSON pointer (RFC 6901) into the body, or `?name` for a query parameter.
        message: What was expected there, and what came.
    """

    pointer: str
    message: str


class ServiceError(Exception):
    """A request that gets no forecast. `detail` is one sentence for the caller."""

    status: ClassVar[HTTPStatus]
    title: ClassVar[str]
    """The error in two or three words. The phrases of the standard library differ between releases of Python."""
    headers: Mapping[str, str] = MappingProxyType({})
    """Further headers of the answer."""
    errors: tuple[LocatedError, ...] = ()
    slug: ClassVar[str]
    """The error's name in URNs and metrics: `queue-full`."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def __init_subclass__(cls) -> None:
        """Derives the slug from the class's name."""
        cls.slug = re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()


class MalformedBody(ServiceError):
    """The body is not what its Content-Type says.

    Args:
        expected: What it should be, in words.
    """

    status = HTTPStatus.BAD_REQUEST
    title = "Malformed body"

    def __init__(self, expected: str = "valid JSON in UTF-8") -> None:
        super().__init__(f"The body is not {expected}.")


class InvalidArgument(ServiceError):
    """An argument of the request is wrong, or unknown to the protocol."""

    status = HTTPStatus.BAD_REQUEST
    title = "Invalid argument"


class Unauthorized(ServiceError):
    """A key is missing or wrong.

    Args:
        detail: What to send, as a sentence.
    """

    status = HTTPStatus.UNAUTHORIZED
    title = "Unauthorized"
    headers = MappingProxyType({"WWW-Authenticate": "Bearer"})

    def __init__(self, detail: str = "Send the admin key as Authorization: Bearer KEY.") -> None:
        super().__init__(detail)


class NotFound(ServiceError):
    """No such path, model or version."""

    status = HTTPStatus.NOT_FOUND
    title = "Not found"

    def __init__(
        self,
        what: str = "path",
        remedy: str = "GET /docs lists the paths, where it is on.",
    ) -> None:
        super().__init__(f"No such {what}. {remedy}")


class NoSuchServable(ServiceError):
    """No such model or version, in the words of TensorFlow Serving."""

    status = HTTPStatus.NOT_FOUND
    title = "Not found"


class MethodNotAllowed(ServiceError):
    """The path takes another method."""

    status = HTTPStatus.METHOD_NOT_ALLOWED
    title = "Method not allowed"

    def __init__(self, allowed: str) -> None:
        super().__init__(f"This path takes {allowed}.")
        self.headers = {"Allow": allowed}


class BodyTimeout(ServiceError):
    """The body did not arrive in time."""

    status = HTTPStatus.REQUEST_TIMEOUT
    title = "Body too slow"
    headers = MappingProxyType({"Connection": "close"})

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The body did not arrive within {seconds:g} seconds.")


class Conflict(ServiceError):
    """The change does not fit what serves."""

    status = HTTPStatus.CONFLICT
    title = "Conflict"


class BodyTooLarge(ServiceError):
    """The body has more bytes than the service takes, or than the largest request has.

    Args:
        limit_bytes: Most bytes taken.
        what: What is too large, in words.
        takes: What the largest request asks for, in words; None where the service takes no larger body at all.
    """

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    title = "Body too large"

    def __init__(self, limit_bytes: int, what: str = "body", takes: str | None = None) -> None:
        limit = (
            f"{limit_bytes} bytes this service takes; send fewer windows"
            if takes is None
            else f"{limit_bytes} bytes of the largest request here: {takes}"
        )
        super().__init__(f"The {what} is larger than the {limit}.")


class BatchTooLarge(ServiceError):
    """The request has more windows than the service takes."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    title = "Batch too large"

    def __init__(self, windows: int, limit_windows: int) -> None:
        super().__init__(f"The batch has {windows} windows; this service takes at most {limit_windows} in one request.")


class TooManyValues(ServiceError):
    """The body has more values than the largest request.

    Args:
        takes: What the largest request asks for, in words.
    """

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    title = "Too many values"

    def __init__(self, takes: str) -> None:
        super().__init__(f"The body has more values than the largest request here: {takes}.")


class UnsupportedMediaType(ServiceError):
    """The declared type of the body is neither plain JSON nor npy, or the model takes JSON alone.

    Args:
        because: Why the model takes JSON alone, as a sentence; None for a model that takes either.
    """

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    title = "Unsupported media type"

    def __init__(self, because: str | None = None) -> None:
        array = "" if because else ", or an array as application/x-npy"
        remedy = f"Send JSON as Content-Type: application/json{array}, without a Content-Encoding."
        super().__init__(f"{because} {remedy}" if because else remedy)


class UnsupportedEncoding(ServiceError):
    """The service does not read this encoding of a body."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    title = "Unsupported content encoding"
    headers = MappingProxyType({"Accept-Encoding": "gzip, deflate"})

    def __init__(self) -> None:
        super().__init__("Send the body as it is, or with Content-Encoding: gzip or deflate.")


class InvalidRequest(ServiceError):
    """The body or the query breaks the contract.

    Args:
        errors: The mistakes; the first `MAX_LOCATED_ERRORS` are kept.
        contract: What the request should match, in words.
    """

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    title = "Invalid request"

    def __init__(self, errors: Sequence[LocatedError], contract: str = "the model's contract") -> None:
        super().__init__(f"The request does not fit {contract}; `errors` says where.")
        self.errors = tuple(errors[:MAX_LOCATED_ERRORS])


class TooManyRequests(ServiceError):
    """This caller asks too often.

    Args:
        retry_seconds: When the caller may try again.
    """

    status = HTTPStatus.TOO_MANY_REQUESTS
    title = "Too many requests"

    def __init__(self, retry_seconds: int = 1) -> None:
        super().__init__(f"Too many requests; try again in {retry_seconds} s.")
        self.headers = {"Retry-After": str(retry_seconds)}


class InternalError(ServiceError):
    """The service failed."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    title = "Internal error"

    def __init__(self) -> None:
        super().__init__("The service failed; its log says why, under this request id.")


class Unimplemented(ServiceError):
    """The service leaves out this part of a protocol.

    Args:
        part: The name of the part.
        remedy: What to use instead, as a sentence.
    """

    status = HTTPStatus.NOT_IMPLEMENTED
    title = "Not implemented"

    def __init__(self, part: str, remedy: str) -> None:
        super().__init__(f"{part} is not implemented: {remedy}")


class PredictionFailed(ServiceError):
    """The model failed on a valid window."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    title = "Prediction failed"

    def __init__(self) -> None:
        super().__init__("The model could not compute this forecast.")


class ModelNotReady(ServiceError):
    """The service loads, drains or has failed."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    title = "Not ready"

    def __init__(self, reason: str, *, may_pass: bool = True) -> None:
        super().__init__(f"Not ready: {reason}.")
        self.headers = RETRY_SOON if may_pass else {}


class QueueFull(ServiceError):
    """Too many windows wait.

    Args:
        retry_seconds: When the caller may try again; random, so that refused callers do not come back together.
    """

    status = HTTPStatus.SERVICE_UNAVAILABLE
    title = "Queue full"

    def __init__(self, retry_seconds: int | None = None) -> None:
        seconds = retry_seconds or random.choice(QUEUE_RETRY_SECONDS)  # noqa: S311 (no secret)
        super().__init__(f"The queue of this model is full. Try again in {seconds} s, or send fewer windows at once.")
        self.headers = {"Retry-After": str(seconds)}


class TooManyLargeBodies(ServiceError):
    """Too many large bodies wait to be read.

    Args:
        limit_bytes: Most bytes that may wait.
    """

    status = HTTPStatus.SERVICE_UNAVAILABLE
    title = "Too many large bodies"
    headers = RETRY_SOON

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"Too many large bodies wait to be read: {limit_bytes} bytes may wait. Try again later.")


class TooManyLargeForecasts(ServiceError):
    """Too many large forecasts are being made.

    Args:
        limit_bytes: Most bytes that forecasts under way may have.
    """

    status = HTTPStatus.SERVICE_UNAVAILABLE
    title = "Too many large forecasts"
    headers = RETRY_SOON

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"Too many large forecasts are being made: they may have {limit_bytes} bytes together. Try again later."
        )


class DeadlinePassed(ServiceError):
    """The forecast was not ready in time."""

    status = HTTPStatus.GATEWAY_TIMEOUT
    title = "Deadline passed"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The forecast was not ready within {seconds:g} seconds.")


def printable(text: Path | str) -> str:
    """Returns a path, or what is wrong with a version, as text that every log, answer and terminal can hold.

    Control characters and other bytes are escaped, and what is longer than any path is cut.
    """
    cut = str(text)[:MAX_PATH_CHARACTERS].encode(errors="backslashreplace").decode()
    return cut if cut.isprintable() else "".join(map(_escaped, cut))


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


class VersionError(Exception):
    """A version cannot serve. The message is one sentence that names the remedy.

    Attributes:
        problem: What is wrong, without the place and the remedy.
    """

    problem: str


class ArtifactError(VersionError):
    """A model version on disk cannot be trusted.

    Args:
        path: The file or folder at fault.
        problem: What is wrong with it.
        remedy: What to do about it.
    """

    def __init__(self, path: Path, problem: str, remedy: str = "export the version again") -> None:
        self.problem = printable(problem[:MAX_PROBLEM_CHARACTERS])
        super().__init__(f"{printable(path)}: {self.problem}; {remedy}.")


class EngineNotInstalled(VersionError):
    """The package that an engine runs on is not installed.

    Args:
        engine: The engine's name.
        package: What it needs.
        remedy: The command that installs it.
    """

    def __init__(self, engine: str, package: str, remedy: str) -> None:
        self.problem = f"{package} is not installed"
        self.remedy = remedy
        super().__init__(f"The {engine} engine needs {package}, which is not installed; {remedy}.")


class SettingsError(Exception):
    """A setting cannot be used, so the service cannot start. The message is one sentence that shows a valid value."""


class AddressError(Exception):
    """The service cannot listen on its address, so it cannot start. The message is one sentence that names the remedy.

    Args:
        host: The host of the settings.
        port: The port of the settings.
        error: What the system says.
    """

    def __init__(self, host: str, port: int, error: OSError) -> None:
        address = f"[{host}]:{port}" if ":" in host else f"{host or '*'}:{port}"
        if error.errno == errno.EADDRINUSE:
            problem, remedy = f"Another process listens on {address}", "stop it, or set WINDOWCAST_PORT to a free port"
        else:
            problem = f"The service cannot listen on {address}: {(error.strerror or str(error)).lower()}"
            remedy = "set WINDOWCAST_HOST and WINDOWCAST_PORT to an address that it may use"
        super().__init__(f"{problem}; {remedy}.")
