"""The JSON document of a request, field by field.

Every function here raises `InvalidArgument` if a field is not what the protocol says.
"""

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from app.errors import InvalidArgument
from app.payloads.parsing import parse_strict_json

Entry: TypeAlias = dict[str, Any]
"""A tensor as the document describes it."""

LENGTH_HEADER = "Inference-Header-Content-Length"
"""The header with the length of the document, which the bytes of tensors follow."""

INTEGER = re.compile(rb"-?[0-9]{1,18}")

INT64_MAX = 2**63 - 1

SEQUENCE_PARAMETERS = "sequence_id", "sequence_start", "sequence_end"


def document_length(header: bytes, body_bytes: int) -> int:
    """Reads the value of `LENGTH_HEADER`.

    Args:
        header: The value.
        body_bytes: The length of the whole body.
    """
    if not INTEGER.fullmatch(header.strip()):
        raise InvalidArgument(f"Unable to parse {LENGTH_HEADER}, got something other than a whole number")
    length = int(header)
    if not 0 <= length <= body_bytes:
        raise InvalidArgument(f"inference header size should be in range (0, {body_bytes}), got: {length}")
    return length


def parse_document(document: bytes | memoryview) -> Entry:
    """Parses a document, which must be an object.

    Raises:
        MalformedBody: The document is not JSON.
    """
    content = parse_strict_json(document)
    if not isinstance(content, dict):
        raise InvalidArgument("expected a JSON object")
    return content


def entries_of(document: Entry, field: str) -> list[Entry]:
    """Returns the objects in a field; an empty list where the field is missing or null."""
    entries: list[Entry] = optional(document, field, list, "a list of objects") or []
    if not all(isinstance(entry, dict) for entry in entries):
        raise InvalidArgument(f"expected {field} to be a list of objects")
    return entries


def parameters_of(content: Entry) -> dict[str, Any]:
    """Returns the parameters of a request or of a tensor. Unknown parameters are for other servers, and are ignored."""
    parameters: dict[str, Any] = optional(content, "parameters", dict, "an object") or {}
    if not all(isinstance(value, str | int | float) for value in parameters.values()):
        raise InvalidArgument("expected parameters to be strings, numbers or booleans")
    return parameters


def optional(content: Entry, field: str, kind: type, kind_name: str) -> Any:
    """Returns the value of a field; None where the field is missing or null."""
    value = content.get(field)
    if value is not None and not isinstance(value, kind):
        raise InvalidArgument(f"expected {field} to be {kind_name}")
    return value


def name_of(entry: Entry, field: str, number: int) -> str:
    """Returns the name of a tensor, which is entry `number` of a field."""
    name = entry.get("name")
    if not isinstance(name, str):
        raise InvalidArgument(f"{field} {number} needs a name, which is a string")
    return name


def flag_of(parameters: Mapping[str, Any], key: str, what: str, *, default: bool) -> bool:
    """Returns a parameter that is true or false."""
    flag = parameters.get(key, default)
    if not isinstance(flag, bool):
        raise InvalidArgument(f"expected the parameter {key} of {what} to be true or false")
    return flag


def timeout_of(parameters: Mapping[str, Any]) -> float | None:
    """Returns the timeout in seconds; None where it is missing or 0. The parameter has microseconds."""
    timeout = parameters.get("timeout", 0)
    if type(timeout) is not int or not 0 <= timeout <= INT64_MAX:
        raise InvalidArgument("expected the parameter timeout to be a whole number of microseconds from 0")
    return timeout / 1e6 or None


def check_offered(parameters: Mapping[str, Any]) -> None:
    """Checks that a request asks for nothing that is not offered: sequences, or parameters reserved for Triton.

    Priorities are ignored: all requests wait in one queue.
    """
    if any(parameters.get(key) for key in SEQUENCE_PARAMETERS):
        raise InvalidArgument("sequences are not offered: a window is forecast by itself; leave sequence_id at 0")
    if any(key.startswith("triton_") for key in parameters):
        raise InvalidArgument("parameters that start with triton_ are reserved")


def check_in_body(parameters: Mapping[str, Any], what: str) -> None:
    """Checks that a tensor is not in shared memory."""
    if any(key.startswith("shared_memory_") for key in parameters):
        raise InvalidArgument(f"{what} cannot be in shared memory, which is not offered; leave its numbers in the body")
