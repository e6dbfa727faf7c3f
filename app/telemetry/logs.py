"""Structured logs on standard output: JSON lines, or coloured ones on a terminal.

The lines of uvicorn and of other libraries go through the same renderer. Payloads are never logged.
"""

import logging
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from select import PIPE_BUF
from typing import Any

import orjson
import structlog

SHARED_PROCESSORS: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


STDOUT_LOCK = threading.RLock()
"""Held while lines are written, by whatever thread."""


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
    handler.lock = STDOUT_LOCK
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


LEVEL_NAMES = {logging.DEBUG: "debug", logging.INFO: "info"}


class RequestLog:
    """Logs requests: the same lines as any other event's, at a tenth of the time where they need no colours."""

    def __init__(self) -> None:
        self._logger = structlog.get_logger("app.requests")
        self._levels = logging.getLogger("app.requests")

    def is_on(self, level: int) -> bool:
        """Whether lines of that level are written."""
        return self._levels.isEnabledFor(level)

    def write(self, requests: Iterable[tuple[int, float, dict[str, Any]]]) -> None:
        """Writes a line for each request: its level, the time when it ended, and what is to be told of it."""
        if sys.stdout.isatty():
            for level, _, facts in requests:
                self._logger.log(level, "request", **facts)
            return
        lines = [
            orjson.dumps(
                {
                    **facts,
                    "event": "request",
                    "level": LEVEL_NAMES[level],
                    "timestamp": datetime.fromtimestamp(ended, UTC),
                },
                option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE,
            )
            for level, ended, facts in requests
        ]
        with STDOUT_LOCK, suppress(OSError, ValueError):  # nobody may read the log any more
            for piece in _pieces(lines):
                sys.stdout.write(piece.decode())
                sys.stdout.flush()


def _pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Joins lines up to the size that a pipe takes as a whole, even if other processes write into it, too."""
    piece = b""
    for line in lines:
        if piece and len(piece) + len(line) > PIPE_BUF:
            yield piece
            piece = b""
        piece += line
    if piece:
        yield piece
