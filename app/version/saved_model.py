"""The signatures in a `saved_model.pb`, read without TensorFlow, in the JSON form that protobuf gives them.

Only the messages on the way to the signatures are parsed; the graph, which may be large, is skipped and never read.
Numbers of fields and names of types come from TensorFlow's `saved_model.proto` and its imports.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from app.errors import ArtifactError
from app.version.files import open_file, readable

Read: TypeAlias = Callable[[int, int], bytes]
"""Reads the bytes of a message from one position up to another."""
Span: TypeAlias = tuple[int, int]
"""Where bytes begin and end in what is read."""
Value: TypeAlias = int | bytes
Fields: TypeAlias = Mapping[int, Sequence[Value]]
"""The values of each field of a message, in their order, by the number of the field."""
Json: TypeAlias = dict[str, Any]

MAX_SIGNATURES_BYTES = 2**18
"""Most bytes of signatures; a signature takes a few hundred. In memory they take a hundred times as much."""
MAX_FIELDS = 2**16
"""Most fields of the file, and of its graph beside the nodes, which take one field. There are a few dozen."""

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
    with readable(path), open_file(path) as file:
        try:
            return _map(_entries(file, path), _signature)
        except ValueError as error:
            raise ArtifactError(path, "is not a SavedModel") from error


def _entries(file: BinaryIO, path: Path) -> list[bytes]:
    """Reads the entries of the map of signatures."""

    def read(start: int, end: int) -> bytes:
        file.seek(start)
        return file.read(end - start)

    [graph] = _spans(read, (0, os.fstat(file.fileno()).st_size), 2)
    spans = _spans(read, graph, 5)
    if sum(end - start for start, end in spans) > MAX_SIGNATURES_BYTES:
        raise ArtifactError(path, f"has more than {MAX_SIGNATURES_BYTES} bytes of signatures")
    return [read(*span) for span in spans]


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
    return _fields(values[-1] if values else b"")


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


def _bytes(value: Value) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("not bytes")  # noqa: TRY004
    return value


def _spans(read: Read, message: Span, wanted: int) -> list[Span]:
    """Returns where the values of one field of a message are."""
    spans = []
    for count, (number, value) in enumerate(_walk(read, message)):
        if count == MAX_FIELDS:
            raise ValueError("too many fields")
        if number == wanted:
            if isinstance(value, int):
                raise ValueError("not bytes")
            spans.append(value)
    return spans


def _fields(message: Value) -> Fields:
    """Splits a message into its fields, without parsing the messages in it.

    Raises:
        ValueError: The bytes are no message.
    """
    content = _bytes(message)
    fields = defaultdict(list)
    for number, value in _walk(lambda start, end: content[start:end], (0, len(content))):
        fields[number].append(value if isinstance(value, int) else content[slice(*value)])
    return fields


def _walk(read: Read, message: Span) -> Iterator[tuple[int, int | Span]]:
    """Yields the fields of a message, each as its number and its value: a number, or where its bytes are."""
    position, end = message
    while position < end:
        key, position = _varint(read, position, end)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, position = _varint(read, position, end)
            yield number, value
            continue
        if kind == LENGTH_DELIMITED:
            size, position = _varint(read, position, end)
        elif kind in FIXED_SIZES:
            size = FIXED_SIZES[kind]
        else:
            raise ValueError("a field of an unknown kind")
        if size > end - position:
            raise ValueError("a field that goes on after the end")
        yield number, (position, position + size)
        position += size


def _varint(read: Read, position: int, end: int) -> tuple[int, int]:
    """Returns a number of 64 bits, seven bits in each byte, and the position after it."""
    number = 0
    for place, byte in enumerate(read(position, min(position + MAX_VARINT_BYTES, end))):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number & 2**64 - 1, position + place + 1
    raise ValueError("a number that does not end")
