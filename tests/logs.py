"""What the service logs within a test."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from app.telemetry.logs import LOGGER

OWN_ATTRIBUTES = {*logging.makeLogRecord({}).__dict__, "message", "taskName"}


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        facts = {name: value for name, value in record.__dict__.items() if name not in OWN_ATTRIBUTES}
        level = record.levelname.lower()
        self.lines.append({"event": record.msg, "level": level, "exc_info": bool(record.exc_info), **facts})


@contextmanager
def captured_logs() -> Iterator[list[dict[str, Any]]]:
    """Collects the events of the block, each with its level and facts, requests for debugging included."""
    logger, collector = logging.getLogger(LOGGER), _Collector()
    level = logger.level
    logger.addHandler(collector)
    logger.setLevel(logging.DEBUG)
    try:
        yield collector.lines
    finally:
        logger.removeHandler(collector)
        logger.setLevel(level)
