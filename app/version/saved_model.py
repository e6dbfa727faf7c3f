"""The signatures in a `saved_model.pb`, read without TensorFlow, in the JSON form that protobuf gives them.

Only the messages on the way to the signatures are parsed; the graph, which may be large, is skipped. Numbers of fields
and names of types come from TensorFlow's `saved_model.proto` and its imports.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from app.errors import ArtifactError

Value: TypeAlias = int | memoryview
Fields: TypeAlias = Mapping[int, Sequence[Value]]
"""The values of each field of a message, in their order, by the number of the field."""
Json: TypeAlias = dict[str, Any]

MAX_SIGNATURES_BYTES = 2**20
"""Most bytes of signatures; a signature takes a few hundred."""

VARINT, LENGTH_DELIMITED = 0, 2
FIXED_SIZES = {1: 8, 5: 4}
"""Kinds of values on the wire: a number of varying length, bytes after their length, or bytes of a fixed size."""
MAX_VARINT_BYTES = 10

DATATYPES = (  # noqa: SIM905  # a list would take a line for each
    "DT_INVALID DT_FLOAT DT_DOUBLE DT_INT32 DT_UINT8 DT_INT16 DT_INT8 DT_STRING DT_COMPLEX64 DT_INT64 DT_BOOL DT_QINT8 "
    "DT_QUINT8 DT_QINT32 DT_BFLOAT16 DT_QINT16 DT_QUINT16 DT_UINT16 DT_COMPLEX128 DT_HALF DT_RESOURCE DT_VARIANT "
    "DT_UINT32 DT_UINT64 DT_FLOAT8_E5M2 DT_FLOAT8_E4M3FN DT_FLOAT8_E4M3FNUZ DT_FLOAT8_E4M3B11FNUZ DT_FLOAT8_E5M2FNUZ "
    "DT_INT4 DT_UINT4 DT_INT2 DT_UINT2 DT_FLOAT4_E2M1FN"
).split()
REFERENCE = 100
"""Added to a type's number for a reference to a variable of the type."""


def read_signatures(path: Path) -> Json:
    """Reads the signatures of a SavedModel by name, each as protobuf prints it in JSON with every field.

    Values of defaults are left out, and so are the parts of a composite tensor.

    Raises:
        ArtifactError: The file cannot be read, is not a SavedModel of one graph, or has too many bytes of signatures.
    """
    try:
        content = memoryview(path.read_bytes())
    except OSError as error:
        raise ArtifactError(path, f"cannot be read ({error.strerror})", "check its permissions") from error
    try:
        [graph] = _values(content, 2)
        entries = _values(graph, 5)
        if sum(map(len, entries)) > MAX_SIGNATURES_BYTES:
            raise ArtifactError(path, f"has more than {MAX_SIGNATURES_BYTES} bytes of signatures")
        return _map(entries, _signature)
    except ValueError as error:
        raise ArtifactError(path, "is not a SavedModel") from error


def _signature(fields: Fields) -> Json:
    return {
        "inputs": _map(fields[1], _tensor_info),
        "outputs": _map(fields[2], _tensor_info),
        "method_name": _text(fields[3]),
        "defaults": _map(fields[4], _default),
    }


def _tensor_info(fields: Fields) -> Json:
    info: Json = {"dtype": _datatype(fields[2])}
    if fields[1]:
        info["name"] = _text(fields[1])
    if fields[4]:
        names = "values_tensor_name", "indices_tensor_name", "dense_shape_tensor_name"
        parts = _message(fields[4])
        info["coo_sparse"] = {name: _text(parts[number]) for number, name in enumerate(names, 1)}
    if fields[3]:
        info["tensor_shape"] = _shape(_message(fields[3]))
    return info


def _shape(fields: Fields) -> Json:
    sizes = [_fields(size) for size in fields[2]]
    return {
        "dim": [{"size": str(_signed(size[1])), "name": _text(size[2])} for size in sizes],
        "unknown_rank": bool(_number(fields[3])),
    }


def _default(fields: Fields) -> Json:
    """Returns a default without its values."""
    tensor: Json = {"dtype": _datatype(fields[1])}
    if fields[2]:
        tensor["tensor_shape"] = _shape(_message(fields[2]))
    return tensor


def _datatype(values: Sequence[Value]) -> str | int:
    """Returns the name of a type, or its number if the type is newer than this list."""
    number = _signed(values)
    is_reference = number > REFERENCE
    place = number - REFERENCE if is_reference else number
    if not 0 <= place < len(DATATYPES):
        return number
    return f"{DATATYPES[place]}_REF" if is_reference else DATATYPES[place]


def _map(entries: Sequence[Value], read: Callable[[Fields], Json]) -> Json:
    """Reads a map, which is written as messages of a key and a value."""
    parts = [_fields(entry) for entry in entries]
    return {_text(part[1]): read(_message(part[2])) for part in parts}


def _message(values: Sequence[Value]) -> Fields:
    return _fields(values[-1] if values else memoryview(b""))


def _text(values: Sequence[Value]) -> str:
    return str(_bytes(values[-1]), "utf-8") if values else ""


def _signed(values: Sequence[Value]) -> int:
    """Reads a number whose highest bit is its sign."""
    number = _number(values)
    return number - (number >> 63 << 64)


def _number(values: Sequence[Value]) -> int:
    number = values[-1] if values else 0
    if not isinstance(number, int):
        raise ValueError("not a number")  # noqa: TRY004  # the file is at fault, not the caller
    return number


def _bytes(value: Value) -> memoryview:
    if not isinstance(value, memoryview):
        raise ValueError("not bytes")  # noqa: TRY004
    return value


def _values(message: memoryview, wanted: int) -> list[memoryview]:
    """Returns the values of one field of a message."""
    return [_bytes(value) for number, value in _walk(message) if number == wanted]


def _fields(message: Value) -> Fields:
    """Splits a message into its fields, without parsing the messages in it.

    Raises:
        ValueError: The bytes are no message.
    """
    fields = defaultdict(list)
    for number, value in _walk(_bytes(message)):
        fields[number].append(value)
    return fields


def _walk(message: memoryview) -> Iterator[tuple[int, Value]]:
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        if kind == LENGTH_DELIMITED:
            size, position = _varint(message, position)
        elif kind in FIXED_SIZES:
            size = FIXED_SIZES[kind]
        else:
            raise ValueError("a field of an unknown kind")
        if size > len(message) - position:
            raise ValueError("a field that goes on after the end")
        yield number, message[position : position + size]
        position += size


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Returns a number of 64 bits, seven bits in each byte, and the position after it."""
    number = 0
    for place, byte in enumerate(message[position : position + MAX_VARINT_BYTES]):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number & 2**64 - 1, position + place + 1
    raise ValueError("a number that does not end")
