"""Every value the service can be given, from WINDOWCAST_* variables and from `.env`.

The docstring under each field is its documentation: `python -m app --help` and the reference pages show it.
"""

import difflib
import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.engines.engine import EngineName
from app.errors import SettingsError
from app.version.manifest import NAME_PATTERN

PREFIX = "WINDOWCAST_"
MIN_KEY_CHARACTERS = 16
ENV_FILE = Path(".env")
SERVICE_LINK = re.compile(rf"{PREFIX}(SERVICE_|PORT_\d+_)")
"""What Kubernetes puts into every pod beside a Service called `windowcast`; WINDOWCAST_PORT=tcp://... is another."""


MOVED = {
    f"{PREFIX}MAX_BATCH_ROWS": f"{PREFIX}MAX_BATCH_WINDOWS",
    f"{PREFIX}MAX_QUEUE_ROWS": f"{PREFIX}MAX_QUEUE_WINDOWS",
}
"""Settings that have another name now."""


class Settings(BaseSettings):
    """The service's settings."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=ENV_FILE, extra="ignore", frozen=True, use_attribute_docstrings=True
    )

    models_dir: Path = Path("models")
    """Folder that holds the models as NAME/VERSION."""
    model: Annotated[str, Field(pattern=NAME_PATTERN)] = "default"
    """Model that answers a request which names none."""
    policies: Path | None = None
    """TOML file that says which versions serve, under which labels; by default `policies.toml` in `MODELS_DIR`."""
    watch_seconds: float = Field(default=5.0, ge=0, allow_inf_nan=False)
    """Seconds between two looks for new versions and policies; 0 for no looks."""
    admin_key: SecretStr | None = Field(default=None, examples=["a secret of 16 characters or more"])
    """Key of at least 16 characters for `/admin`, where policies can be changed. Without a key there is no `/admin`."""
    engine: EngineName = "auto"
    """What computes: `onnx` (the fused twin), `tensorflow` (the SavedModel) or `auto` (the twin if it is sound)."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on."""

    @field_validator("port", mode="before")
    @classmethod
    def _ignore_service_link(cls, value: object) -> object:
        return cls.model_fields["port"].default if str(value).startswith("tcp://") else value

    root_path: str = Field(default="", pattern=r"^(/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*$", examples=["/forecast"])
    """Path under which a proxy in front publishes the service, for example `/forecast`."""
    workers: int = Field(default=1, ge=1, le=64)
    """Processes that serve. Each process loads the models for itself."""
    docs: bool = True
    """Whether to serve `/docs` and `/openapi.json`."""

    max_connections: int = Field(default=10_000, ge=1)
    """Most connections of a process; fewer where the process may open fewer files. Others are answered with 503, except
    probes."""
    max_body_bytes: int = Field(default=16 * 2**20, ge=1024)
    """Largest request body, in bytes. A model that needs less takes less."""
    max_batch_windows: int = Field(default=1024, ge=1, le=65536)
    """Most windows in one request."""
    max_queue_windows: int = Field(default=8192, ge=1)
    """Most windows that may wait for a version. Further requests are refused with 503."""
    max_queue_seconds: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Longest time that windows should wait for a version, judged by how many it computed a second lately. Further
    requests are refused with 503. Where nothing waits, a request of any size is taken."""
    allow_nan: bool = False
    """Whether `/v1` takes and gives NaN and Infinity, as TensorFlow Serving does. They are not JSON."""
    request_timeout_seconds: float = Field(default=30.0, gt=0, allow_inf_nan=False)
    """Longest time from a request's last byte to its forecast. After it the answer is 504."""
    stall_seconds: float = Field(default=120.0, ge=1, allow_inf_nan=False)
    """Longest time that a call of an engine or a load of a version may take. After it `/livez` answers 503, and the
    process ends with exit code 3 a second later."""
    receive_timeout_seconds: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    """Longest time a client may take to send a request's headers, and again to send its body."""
    drain_seconds: float = Field(default=5.0, ge=0, allow_inf_nan=False)
    """Time after SIGTERM during which requests are still taken while `/readyz` already answers 503."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe events that are logged. `info` logs a line per request, `debug` also a line per probe."""

    @field_validator("admin_key")
    @classmethod
    def _must_be_long_and_fit_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and (len(value) < MIN_KEY_CHARACTERS or not value.get_secret_value().isascii()):
            raise ValueError(f"must have at least {MIN_KEY_CHARACTERS} characters, all of ASCII")
        return value

    @model_validator(mode="after")
    def _workers_must_hear_of_changes(self) -> Self:
        if self.admin_key is not None and self.workers > 1 and not self.watch_seconds:
            raise ValueError("with several workers WINDOWCAST_ADMIN_KEY needs a WINDOWCAST_WATCH_SECONDS above 0")
        return self

    @property
    def policies_file(self) -> Path:
        """Where the policies are."""
        return self.policies or self.models_dir / "policies.toml"

    @classmethod
    def read(cls) -> Self:
        """Reads the settings from the environment and `.env`.

        Raises:
            SettingsError: A value cannot be used, or a variable with our prefix is unknown.
        """
        try:
            _check_variables(cls)
            return cls()
        except UnicodeDecodeError:
            raise SettingsError(f"{ENV_FILE} is not text in UTF-8.") from None
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            if not first["loc"]:
                raise SettingsError(f"{first['msg'].removeprefix('Value error, ')}.") from None
            field = str(first["loc"][0])
            example = (cls.model_fields[field].examples or [cls.model_fields[field].default])[0]
            raise SettingsError(f"{PREFIX}{field.upper()}: {first['msg']}; for example {example}.") from None


def _check_variables(settings: type[Settings]) -> None:
    """Checks that every variable with our prefix is a setting. A misspelt setting would silently keep its default."""
    known = [f"{PREFIX}{field.upper()}" for field in settings.model_fields]
    given = [*os.environ, *dotenv_values(ENV_FILE)]
    for variable in given:
        if moved := MOVED.get(variable.upper()):
            raise SettingsError(f"{variable} is now {moved}; set {moved} instead.")
        ours = variable.upper().startswith(PREFIX) and not SERVICE_LINK.match(variable)
        if ours and variable.upper() not in known:
            nearest = difflib.get_close_matches(variable.upper(), known, n=1, cutoff=0.0)[0]
            raise SettingsError(f"{variable} is not a setting; did you mean {nearest}?")
