"""Ctrl-C, SIGTERM and SIGHUP: the first ends what is done through its undo, the second hurries, the third ends.

`listening` is entered by whatever people start (a run, a fault by hand). While an undo works (`held_back`) a signal
waits for its end. A process that a shell started in its background inherits that SIGINT is ignored; here it is listened
to all the same, because nothing else ends such a run. An ignored SIGHUP stays ignored: that is what `nohup` is for.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ABORT: Final = signal.SIGUSR2  # between threads of this process; it stays ignored, for one that comes late
_main: Final = threading.main_thread


class Interrupted(KeyboardInterrupt):
    """A signal ended the work. `number`: which; a program ends with 128 more."""

    def __init__(self, number: int) -> None:
        super().__init__(f"{signal.Signals(number).name}: ended, and what was held is undone")
        self.number = number

    @property
    def exit_code(self) -> int:
        return 128 + self.number


class _Line:
    """What came, and whether it must wait. One for the process, as signals are."""

    def __init__(self) -> None:
        self.open = False
        self.count = 0
        self.number = 0  # the first that came
        self.held = 0  # how many undos are under way
        self.cuttable = 0
        self.finishing = False  # the work is over, reports are written and all is taken down: nothing to interrupt
        self.pending = False
        self.error: Exception | None = None
        self.ours = False  # the whole process is a command of ours, which began by blocking signals

    def take(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.count += 1
        self.number = self.number or number
        name = signal.Signals(number).name
        if self.count == 1:
            _say(f"{name}: undoing what is held, then ending; once more hurries, a third time ends at once")
        elif self.count == 2:
            _say(f"{name} again: hurrying; faults are undone still, the rest is left to `sharedfate clean`")
        else:
            _say(f"{name} for the third time: ended at once; `sharedfate clean` undoes what is left")
            os._exit(128 + self.number)
        if self.cuttable if self.count == 2 else not self.finishing:
            if self.held:
                self.pending = True
            else:
                raise Interrupted(self.number)

    def fail(self, number: int, frame: FrameType | None) -> None:
        """Another thread found that the work cannot go on."""
        del number, frame
        error, self.error = self.error, None
        if error is not None and not self.held and not self.finishing and not self.count:
            raise error


_line = _Line()


def _say(text: str) -> None:
    os.write(2, f"\nsharedfate: {text}\n".encode())  # a handler may not wait for a lock of the interpreter's streams


def block() -> None:
    """Let signals wait from now on, also in the program that takes this one's place, until it listens."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


@contextmanager
def listening() -> Iterator[None]:
    """Raise Interrupted in the block, in the main thread, at the first signal. Nothing within another such block."""
    if _line.open or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = start()
    try:
        yield
    finally:
        stop(before)


def start() -> dict[int, Any]:
    """Listen from now on; what `stop` needs."""
    before: dict[int, Any] = {
        number: signal.getsignal(number)
        for number in SIGNALS
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
    }
    _line.__init__()  # type: ignore[misc]
    _line.open = True
    for number in before:
        signal.signal(number, _line.take)
    before[_ABORT] = signal.signal(_ABORT, _line.fail)
    _line.ours = signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    return before


def finish() -> None:
    """The work is over: a first signal changes the exit code alone from now on, a second one hurries what is left."""
    _line.finishing = True


def stop(before: dict[int, Any]) -> None:
    """The inverse of `start`; in a command of ours, which has only to exit, signals come too late from now on."""
    for number, handler in before.items():
        signal.signal(number, signal.SIG_IGN if _line.ours or number == _ABORT else handler)
    _line.open = False


@contextmanager
def held_back() -> Iterator[None]:
    """Let signals wait until the block is left: an undo that is cut off is what leaves faults behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with listening():
        _line.held += 1
        try:
            yield
        finally:
            _line.held -= 1
            if _line.pending and not _line.held:
                _line.pending = False
                raise Interrupted(_line.number)


def abort(error: Exception) -> None:
    """From any thread: raise an error in the main thread, where somebody listens; an undo under way is let be."""
    if _line.open:
        _line.error = error
        signal.pthread_kill(_main().ident or 0, _ABORT)


def hurried() -> bool:
    """Whether a second signal came: what another may do later is left out."""
    return _line.count > 1


def interrupted() -> int:
    """The first signal that came, 0 while none has."""
    return _line.number if _line.open else 0


@contextmanager
def cuttable() -> Iterator[None]:
    """A second signal ends the block, and the program goes on behind it: for what `clean` takes down too."""
    _line.cuttable += 1
    try:
        yield
    except Interrupted:
        if _line.count < 2:
            raise
    finally:
        _line.cuttable -= 1
