"""A recorded exchange in place of the machine's programs: what is called is noted, what is answered is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chaos.cluster.commands import Done


class Recorded:
    """A Runner whose programs answer as told.

    Args:
        installed: programs on PATH.
        answers: beginning of a command -> how it ends; everything else ends well and says nothing.
    """

    def __init__(self, *installed: str, answers: Mapping[str, Done] | None = None) -> None:
        self.installed = installed
        self.answers = dict(answers or {})
        self.calls: list[str] = []
        self.environments: list[Mapping[str, str]] = []

    def which(self, program: str) -> str | None:
        return f"/usr/bin/{program}" if program in self.installed else None

    def run(self, arguments: Sequence[str], *, seconds: float, environment: Mapping[str, str] | None = None) -> Done:
        assert seconds > 0
        line = " ".join(arguments)
        self.calls.append(line)
        self.environments.append(environment or {})
        return next((done for begin, done in self.answers.items() if line.startswith(begin)), Done(0))
