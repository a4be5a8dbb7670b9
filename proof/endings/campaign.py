"""A campaign: endings by number, each drawn from a seed of its own, each a line of a log as soon as it is seen."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

Line = dict[str, Any]


def lines(log: Path) -> list[Line]:
    """What a log holds; a last line that was cut off in the middle is none."""
    found = []
    for text in log.read_text().splitlines() if log.exists() else ():
        try:
            found.append(json.loads(text))
        except ValueError:
            continue
    return found


def numbers(done: list[Line], *, count: int) -> Generator[int, bool, None]:
    """The numbers still to be tried until `count` endings count; one that came too late is drawn anew."""
    tried = {line["number"] for line in done}
    wanted = count - sum(line["counts"] for line in done)
    number = 0
    while wanted > 0:
        if number not in tried:
            counted = yield number
            wanted -= counted
        number += 1


def go(log: Path, *, count: int, seconds: float, ending: Callable[[int], Mapping[str, Any]]) -> list[Line]:
    """Try endings until `count` of them count or the time is over; all lines of the log.

    `ending` returns what a line holds beside its number: at least `counts`, whether it met what it was to meet, and
    `wrong`, a list of sentences.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    done = lines(log)
    end = time.monotonic() + seconds
    todo = numbers(done, count=count)
    number = next(todo, None)
    while number is not None and time.monotonic() < end:
        line = {"number": number, **ending(number)}
        with log.open("a") as file:
            file.write(json.dumps(line) + "\n")
        done.append(line)
        print(json.dumps(line), flush=True)
        try:
            number = todo.send(line["counts"])
        except StopIteration:
            break
    return done
