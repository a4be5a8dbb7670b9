"""The loader's event loop knows how late it was, wherever in a round it was held up."""

from __future__ import annotations

import os
import time
from time import monotonic_ns

from chaos.load.reactor import READ, Reactor

HELD_UP = 0.05  # s


def test_a_round_held_up_between_answers_and_timers_is_late() -> None:
    reactor = Reactor()
    fd = os.eventfd(1)
    seen: list[int] = []

    def answer(mask: int) -> None:
        os.eventfd_read(fd)
        time.sleep(HELD_UP)  # as a SIGSTOP would, here

    def due() -> None:
        seen.append(reactor.late)
        reactor.stop()

    reactor.watch(fd, READ, answer)
    reactor.at(monotonic_ns() + 1_000_000, due)
    reactor.run()
    os.close(fd)
    reactor.close()
    assert seen[0] > HELD_UP * 1e9 / 2
    assert reactor.worst >= seen[0]
    assert reactor.stalls == 1
