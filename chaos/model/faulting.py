"""How a fault acts in time, and how far it has come: one enum each, for faults, engine, history and judge alike."""

from __future__ import annotations

from enum import StrEnum


class FaultShape(StrEnum):
    """How a fault acts in time. It decides which windows are compared (docs/verdict.md)."""

    PULSE = "pulse"  # over by itself in about a second (kill): the hurt test looks at the evidence window alone
    HELD = "held"  # acts until it is undone (pause, partition)
    GRADUAL = "gradual"  # ramps up (throttle, overload): switchback, on/off pairs


class FaultPhase(StrEnum):
    """How far a fault has come. As long as its receipt exists, the fault may still do harm."""

    PLANNED = "planned"  # the receipt is stored; nothing was changed
    INJECTED = "injected"  # its effect was seen
    RECOVERED = "recovered"  # it was undone, and the target was seen to be healthy
    VANISHED = "vanished"  # the target went meanwhile: nothing is left to undo

    @property
    def word(self) -> str:
        """The phase as histories and the command line spell it; PLANNED is spelt "receipt"."""
        return "receipt" if self is FaultPhase.PLANNED else self.value

    @classmethod
    def from_word(cls, word: str) -> FaultPhase | None:
        """The inverse of `word`; None for any other word.

        Earlier releases wrote a second entry for the evidence of an effect or of an undo; it says the same phase.
        """
        return _WORDS.get(word)


_WORDS = {phase.word: phase for phase in FaultPhase} | {
    "evidence": FaultPhase.INJECTED,
    "restored": FaultPhase.RECOVERED,
}
