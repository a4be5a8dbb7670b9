"""Handles Ctrl-C, SIGTERM and SIGHUP: the first signal ends the work through its undo, the second shortens the undo,
the third ends the process. Before anything is begun, the first ends it (`end_at_once`).

`listening` is entered by whatever people start (a run, a fault by hand). While an undo works (`held_back`) a signal
waits for its end, and while something is taken down (`cuttable`) the first one does. A process that a shell started
in its background inherits that SIGINT is ignored; here it is listened to all the same, because nothing else ends such
a run. An ignored SIGHUP stays ignored: that is what `nohup` is for.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ABORT: Final = signal.SIGUSR2  # between threads of this process; it stays ignored, for one that comes late
_main: Final = threading.main_thread


class Interrupted(KeyboardInterrupt):
    """A signal ended the work. `number` is the signal's; the program exits with 128 more."""

    def __init__(self, number: int) -> None:
        super().__init__(f"{signal.Signals(number).name}: ended, and what was held is undone")
        self.number = number

    @property
    def exit_code(self) -> int:
        return 128 + self.number


class _Line:
    """The signals received, and whether they must wait. One per process."""

    def __init__(self) -> None:
        self.open = False
        self.count = 0
        self.number = 0  # the first that came
        self.held = 0  # how many undos are under way
        self.cuttable = 0
        self.finishing = False  # the work is over, reports are written and all is taken down: nothing to interrupt
        self.pending = False
        self.error: Exception | None = None
        self.says = 2  # where its lines go: standard error, past what replaces it while a test's output is captured
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
            self.pending = True
            self.raise_pending()

    def raise_pending(self) -> None:
        """Raise Interrupted for a signal that nothing holds back (any more): an undo waits for its end whatever comes,
        a cleanup for a second signal.
        """
        if self.pending and not self.held and (self.count > 1 or not self.cuttable):
            self.pending = False
            raise Interrupted(self.number)

    def fail(self, number: int, frame: FrameType | None) -> None:
        """Record that another thread found that the work cannot go on."""
        del number, frame
        error, self.error = self.error, None
        if error is not None and not self.held and not self.finishing and not self.count:
            raise error


_line = _Line()


def _say(text: str) -> None:
    with suppress(OSError):  # a full disk, or nobody reads
        os.write(_line.says, f"\nsharedfate: {text}\n".encode())  # a handler may not wait for a lock of the streams


def _speak() -> None:
    """Say what follows on standard error as it is now, also while it is captured."""
    with suppress(OSError):  # it is closed
        _line.says = os.dup(2)


def block() -> None:
    """Hold signals back from now on, also in a program that replaces this one, until it listens."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def end_at_once() -> None:
    """End this process at a signal, with one line and without an undo, until it blocks signals or listens: for what
    comes before anything is begun that would have to be undone.
    """

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        _say(f"{signal.Signals(number).name}: ended before anything was begun")
        os._exit(128 + number)

    _speak()
    for number in _heard():
        signal.signal(number, end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def on_termination(call: Callable[[], object]) -> None:
    """Call it, in a thread of its own, at the first SIGTERM or SIGINT: for programs in pods, before they start threads.

    A handler would run in the main thread, within whatever lock that holds: an event that it sets while the main thread
    waits for it is waited for for ever.
    """
    numbers = (signal.SIGTERM, signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def wait() -> None:
        signal.sigwait(numbers)
        call()

    threading.Thread(target=wait, daemon=True, name="termination").start()


@contextmanager
def listening() -> Iterator[None]:
    """Raise Interrupted in the block, in the main thread, at the first signal. No effect inside another such block."""
    if _line.open or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = start()
    try:
        yield
    finally:
        stop(before)


def _heard() -> list[signal.Signals]:
    """The signals that are not ignored on purpose."""
    return [one for one in SIGNALS if one != signal.SIGHUP or signal.getsignal(one) is not signal.SIG_IGN]


def start() -> dict[int, Any]:
    """Start listening; return what `stop` needs."""
    before: dict[int, Any] = {number: signal.getsignal(number) for number in _heard()}
    _line.__init__()  # type: ignore[misc]
    _line.open = True
    _speak()
    for number in before:
        signal.signal(number, _line.take)
    before[_ABORT] = signal.signal(_ABORT, _line.fail)
    _line.ours = signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    return before


def finish() -> None:
    """Mark the work as over: a first signal now only changes the exit code, and a second one shortens what is left."""
    _line.finishing = True


def stop(before: dict[int, Any]) -> None:
    """The inverse of `start`; in one of our commands, which only has to exit, later signals are ignored."""
    for number, handler in before.items():
        signal.signal(number, signal.SIG_IGN if _line.ours or number == _ABORT else handler)
    _line.open = False
    says, _line.says = _line.says, 2
    if says != 2:
        os.close(says)


@contextmanager
def held_back() -> Iterator[None]:
    """Hold signals back until the block is left: an undo that is cut off leaves faults behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with listening():
        _line.held += 1
        try:
            yield
        finally:
            _line.held -= 1
            _line.raise_pending()


def abort(error: Exception) -> None:
    """Raise an error in the main thread, from any thread, where it listens; an undo under way is not interrupted."""
    if _line.open:
        _line.error = error
        signal.pthread_kill(_main().ident or 0, _ABORT)


def hurried() -> bool:
    """Whether a second signal came: skip what another process may do later."""
    return _line.count > 1


def interrupted() -> int:
    """Return the first signal that came; 0 for none."""
    return _line.number if _line.open else 0


@contextmanager
def cuttable() -> Iterator[None]:
    """Hold the first signal back until the block is left, and let a second one end it: for cleanup that `clean` can
    repeat. What was ending before the block goes on after it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ending = _line.finishing or _line.count > 0  # the work is over, or is being left already
    _line.cuttable += 1
    try:
        yield
    except Interrupted:
        if not ending:
            raise
    finally:
        _line.cuttable -= 1
    _line.raise_pending()
