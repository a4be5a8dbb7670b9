"""Progress for whoever waits: the runner reports steps and live figures; plugin and command line show them."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told by the engine; must be quick and must not raise."""

    def step(self, text: str) -> None:
        """A new step began."""
        ...

    def live(self, text: str) -> None:
        """Show the present state: one line that the next replaces."""
        ...


class Silent:
    """Shows nothing."""

    def step(self, text: str) -> None:
        del text

    def live(self, text: str) -> None:
        del text
