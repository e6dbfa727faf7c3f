"""Structured logs, through the standard library's `logging`: events with facts, under the logger `app`.

A module logs with `get_logger()`. Where the events go is decided outside: by `configure_logs` for a process of ours
(JSON lines on standard output, coloured ones on a terminal), or by the application that ours is mounted in. Payloads
are never logged.
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

LOGGER = "app"
REQUEST_LOGGER = "app.requests"

STDOUT_LOCK = threading.RLock()
"""Held by every thread that writes lines."""

STRUCTLOG_FRAMES = 4
"""Frames between a call of a logger and the record: the call itself, the processors, the standard library's logger."""

LEVEL_NAMES = {logging.DEBUG: "debug", logging.INFO: "info"}


def get_logger() -> structlog.stdlib.BoundLogger:
    """Returns the logger of all modules. Its facts become attributes of the record, beside the event as the message."""
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(LOGGER),
        processors=[structlog.stdlib.filter_by_level, _name_caller, structlog.stdlib.render_to_log_kwargs],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return logger


def _name_caller(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Has the record name the line that logs, past the frames of structlog."""
    event["stacklevel"] = STRUCTLOG_FRAMES
    return event


def configure_logs(level: str) -> None:
    """Sets the format and the level of everything that this process logs."""
    logging.basicConfig(handlers=[LineHandler()], level=level.upper(), force=True)
    # The lines of uvicorn about starting and stopping repeat ours.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


class LineHandler(logging.StreamHandler[Any]):
    """Writes a line for each event to standard output: JSON, or colours on a terminal."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)
        self.lock = STDOUT_LOCK
        renderers: list[structlog.typing.Processor] = (
            [structlog.dev.ConsoleRenderer()]
            if sys.stdout.isatty()
            else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_to_json)]
        )
        self.setFormatter(
            structlog.stdlib.ProcessorFormatter(
                foreign_pre_chain=[
                    structlog.stdlib.add_log_level,
                    structlog.stdlib.ExtraAdder(),
                    structlog.processors.TimeStamper(fmt="iso", utc=True),
                ],
                processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
            )
        )


def _to_json(event: Any, **options: Any) -> str:
    return orjson.dumps(event, default=options.get("default", str)).decode()


class RequestLog:
    """Logs requests like any other event. Where a `LineHandler` writes JSON, a line takes a tenth of the time."""

    def __init__(self) -> None:
        self._logger = logging.getLogger(REQUEST_LOGGER)

    def is_on(self, level: int) -> bool:
        """Whether lines of that level are written."""
        return self._logger.isEnabledFor(level)

    def write(self, requests: Iterable[tuple[int, float, dict[str, Any]]]) -> None:
        """Writes a line for each request: its level, the Unix time of its end, and the facts to tell."""
        if not self._writes_json():
            for level, _, facts in requests:
                self._logger.log(level, "request", extra=facts)
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

    def _writes_json(self) -> bool:
        """Whether the process is ours, and its output no terminal."""
        handlers = logging.getLogger().handlers
        return len(handlers) == 1 and isinstance(handlers[0], LineHandler) and not sys.stdout.isatty()


def _pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Joins lines up to the size that a pipe takes as a whole even if other processes write into the pipe, too."""
    piece = b""
    for line in lines:
        if piece and len(piece) + len(line) > PIPE_BUF:
            yield piece
            piece = b""
        piece += line
    if piece:
        yield piece
