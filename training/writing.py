"""Writes the files that a user asks for: whole, or not at all.

Versions have their own way, through to the disk: see `training.publishing.publication`.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from training.errors import ConfigError


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file beside its place and renames it, so that a reader finds the old content or the new one.

    The file keeps its permissions. A link keeps pointing to the file that is written. A device or a pipe is written to
    directly.

    Raises:
        ConfigError: The file cannot be written.
    """
    content = content.encode() if isinstance(content, str) else content
    with _told(path):
        if _is_irregular(path):
            path.write_bytes(content)
            return
        with _beside(path) as new:
            new.write_bytes(content)
            if path.exists():
                shutil.copymode(path, new)
            new.replace(path.resolve())


def check_writable(path: Path) -> None:
    """Checks, before the work, that its result can be written. Leaves no file behind.

    Raises:
        ConfigError: The file cannot be written.
    """
    with _told(path):
        if _is_irregular(path):
            path.open("ab").close()
            return
        with _beside(path) as new:
            new.touch()


def _is_irregular(path: Path) -> bool:
    """Whether there is something that a rename would destroy: a device, a pipe or a folder."""
    return path.exists() and not path.is_file()


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Gives the path of a hidden file in the folder where `path` leads to, and removes what is left there."""
    path = path.resolve()
    new = path.with_name(f".{path.name}-{uuid4().hex}")
    try:
        yield new
    finally:
        new.unlink(missing_ok=True)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Tells in a sentence why a file cannot be written."""
    try:
        yield
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no folder {path.parent}; make it first.") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}); choose another file.") from None
