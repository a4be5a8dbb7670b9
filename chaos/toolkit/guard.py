"""Watches the bystanders while the method runs, and ends the experiment when one is hurt that the sharing model does
not predict.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

EVERY: Final = 1.0  # seconds between two looks


class BystanderGuard:
    """A thread between `start` and `stop`.

    Args:
        look: names those who are wrongly hurt.
        abort: ends the experiment; called once, from the guard's thread.

    Attributes:
        alarm: whom it found; empty when nobody.
        failure: why it stopped watching by itself: a guard that died guards nothing, and the gate must know.
    """

    def __init__(self, look: Callable[[], list[str]], abort: Callable[[], None], *, every: float = EVERY) -> None:
        self.look, self.abort, self.every = look, abort, every
        self.alarm, self.failure = "", ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="guard", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop; no abort comes after this returned. Safe to repeat."""
        self._stop.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self.every):
            try:
                hurt = self.look()
            except Exception as error:  # whatever it is: from here on nobody watches
                self.failure = f"the guard failed: {type(error).__name__}: {error}"
                return
            if hurt and not self._stop.is_set():
                self.alarm = f"{', '.join(hurt)} hurt, though nothing of its traffic passes what was broken"
                self.abort()
                return
