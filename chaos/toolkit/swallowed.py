"""Collects what Chaos Toolkit swallows: controls that raised, event handlers that failed, SIGTERM inside an
activity.

The library keeps such errors out of the journal and out of the exit code; the only trace is a record of its logger,
most of them at level DEBUG. So this listens there. The wording is the library's own, the same from 1.44 to 1.45; a test
runs each case through the real library, so that another wording shows as a failing test and not as a silent gate.
"""

from __future__ import annotations

import logging
import re
import threading
from typing import Final

LOGGER: Final = "chaostoolkit"
_SIGTERM: Final = "Caught SIGTERM signal"
_SWALLOWED: Final = (
    re.compile(r"(?:Before|After)-control '.*' failed"),
    re.compile(r"Control initialization '.*' failed"),
    re.compile(r"Control cleanup '.*' failed"),
    re.compile(r"Control module '.*' could not be loaded"),
    re.compile(r"Failed to close controls"),
    re.compile(r"Handler \S+ failed"),
    re.compile(r"Failed to load configuration '.*'"),
)


class SwallowedErrorHandler(logging.Handler):
    """A context manager that listens from entering to leaving. Safe to enter again while it listens.

    Attributes:
        heard: one sentence for each error that was swallowed.
        terminated: SIGTERM came.
    """

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.heard: list[str] = []
        self.terminated = False
        self._depth = 0
        self._before: tuple[int, bool] = (logging.NOTSET, True)
        self._muted: list[tuple[logging.Handler, int]] = []
        self._guard = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if _SIGTERM in text:
            self.terminated = True
        if any(pattern.search(text) for pattern in _SWALLOWED):
            cause = record.exc_info[1] if record.exc_info else None
            sentence = text.partition("It will not be registered")[0].strip().rstrip(".")
            self.heard.append(f"{sentence}: {type(cause).__name__}: {cause}" if cause else sentence)

    def __enter__(self) -> SwallowedErrorHandler:
        with self._guard:
            self._depth += 1
            if self._depth == 1:
                logger = logging.getLogger(LOGGER)
                self._before = (logger.level, logger.propagate)
                effective = logger.getEffectiveLevel()
                # Others must not begin to show what they did not show before.
                self._muted = [(h, h.level) for h in logger.handlers if h.level < effective]
                for handler, _ in self._muted:
                    handler.setLevel(effective)
                if effective > logging.DEBUG:
                    logger.setLevel(logging.DEBUG)
                    logger.addFilter(self._lift)
                logger.addHandler(self)
        return self

    def __exit__(self, *exc: object) -> None:
        with self._guard:
            self._depth -= 1
            if self._depth == 0:
                logger = logging.getLogger(LOGGER)
                logger.removeHandler(self)
                logger.removeFilter(self._lift)
                logger.setLevel(self._before[0])
                for handler, level in self._muted:
                    handler.setLevel(level)

    def _lift(self, record: logging.LogRecord) -> bool:
        """Keep records below the logger's earlier level for this handler alone: they do not reach the root."""
        if record.levelno < (self._before[0] or logging.getLogger().getEffectiveLevel()):
            self.emit(record)
            return False
        return True
