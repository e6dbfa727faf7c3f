"""Structured logs, through the standard library's `logging`: events with facts, under the logger `app`.

A module logs with `get_logger()`. Where the events go is decided outside: by `configure_logs` for a process of ours
(JSON lines on standard output, coloured ones on a terminal), or by the application that ours is mounted in. Payloads
are never logged.
"""

import logging
import os
import sys
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from typing import Any

import orjson
import structlog

from app.telemetry.lines import LineWriter

LOGGER = "app"
REQUEST_LOGGER = "app.requests"

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
    """Sets the format and the level of everything that this process logs: events, warnings and uncaught exceptions."""
    logging.basicConfig(handlers=[LineHandler()], level=level.upper(), force=True)
    # The lines of uvicorn about starting and stopping repeat ours.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    sys.excepthook = lambda *error: log_uncaught(error)
    threading.excepthook = lambda told: log_uncaught((told.exc_type, told.exc_value, told.exc_traceback))
    sys.unraisablehook = lambda told: log_uncaught((told.exc_type, told.exc_value, told.exc_traceback))


def log_uncaught(error: tuple[Any, Any, Any]) -> None:
    """Logs an exception that nobody caught, given as type, exception and traceback."""
    if not issubclass(error[0], SystemExit):
        get_logger().critical("uncaught exception", exc_info=error)


def flush_logs() -> None:
    """Waits a moment until the lines of this process are written. Does nothing where the logs are not ours."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LineHandler):
            handler.flush()


@cache
def standard_output() -> LineWriter:
    """Returns the writer of this process. What was closed at the start is not written to."""
    return LineWriter(os.open(os.devnull, os.O_WRONLY) if sys.stdout is None else sys.stdout.fileno())


class LineHandler(logging.Handler):
    """Writes a line for each event to standard output: JSON, or colours on a terminal.

    Attributes:
        writer: Takes the lines.
        writes_json: Whether the lines are JSON.
    """

    def __init__(self) -> None:
        super().__init__()
        self.writer = standard_output()
        self.writes_json = sys.stdout is None or not sys.stdout.isatty()
        renderers: list[structlog.typing.Processor] = (
            [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_to_json)]
            if self.writes_json
            else [structlog.dev.ConsoleRenderer()]
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

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the line of an event."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 (as the standard library's handlers do)
            self.handleError(record)
        else:
            self.writer.write([f"{line}\n".encode(errors="backslashreplace")])

    def flush(self) -> None:
        """Waits a moment until all lines are written. Called at the end of the process."""
        self.writer.flush()


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
        handlers = logging.getLogger().handlers
        if len(handlers) == 1 and isinstance(handlers[0], LineHandler) and handlers[0].writes_json:
            handlers[0].writer.write([_line_of(*request) for request in requests])
            return
        for level, _, facts in requests:
            self._logger.log(level, "request", extra=facts)


def _line_of(level: int, ended: float, facts: dict[str, Any]) -> bytes:
    return orjson.dumps(
        {
            **facts,
            "event": "request",
            "level": LEVEL_NAMES[level],
            "timestamp": datetime.fromtimestamp(ended, UTC),
        },
        option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE,
    )
