"""Reads arrays of rows out of an `.npz` archive, within bounds and as plain data: nothing in the archive is run.

`numpy.load` inflates whatever an archive holds. Here the sizes in the archive's directory and in the arrays' headers
must be those that are expected.
"""

import os
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from math import prod
from typing import BinaryIO

import numpy as np

from app.arrays import Array

MAX_ARRAY_BYTES = 2**27
"""Most bytes of an array: 16 of the largest windows that a contract may have."""

MAX_HEADER_BYTES = 256
HEADER = re.compile(
    rb"\x93NUMPY\x01\0..\{'descr': '<f4', 'fortran_order': (False|True), 'shape': \((\d+), (\d+), (\d+)\), \} *\n",
    re.DOTALL,
)
"""The start of a `.npy` file of float32 numbers with three axes."""

END = struct.Struct("<4s8xI4xH")
"""The last bytes of an archive without a comment: a mark, the bytes of its directory, the bytes of the comment."""
END_MARK, LARGE_ARCHIVE_MARK = b"PK\5\6", b"PK\6\7"
LARGE_ARCHIVE_BYTES = 20
"""Bytes in front of the end of an archive that has its sizes in 64 bits elsewhere."""
MAX_DIRECTORY_BYTES = 1024
"""Most bytes of an archive's directory. Two entries take 150."""

DAMAGE = (EOFError, OSError, OverflowError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error)
"""What the standard library raises for a damaged archive, beside `ValueError`."""


def read_rows(file: BinaryIO, shapes: Mapping[str, tuple[int, int]], max_rows: int) -> dict[str, Array]:
    """Reads the arrays of an archive, as `numpy.savez` writes them.

    Args:
        file: The archive.
        shapes: The names of all arrays, each with the shape of one of its rows.
        max_rows: Most rows of an array; there is at least one.

    Returns:
        Float32 arrays (batch, *shape) by name.

    Raises:
        ValueError: The file is no archive, is damaged, or holds anything else.
    """
    try:
        _check_directory(file)
        with zipfile.ZipFile(file) as archive:
            if sorted(archive.namelist()) != sorted(f"{name}.npy" for name in shapes):
                raise ValueError("other arrays")
            return {name: _read_array(archive, f"{name}.npy", shape, max_rows) for name, shape in shapes.items()}
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


def _read_array(archive: zipfile.ZipFile, name: str, row_shape: tuple[int, int], max_rows: int) -> Array:
    member = archive.getinfo(name)
    row_bytes = 4 * prod(row_shape)
    max_rows = min(max_rows, MAX_ARRAY_BYTES // row_bytes)
    if member.file_size > MAX_HEADER_BYTES + max_rows * row_bytes:
        raise ValueError("too many rows")
    if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:  # others inflate without a bound
        raise ValueError("compressed otherwise")
    with archive.open(member) as file:
        content = file.read(member.file_size + 1)
    header = HEADER.match(content)
    if header is None:
        raise ValueError("not an array of float32 with three axes")
    shape = tuple(map(int, header.groups()[1:]))
    if shape[1:] != row_shape or not 0 < shape[0] <= max_rows or len(content) != header.end() + shape[0] * row_bytes:
        raise ValueError("other shapes")
    numbers = np.frombuffer(content, "<f4", offset=header.end())
    return np.ascontiguousarray(numbers.reshape(shape, order="F" if header[1] == b"True" else "C"), np.float32)
