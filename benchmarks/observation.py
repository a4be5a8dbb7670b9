"""How much of a run is observation: the windows in which its trials' traffic is judged, by their saved histories."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

NANO = 1e9


def covered(windows: Iterable[tuple[int, int]]) -> int:
    """Nanoseconds that lie in at least one of the windows. Pure."""
    total = end = 0
    for first, last in sorted(windows):
        total += max(0, last - max(first, end))
        end = max(end, last)
    return total


def judged_seconds(trial: Path) -> float:
    """Seconds of the windows of a trial, by its directory; 0 for one that judges no traffic."""
    events = trial / "events.jsonl"
    shown = [json.loads(line) for line in events.read_text().splitlines()] if events.exists() else []
    windows = [
        (event["data"]["begin"], event["data"]["end"])
        for event in shown
        if event["kind"] == "window" and event["data"]["end"]
    ]
    return covered(windows) / NANO
