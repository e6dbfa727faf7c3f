"""Reads arrays of rows out of an `.npz` archive, within bounds and as plain data: nothing in the archive is run.

`numpy.load` inflates whatever an archive holds. Here the sizes in the archive's directory and in the arrays' headers
must be those that are expected.
"""

import os
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from app.version.signature import DataType, TensorSpec

MAX_ARRAY_BYTES = 2**27
"""Most bytes of an array: 16 of the largest windows that a contract may have."""

MAX_HEADER_BYTES = 256
HEADER = re.compile(
    rb"\x93NUMPY\x01\0..\{'descr': '(<f4|<i8)', 'fortran_order': (False|True), 'shape': \((\d+(?:, \d+)*),?\), \} *\n",
    re.DOTALL,
)
"""The start of a `.npy` file of float32 or int64 numbers."""
DESCRIPTIONS: Mapping[bytes, DataType] = {b"<f4": "float32", b"<i8": "int64"}

END = struct.Struct("<4s8xI4xH")
"""The last bytes of an archive without a comment: a mark, the bytes of its directory, the bytes of the comment."""
END_MARK, LARGE_ARCHIVE_MARK = b"PK\5\6", b"PK\6\7"
LARGE_ARCHIVE_BYTES = 20
"""Bytes in front of the end of an archive that has its sizes in 64 bits elsewhere."""
MAX_DIRECTORY_BYTES = 1024
"""Most bytes of an archive's directory. Four entries take 300."""

DAMAGE = (EOFError, OSError, OverflowError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error)
"""What the standard library raises for a damaged archive, beside `ValueError`."""


def read_rows(file: BinaryIO, tensors: Sequence[TensorSpec], max_rows: int) -> dict[str, NDArray[Any]]:
    """Reads the arrays of an archive, as `numpy.savez` writes them.

    Args:
        file: The archive.
        tensors: The names of all arrays, each with the shape of one of its rows and the type of its numbers.
        max_rows: Most rows of an array; there is at least one.

    Returns:
        Arrays (batch, *shape) by name.

    Raises:
        ValueError: The file is no archive, is damaged, or holds anything else.
    """
    try:
        _check_directory(file)
        with zipfile.ZipFile(file) as archive:
            if sorted(archive.namelist()) != sorted(f"{tensor.name}.npy" for tensor in tensors):
                raise ValueError("other arrays")
            return {tensor.name: _read_array(archive, tensor, max_rows) for tensor in tensors}
    except DAMAGE as error:
        raise ValueError("no archive") from error


def _check_directory(file: BinaryIO) -> None:
    """Checks that an archive's directory is small: `zipfile` reads it whole, and makes an object of every entry."""
    end_bytes = LARGE_ARCHIVE_BYTES + END.size
    file.seek(max(0, file.seek(0, os.SEEK_END) - end_bytes))
    tail = file.read(end_bytes)
    mark, directory_bytes, comment_bytes = END.unpack(tail[-END.size :])
    if mark != END_MARK or comment_bytes or directory_bytes > MAX_DIRECTORY_BYTES:
        raise ValueError("another archive than numpy's")
    if tail.startswith(LARGE_ARCHIVE_MARK):
        raise ValueError("an archive with a second directory")


def _read_array(archive: zipfile.ZipFile, tensor: TensorSpec, max_rows: int) -> NDArray[Any]:
    member = archive.getinfo(f"{tensor.name}.npy")
    dtype = np.dtype(tensor.datatype).newbyteorder("<")
    row_bytes = dtype.itemsize * tensor.size
    max_rows = min(max_rows, MAX_ARRAY_BYTES // row_bytes)
    if member.file_size > MAX_HEADER_BYTES + max_rows * row_bytes:
        raise ValueError("too many rows")
    if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:  # others inflate without a bound
        raise ValueError("compressed otherwise")
    with archive.open(member) as file:
        content = file.read(member.file_size + 1)
    header = HEADER.match(content)
    if header is None or DESCRIPTIONS[header[1]] != tensor.datatype:
        raise ValueError("not an array of the type")
    shape = tuple(map(int, header[3].split(b",")))
    rows = shape[0]
    if shape[1:] != tensor.shape or not 0 < rows <= max_rows or len(content) != header.end() + rows * row_bytes:
        raise ValueError("other shapes")
    numbers = np.frombuffer(content, dtype, offset=header.end())
    order: Literal["F", "C"] = "F" if header[2] == b"True" else "C"
    return np.ascontiguousarray(numbers.reshape(shape, order=order), tensor.datatype)
