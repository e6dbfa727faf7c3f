"""Files and folders as others leave them, looked at and read within bounds.

In the place of a file there may be a pipe, whose reader waits for ever, or a file that is larger than the memory; in a
folder, files without number. Nothing here waits, and nothing grows without end.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

from app.errors import ArtifactError

MAX_ENTRIES = 10_000
"""Most files and folders in a version, which has about a dozen. Each look at a version asks for them all."""


def open_file(path: Path) -> BufferedReader:
    """Opens a file, or a link to a file, for reading. Does not wait, as the open of a pipe waits for its writer.

    The handle is looked at, and not the path: between two looks at a path another thing may take its place.

    Raises:
        ArtifactError: There is a folder, a pipe, a socket or a device in the place of a file.
        OSError: There is no file, or the file cannot be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket, or a device that is not there
            raise not_a_file(path) from None
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise not_a_file(path)
    return os.fdopen(handle, "rb")


def read_file(path: Path, max_bytes: int) -> bytes:
    """Reads a whole file.

    Raises:
        ArtifactError: There is a folder, a pipe, a socket or a device in the place of a file, or the file has more than
            `max_bytes`.
        OSError: There is no file, or the file cannot be read.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(size + 1) if size <= max_bytes else b""
    if max(size, len(content)) > max_bytes:
        raise ArtifactError(path, f"has more than {max_bytes} bytes")
    return content


def not_a_file(path: Path) -> ArtifactError:
    """Returns the error for a pipe, a socket, a device or a folder in the place of a file."""
    return ArtifactError(path, "is not a file")


@contextmanager
def readable(path: Path, missing: str = "the file is missing") -> Iterator[None]:
    """Turns what keeps a file from being read into an `ArtifactError`.

    Args:
        path: The file.
        missing: The problem if there is no such file.
    """
    try:
        yield
    except FileNotFoundError:
        raise ArtifactError(path, missing) from None
    except OSError as error:
        raise ArtifactError(path, f"cannot be read ({error.strerror})", "check its permissions") from None


def contents(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """Returns everything in a folder and in its folders by path, sorted, each path with the status of what it leads to.

    Links are not followed into folders. A link that leads to nothing is left out.

    Raises:
        ArtifactError: The folder holds more than `MAX_ENTRIES` files and folders.
        OSError: The folder cannot be read.
    """
    found: list[tuple[Path, os.stat_result]] = []
    for entry in _entries_below(folder):
        if len(found) == MAX_ENTRIES:
            raise ArtifactError(folder, f"holds more than {MAX_ENTRIES} files and folders")
        with suppress(FileNotFoundError):  # deleted meanwhile
            found.append((Path(entry.path), entry.stat()))
    return sorted(found)


def _entries_below(folder: Path) -> Iterator[os.DirEntry[str]]:
    folders = [os.fspath(folder)]
    while folders:  # no recursion, however deep the folders are nested
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
