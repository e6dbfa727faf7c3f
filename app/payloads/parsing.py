"""Parsing of JSON, for every protocol."""

import gc

import orjson
from pydantic import ValidationError
from pydantic_core import from_json

from app.errors import InvalidRequest, LocatedError, MalformedBody


def parse_json(body: bytes) -> object:
    """Parses JSON in which numbers may be NaN or infinite, so that an error can say where such a number stands.

    Raises:
        MalformedBody: The body is not JSON.
    """
    try:
        with CollectorPaused():
            return from_json(body)
    except ValueError:
        raise MalformedBody from None


def parse_strict_json(body: bytes | memoryview) -> object:
    """Parses JSON as its standard (RFC 8259) defines it, without NaN and Infinity.

    Raises:
        MalformedBody: The body is not JSON.
    """
    try:
        with CollectorPaused():
            return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise MalformedBody("valid JSON in UTF-8, which has no NaN and no Infinity") from None


class CollectorPaused:
    """Pauses the collector of cycles for a `with` block that parses JSON.

    JSON has no cycles, and the collector would go through millions of lists again and again.
    """

    __slots__ = ("_was_on",)

    def __enter__(self) -> None:
        self._was_on = gc.isenabled()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        if self._was_on:
            gc.enable()


def invalid_body(error: ValidationError, takes: str, contract: str = "the model's contract") -> InvalidRequest:
    """Returns the error for a JSON body that pydantic refused.

    Args:
        error: Pydantic's finding.
        takes: The fields that the body may have, in words.
        contract: What the body should match, in words.
    """
    located = []
    for finding in error.errors(include_input=False, include_url=False, include_context=False):
        match finding["type"]:
            case "extra_forbidden":  # the field's name is the caller's text, and is not repeated
                located.append(LocatedError(_pointer(finding["loc"][:-1]), f"unknown field; this takes {takes}"))
            case "model_type":
                located.append(LocatedError("", f"expected an object with {takes}"))
            case _:
                located.append(LocatedError(_pointer(finding["loc"]), finding["msg"].removeprefix("Value error, ")))
    return InvalidRequest(list(dict.fromkeys(located)), contract)


def _pointer(place: tuple[int | str, ...]) -> str:
    """Returns a location as JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in place)
