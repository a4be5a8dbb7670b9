"""The page of what was seen when runners were killed: it counts what is in the log, and says what is not."""

from __future__ import annotations

import json

from proof.faults import Line, page


def line(
    mode: str, killed: str, ran: int, held: int, *seconds: float, faults: tuple[str, ...] = ("pause", "kill")
) -> Line:
    text = json.dumps({"mode": mode, "killed": killed, "faults": faults, "ran": ran, "held": held, "seconds": seconds})
    return Line.parse(text)


def rows(text: str) -> list[str]:
    return [one for one in text.splitlines() if one.startswith("| `")]


def test_runners_are_counted_by_mode_and_in_all() -> None:
    text = page(
        [line("node", "runner", 2, 1, 3.0, 5.0), line("node", "runner", 1, 0, 9.0), line("none", "runner", 2, 2, 1.0)],
        machine="m",
    )
    assert "6 runners over 2 kinds of fault in 2 modes. 5 were killed" in text
    assert rows(text)[:2] == ["| `none` | 2 | 2 | 2 | 2 | 1.0 | 1.0 |", "| `node` | 4 | 3 | 1 | 2 | 5.0 | 9.0 |"]


def test_a_mode_without_runners_is_not_said_to_have_run() -> None:
    text = page([line("node", "target", 1, 1, 4.0, faults=("partition",))], machine="m")
    assert rows(text) == ["| `node` | not run |||||||", "| `node` | 4.0 |"]


def test_what_was_not_killed_in_a_mode_has_no_seconds() -> None:
    text = page([line("node", "node agent", 1, 1, 4.0), line("none", "target", 1, 1, 2.0)], machine="m")
    assert rows(text)[2:] == ["| `none` | - | 2.0 |", "| `node` | 4.0 | - |"]
