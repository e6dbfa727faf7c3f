"""Structured logs on standard output: JSON lines, or coloured ones on a terminal.

The lines of uvicorn and of other libraries go through the same renderer. Payloads are never logged.
"""

import asyncio
import logging
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog

SHARED_PROCESSORS: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure_logs(level: str) -> None:
    """Sets the format and the level of everything this process logs."""
    logging.basicConfig(handlers=[_handler()], level=level.upper(), force=True)
    # Its lines about starting and stopping repeat ours.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *SHARED_PROCESSORS,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def _handler() -> logging.Handler:
    handler = logging.StreamHandler(sys.stdout)
    renderers: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if sys.stdout.isatty()
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_to_json)]
    )
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=SHARED_PROCESSORS,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    return handler


def _to_json(event: Any, **options: Any) -> str:
    return orjson.dumps(event, default=options.get("default", str)).decode()


FLUSH_SECONDS = 0.05
"""Longest time for which the line of a request is held back."""


class RequestLog:
    """Logs a line per request: the same lines as any other event's, at a tenth of the time on the way to a file.

    They are held back for a moment and written together: a call to the kernel for each would take longer than all else.
    """

    def __init__(self) -> None:
        self._logger = structlog.get_logger("app.requests")
        self._levels = logging.getLogger("app.requests")
        self._lines: list[bytes] = []

    def write(self, level: int, facts: dict[str, Any]) -> None:
        """Logs one request; must be called on an event loop."""
        if not self._levels.isEnabledFor(level):
            return
        if sys.stdout.isatty():
            self._logger.log(level, "request", **facts)
            return
        if not self._lines:
            asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
        facts |= {"event": "request", "level": LEVEL_NAMES[level], "timestamp": datetime.now(UTC)}
        self._lines.append(orjson.dumps(facts, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE))

    def flush(self) -> None:
        """Writes what is held back."""
        lines, self._lines = self._lines, []
        with suppress(OSError, ValueError):  # nobody reads the log any more
            sys.stdout.write(b"".join(lines).decode())
            sys.stdout.flush()


LEVEL_NAMES = {logging.DEBUG: "debug", logging.INFO: "info"}

request_log = RequestLog()
"""The one of this process."""
