"""The table of what one proxy's keys open is made from the checks of the trials that tried them."""

from __future__ import annotations

from chaos.report.keys_table import KEYS_OF, KeysLine, keys_table
from chaos.verdict.check import decided, undecided
from tests.report.test_job_table import tried


def test_a_run_without_such_trials_has_no_table() -> None:
    assert keys_table([tried("node", decided("something else", True, "it holds"))]) == ()


def test_each_proxy_has_a_line_and_a_mode_that_was_tried_twice_shows_the_last() -> None:
    once = tried("node", decided(f"{KEYS_OF}n/p[proxy]", True, "it opens a"))
    again = tried(
        "node",
        decided("without a key no server answers", True, "6 knocks were refused"),
        decided(f"{KEYS_OF}n/p[proxy]", False, "it opens a and b"),
        undecided(f"{KEYS_OF}n/q[proxy]", "no key was found"),
    )
    other = tried("sidecar", decided(f"{KEYS_OF}a/c[proxy]", True, "it is refused everywhere"))
    assert keys_table([once, again, other]) == (
        KeysLine("node", "n/p[proxy]", "it opens a and b (not as predicted)"),
        KeysLine("node", "n/q[proxy]", "no key was found (cannot tell)"),
        KeysLine("sidecar", "a/c[proxy]", "it is refused everywhere"),
    )
