"""Policies: which versions of a model serve, and under which labels. A TOML file holds them.

    [default]
    latest = 2                        # the two highest sound versions; the default is 1
    labels = { stable = 3, canary = 4 }

    [other]
    versions = [7]                    # only these

Models that the file does not name follow `latest = 1`.
"""

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Self

import tomlkit
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from tomlkit.exceptions import TOMLKitError

from app.errors import ArtifactError
from app.version.folders import is_settled, last_change
from app.version.manifest import NAME_PATTERN

LABEL_PATTERN = r"^[A-Za-z][A-Za-z0-9._-]{0,63}$"
MAX_FILE_BYTES = 2**20
MAX_VERSION = 10**18 - 1
"""Version folders have at most 18 digits."""
MAX_VERSIONS = 64
"""More versions than anybody serves at once."""

REMEDY = "correct the file"

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
    labels: dict[Label, VersionNumber] = {}
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
            self._policies = _validate(self.path, self._parse().unwrap())
        except ArtifactError as error:
            self._problem = error
        else:
            self._problem = None

    def change(self, model: str, edit: Callable[[Policy], Policy]) -> None:
        """Changes a model's policy in the file. Everything else in the file stays as it is, comments included.

        Args:
            model: Its name.
            edit: Makes the new policy from the policy in the file.

        Raises:
            ArtifactError: The file cannot be read or written, or does not hold policies. Nothing has changed.
        """
        target = self.path.resolve()
        try:
            with _locked(target.parent):
                document = self._parse()
                before = _validate(self.path, document.unwrap()).get(model, LATEST_ONE)
                document[model] = edit(before).model_dump(exclude_defaults=True)
                _replace(target, tomlkit.dumps(document))
        except OSError as error:
            remedy = "check permissions and mounts"
            raise ArtifactError(self.path, f"cannot be written ({error.strerror})", remedy) from None

    def _stamp(self) -> Stamp:
        try:
            status = self.path.stat()
        except OSError:
            return ()
        return last_change(status), status.st_size, status.st_ino

    def _parse(self) -> tomlkit.TOMLDocument:
        if self.path.exists() and not self.path.is_file():
            raise ArtifactError(self.path, "is not a file", REMEDY)
        try:
            with self.path.open("rb") as file:
                text = file.read(MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            return tomlkit.document()
        except OSError as error:
            raise ArtifactError(self.path, f"cannot be read ({error.strerror})", "check its permissions") from None
        if len(text) > MAX_FILE_BYTES:
            raise ArtifactError(self.path, f"has more than {MAX_FILE_BYTES} bytes", REMEDY)
        try:
            return tomlkit.parse(text)
        except (TOMLKitError, UnicodeDecodeError, RecursionError) as error:
            raise ArtifactError(self.path, f"is not TOML ({error})", REMEDY) from None


def _validate(path: Path, content: object) -> dict[str, Policy]:
    try:
        return _Policies.validate_python(content)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise ArtifactError(path, f"{place}: {message}", REMEDY) from None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps other workers from changing the file at the same time, which would lose one of two changes."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _replace(path: Path, text: str) -> None:
    """Writes a file whole: a reader finds the old text or the new text."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
