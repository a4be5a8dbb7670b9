"""Progress in pytest's terminal: a line a step, and a live line where the terminal can show one."""

from __future__ import annotations

import sys
import time
from typing import Any


class TerminalProgress:
    """Writes around pytest's capture. `config` is pytest's; its terminal and capture plugins are found by name."""

    def __init__(self, config: Any) -> None:
        self._capture = config.pluginmanager.getplugin("capturemanager")
        self._terminal = config.get_terminal_writer()
        self._began = time.monotonic()
        worker = getattr(config, "workerinput", None)  # of pytest-xdist: several write to one terminal
        self._name = f"{worker['workerid']} " if worker else ""
        self._live = not worker and sys.__stderr__ is not None and sys.__stderr__.isatty()
        self._last = 0.0

    def step(self, text: str) -> None:
        self._write(f"\r\033[K{self._stamp()} {text}\n" if self._live else f"{self._stamp()} {text}\n")

    def live(self, text: str) -> None:
        line = f"{self._stamp()} {text}"
        if self._live:
            self._write(f"\r\033[K{line}")
        elif time.monotonic() - self._last >= 5:
            self._last = time.monotonic()
            self._write(line + "\n")

    def _stamp(self) -> str:
        return f"{self._name}[{time.monotonic() - self._began:6.1f} s]"

    def _write(self, text: str) -> None:
        if self._capture is None:
            self._put(text)
            return
        with self._capture.global_and_fixture_disabled():
            self._put(text)

    def _put(self, text: str) -> None:
        """Begin a line of our own where pytest's dots stand on this one."""
        if self._terminal.width_of_current_line:
            self._terminal.line()
            self._terminal.flush()
        sys.stderr.write(text)
        sys.stderr.flush()
