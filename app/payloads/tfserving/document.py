"""The JSON document of a prediction, which may hold more than standard JSON.

TensorFlow Serving's parser takes NaN and Infinity, and ignores whatever follows the document.
"""

import json
from collections.abc import Mapping
from enum import Enum
from typing import Any

from app.errors import InvalidArgument, MalformedBody
from app.payloads.names import quoted
from app.payloads.parsing import CollectorPaused, parse_strict_json

SIGNATURE = "serving_default"

JSON_SPACE = " \t\r\n"

JSON_TYPES = {str: "String", type(None): "Null", dict: "Object", list: "Array"}


class Orientation(Enum):
    """How a body gives tensors: one value for each window, or one value for each tensor.

    Attributes:
        field: The field of the body that holds the tensors.
        answer_field: The field of the answer that holds the tensors.
    """

    ROWS = "instances", b"predictions"
    COLUMNS = "inputs", b"outputs"

    def __init__(self, field: str, answer_field: bytes) -> None:
        self.field = field
        self.answer_field = answer_field


class Token(float):
    """NaN or Infinity as a body spells it. A number that is too large becomes infinite, but is not a token."""

    __slots__ = ()


MAX_WHOLE_CHARACTERS = 20
"""Longest integer that is read as such. A longer integer is rounded to float64 at once, as every number is in the end,
which takes time in proportion to its digits and not to their square."""

MAX_CHARACTERS = 4300
"""Longest integer that is read at all."""


def _constant(text: str) -> Token:
    return Token(text)


def _whole(text: str) -> float:
    if len(text) > MAX_CHARACTERS:
        raise ValueError
    return int(text) if len(text) <= MAX_WHOLE_CHARACTERS else float(text)


def _fraction(text: str) -> float:
    return float(text)


DECODER = json.JSONDecoder(parse_constant=_constant, parse_int=_whole, parse_float=_fraction)
"""Calls a function of Python for every number. Between two calls other threads get their turn, and the event loop with
them. A type such as `float` would hold Python's lock until the last number."""


def parse_document(body: bytes) -> dict[str, Any]:
    """Parses the object that a body begins with, and ignores what follows it.

    Raises:
        InvalidArgument: The body begins with something else, or the object names a signature that does not serve.
    """
    content = _parse(body)
    if not isinstance(content, dict):
        raise format_error(content, "Is not object")
    name = content.get("signature_name", SIGNATURE)
    if not isinstance(name, str):
        raise format_error(content, "not formatted correctly. 'signature_name' key must be a string value.")
    if name not in {"", SIGNATURE}:
        raise InvalidArgument(f'Serving signature name: "{quoted(name)}" not found in signature def')
    return content


def _parse(body: bytes) -> object:
    """Parses standard JSON quickly, and anything else leniently, with errors in TensorFlow Serving's words."""
    try:
        return parse_strict_json(body)
    except MalformedBody:
        with CollectorPaused():
            return _parse_leniently(body)


def _parse_leniently(body: bytes) -> object:
    """Parses the JSON that a body begins with, including NaN, Infinity and numbers beyond float64.

    Raises:
        InvalidArgument: The body does not begin with JSON.
    """
    try:
        text = body.decode("utf-8-sig")
        start = len(text) - len(text.lstrip(JSON_SPACE))
        if start == len(text):
            raise InvalidArgument("JSON Parse error: The document is empty")
        return DECODER.raw_decode(text, start)[0]
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"JSON Parse error: Invalid encoding, not UTF-8 at offset: {error.start}") from None
    except json.JSONDecodeError as error:
        offset = len(text[: error.pos].encode())
        raise InvalidArgument(f"JSON Parse error: Invalid value. at offset: {offset}") from None
    except ValueError:  # an integer of thousands of digits
        raise InvalidArgument("JSON Parse error: Number too big to be stored in double.") from None
    except RecursionError:
        raise InvalidArgument("JSON Parse error: nested too deeply") from None


def orientation_of(content: Mapping[str, Any]) -> Orientation:
    """Returns the orientation of a document.

    Raises:
        InvalidArgument: The document has no tensors, or has them in both orientations.
    """
    given = [orientation for orientation in Orientation if orientation.field in content]
    if not given:
        raise InvalidArgument("Missing 'inputs' or 'instances' key")
    if len(given) > 1:
        problem = "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist"
        raise format_error(content, problem)
    return given[0]


def is_object(value: object) -> bool:
    """Returns whether a value is an object. A text in base 64 is written as an object, but is a text."""
    return isinstance(value, dict) and not (len(value) == 1 and isinstance(value.get("b64"), str))


def format_error(value: object, problem: str) -> InvalidArgument:
    """Returns the error for a value of a wrong form."""
    return InvalidArgument(f"JSON Value: ({type_name(value)}) {problem}")


def type_name(value: object) -> str:
    """Returns TensorFlow Serving's name for the type of a JSON value."""
    return str(value) if isinstance(value, bool) else JSON_TYPES.get(type(value), "Number")
