"""Policies: which versions of a model serve, and under which labels. A TOML file holds them.

    [default]
    latest = 2                        # the two highest sound versions; the default is 1
    labels = { stable = 3, canary = 4 }

    [other]
    versions = [7]                    # only these

Models that the file does not name follow `latest = 1`.
"""

import asyncio
import fcntl
import os
import tempfile
import tomllib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Self, TypeVar

import tomlkit
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from tomlkit.exceptions import TOMLKitError

from app.errors import ArtifactError
from app.version.files import read_file
from app.version.folders import is_settled, last_change
from app.version.manifest import NAME_PATTERN

LABEL_PATTERN = r"^[A-Za-z][A-Za-z0-9._-]{0,63}$"
MAX_FILE_BYTES = 2**18
MAX_POINTS = 2**12
"""Most points in the file. Parsers take the square of the parts of `a.dotted.key`, and more."""
MAX_LABELS = 256
"""Most labels of a model. Each that waits for its version is told at every look."""
MAX_VERSION = 10**18 - 1
"""Version folders have at most 18 digits."""
MAX_VERSIONS = 64
"""More versions than anybody serves at once."""

REMEDY = "correct the file"

LOCK_POLL_SECONDS = 0.02
"""How often to ask whether somebody else still changes the file."""

Parsed = TypeVar("Parsed")

Stamp = tuple[int, ...]
"""Time of the last change, size and inode of the file; empty without a file."""

Label = Annotated[str, Field(pattern=LABEL_PATTERN)]
ModelName = Annotated[str, Field(pattern=NAME_PATTERN)]
VersionNumber = Annotated[int, Field(ge=1, le=MAX_VERSION)]
LatestCount = Annotated[int, Field(ge=1, le=MAX_VERSIONS)]
VersionList = Annotated[list[VersionNumber], Field(max_length=MAX_VERSIONS)]


class Policy(BaseModel):
    """Which versions of one model serve."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    latest: LatestCount | None = None
    """How many of the highest versions serve."""
    versions: VersionList | None = None
    """The only versions that serve."""
    labels: Annotated[dict[Label, VersionNumber], Field(max_length=MAX_LABELS)] = {}
    """Names of versions in requests. A label holds from the moment that its version serves."""

    @model_validator(mode="after")
    def _latest_or_versions(self) -> Self:
        if self.latest is not None and self.versions is not None:
            raise ValueError("give either latest or versions")
        return self

    def with_label(self, label: str, version: int) -> Self:
        """Returns the policy with a label for a version."""
        return self.model_copy(update={"labels": {**self.labels, label: version}})

    def without_label(self, label: str) -> Self:
        """Returns the policy without a label."""
        others = {other: version for other, version in self.labels.items() if other != label}
        return self.model_copy(update={"labels": others})


LATEST_ONE = Policy(latest=1)

_Policies = TypeAdapter(dict[ModelName, Policy])


class PolicyFile:
    """The policies of all models, read from a file. No file is the same as an empty file.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read_at: Stamp | None = None
        self._policies: dict[str, Policy] = {}
        self._problem: ArtifactError | None = None

    def of(self, model: str) -> Policy:
        """Returns the policy of a model, as of the last `refresh` that succeeded."""
        return self._policies.get(model, LATEST_ONE)

    def names(self) -> set[str]:
        """Returns the models that the file names."""
        return {*self._policies}

    def refresh(self, *, at_once: bool = False) -> None:
        """Reads the file again if it has changed.

        Args:
            at_once: Whether to read it even if somebody may be writing it.

        Raises:
            ArtifactError: The file cannot be read, or does not hold policies. The policies read before stay.
        """
        stamp = self._stamp()
        is_whole = at_once or not stamp or is_settled(stamp[0])  # editors and `cp` write it in several steps
        if stamp != self._read_at and is_whole and (stamp or self.path.parent.is_dir()):
            self._read_at = stamp
            self._read()
        if self._problem is not None:
            raise self._problem

    def _read(self) -> None:
        try:
            self._policies = self._policies_in(self._content())
        except ArtifactError as error:
            self._problem = error
        else:
            self._problem = None

    @asynccontextmanager
    async def locked(self, seconds: float) -> AsyncIterator[None]:
        """Lets nobody else change the file, in this worker or in another, until the block ends.

        The lock is on the file's folder, because every change replaces the file. Editors do not ask for it.

        Args:
            seconds: How long to wait while somebody else changes the file.

        Raises:
            ArtifactError: Somebody else changes the file for longer, or there is no folder.
        """
        try:
            handle = await asyncio.to_thread(os.open, self.path.resolve().parent, os.O_RDONLY)
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            await self._wait_for_lock(handle, seconds)
            yield
        finally:
            os.close(handle)

    async def _wait_for_lock(self, handle: int, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not _try_lock(handle):  # noqa: ASYNC110 (nobody tells this process when another is done)
                    await asyncio.sleep(LOCK_POLL_SECONDS)
        except TimeoutError:
            problem, remedy = f"has been changed by somebody else for {seconds:g} seconds", "try again later"
            raise ArtifactError(self.path, problem, remedy) from None

    def change(self, model: str, edit: Callable[[Policy], Policy]) -> Policy:
        """Changes a model's policy in the file. Everything else in the file stays as it is, comments included.

        Must be called while the file is `locked`: otherwise one of two changes at the same time may be lost.

        Args:
            model: Its name.
            edit: Makes the new policy from the policy in the file.

        Returns:
            The policy that was in the file.

        Raises:
            ArtifactError: The file cannot be read or written, or does not hold policies before or after the change.
                Nothing has changed.
        """
        content = self._content()
        before = self._policies_in(content).get(model, LATEST_ONE)
        document = self._parse(tomlkit.parse, content)
        document[model] = edit(before).model_dump(exclude_defaults=True)
        after = tomlkit.dumps(document).encode()
        self._policies_in(after)
        try:
            _replace(self.path.resolve(), after)
        except OSError as error:
            raise self._unwritable(error) from None
        return before

    def _unwritable(self, error: OSError) -> ArtifactError:
        return ArtifactError(self.path, f"cannot be written ({error.strerror})", "check permissions and mounts")

    def _stamp(self) -> Stamp:
        try:
            status = self.path.stat()
        except OSError:
            return ()
        return last_change(status), status.st_size, status.st_ino

    def _content(self) -> bytes:
        try:
            return read_file(self.path, MAX_FILE_BYTES)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise ArtifactError(self.path, f"cannot be read ({error.strerror})", "check its permissions") from None
        except ArtifactError as error:
            raise ArtifactError(self.path, error.problem, REMEDY) from None

    def _policies_in(self, content: bytes) -> dict[str, Policy]:
        if content.count(b".") > MAX_POINTS:
            raise ArtifactError(self.path, f"has more than {MAX_POINTS} points", REMEDY)
        try:
            # Many times as fast as the parser that keeps comments, and the file is read at every change.
            return _Policies.validate_python(self._parse(tomllib.loads, content))
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            message = first["msg"].removeprefix("Value error, ")
            raise ArtifactError(self.path, f"{place}: {message}", REMEDY) from None

    def _parse(self, parse: Callable[[str], Parsed], content: bytes) -> Parsed:
        try:
            return parse(content.decode())
        except (TOMLKitError, ValueError, RecursionError) as error:
            raise ArtifactError(self.path, f"is not TOML ({error})", REMEDY) from None


def _try_lock(handle: int) -> bool:
    """Takes the lock on a file or folder until the handle is closed, or returns False: another handle has it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _replace(path: Path, content: bytes) -> None:
    """Writes a file whole: a reader finds the old content or the new content."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
