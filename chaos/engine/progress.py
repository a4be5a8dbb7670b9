"""Tells a waiting person what is being done. The runner reports steps and live figures; plugin and command line show
them.
"""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told by the engine; must be quick and must not raise."""

    def step(self, text: str) -> None:
        """A new step began."""
        ...

    def live(self, *, rate: float, errors: float, text: str = "") -> None:
        """Requests a second over all flows, and the share of errors, over the last second."""
        ...


class Silent:
    """Shows nothing."""

    def step(self, text: str) -> None:
        del text

    def live(self, *, rate: float, errors: float, text: str = "") -> None:
        del rate, errors, text
