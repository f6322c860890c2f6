"""What Flower and Ray log while they carry a run, kept for when it fails."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedlease.core.errors import FedLeaseError


@contextmanager
def aside(path: Path) -> Iterator[None]:
    """Keep what Flower and Ray log from the screen; if all this fails it is in a file."""
    path.unlink(missing_ok=True)
    heard = _Heard()
    loggers = [logging.getLogger(name) for name in ("flwr", "ray")]
    before = [(logger, list(logger.handlers), logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [heard], False
    try:
        yield
    except Exception as error:
        if heard.lines:
            path.parent.mkdir(exist_ok=True)
            with path.open("a") as file:
                file.write("\n".join(heard.lines) + "\n")
        if isinstance(error, FedLeaseError) and path.is_file():
            raise FedLeaseError(f"{error}; {path} says more") from error
        raise
    finally:
        for logger, handlers, propagate in before:
            logger.handlers, logger.propagate = handlers, propagate


class _Heard(logging.Handler):
    """Keeps the last lines that were logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines = deque[str](maxlen=100)

    def emit(self, record: logging.LogRecord) -> None:
        if "DEPRECATED FEATURE" not in record.getMessage():  # known, and no reason for a failure
            self.lines.append(f"{record.name} {record.levelname} {record.getMessage()}")
