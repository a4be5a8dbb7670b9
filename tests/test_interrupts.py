"""Signals at every moment of a piece of work: it is undone, one line is said, and the exit code names the signal."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = """
import sys, time
from chaos import interrupts

def say(word):
    print(word, flush=True)

interrupts.block()
say("before")
time.sleep(0.5)
try:
    with interrupts.listening():
        try:
            try:
                say("working")
                time.sleep(float(sys.argv[1]))
            finally:
                with interrupts.held_back():
                    say("undoing")
                    time.sleep(0.5)
                    say("undone")
        finally:
            interrupts.finish()
            if not interrupts.hurried():
                with interrupts.cuttable():
                    say("taking-down")
                    time.sleep(0.7)
                    say("down")
            say("reported")
except interrupts.Interrupted as error:
    sys.exit(error.exit_code)
"""
MOMENTS = ("before", "working", "undoing", "taking-down")
LONG, SHORT = "30", "0.3"  # seconds of work


def begun(*arguments: str, ignored: tuple[int, ...] = (), **environment: str) -> subprocess.Popen[str]:
    def prepare() -> None:
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)

    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,
        env={**os.environ, **environment},
    )


def until(process: subprocess.Popen[str], word: str) -> list[str]:
    assert process.stdout is not None
    seen: list[str] = []
    while not seen or seen[-1] != word:
        line = process.stdout.readline()
        assert line, f"{word} never came: {seen}"
        seen.append(line.strip())
    return seen


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_signal_undoes_says_one_line_and_names_itself_in_the_exit_code(number: signal.Signals, moment: str) -> None:
    process = begun("-c", PROGRAM, LONG if moment in ("before", "working") else SHORT)
    seen = until(process, moment)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    seen += out.split()
    done = ["undone", "down", "reported"] if moment != "before" else []  # then nothing was begun
    assert [word for word in seen if word in ("undone", "down", "reported")] == done
    assert err.strip().splitlines() == [
        f"sharedfate: {number.name}: undoing what is held, then ending; once more hurries, a third time ends at once"
    ]
    assert process.returncode == (128 + number if moment != "taking-down" else 0)


def test_a_run_in_a_shells_background_can_be_interrupted_and_nohup_still_means_what_it_says() -> None:
    process = begun("-c", PROGRAM, LONG, ignored=(signal.SIGINT,))
    until(process, "working")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    process = begun("-c", PROGRAM, SHORT, ignored=(signal.SIGHUP,))
    until(process, "working")
    process.send_signal(signal.SIGHUP)
    assert process.communicate(timeout=20)[1] == ""
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_cuts_what_clean_does_too_but_no_undo(number: signal.Signals) -> None:
    process = begun("-c", PROGRAM, LONG)
    until(process, "working")
    process.send_signal(number)
    until(process, "undoing")
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert [word for word in out.split() if word != "undone"] == ["reported"]
    assert "undone" in out
    assert (process.returncode, len(err.strip().splitlines()), "Traceback" in err) == (128 + number, 3, False)


def test_a_second_signal_ends_a_long_take_down() -> None:
    process = begun("-c", PROGRAM.replace("time.sleep(0.7)", "time.sleep(30)"), LONG)
    until(process, "working")
    process.send_signal(signal.SIGTERM)
    until(process, "taking-down")
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=20)
    assert (out.split(), process.returncode) == (["reported"], 143)


def test_a_third_signal_ends_at_once() -> None:
    process = begun(
        "-c",
        PROGRAM.replace("time.sleep(0.5)\n                    say", "time.sleep(30)\n                    say"),
        LONG,
    )
    until(process, "working")
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    began = time.monotonic()
    _, err = process.communicate(timeout=20)
    assert (process.returncode, "Traceback" in err, time.monotonic() - began < 5) == (130, False, True)


SESSION = """
import time
def test_it():
    print("working", flush=True)
    time.sleep(30)
"""


LEFT_OPEN = """
import gc, socket, time
class Socket(socket.socket):
    pass
def test_it():
    gc.disable()  # what is left open is found by the collection that pytest does last of all
    made = Socket()
    made.me = made
    del made
    print("working", flush=True)
    time.sleep(30)
"""


@pytest.mark.parametrize("session", [SESSION, LEFT_OPEN], ids=["", "with-a-socket-left-open"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_pytest_session_with_our_options_ends_without_a_trace(
    tmp_path: Path, number: signal.Signals, session: str
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    (tmp_path / "test_it.py").write_text(session)
    options = ["-q", "-s", "-p", "no:cacheprovider", f"--chaos-out={tmp_path / 'out'}", str(tmp_path)]
    process = begun("-m", "pytest", *options)
    assert process.stdout is not None
    while "working" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert "Traceback" not in out + err
    assert [line for line in err.splitlines() if line] == [
        f"sharedfate: {number.name}: undoing what is held, then ending; once more hurries, a third time ends at once"
    ]
    assert len([line for line in out.splitlines() if "Interrupted" in line]) == 1


SLOW = """
import pathlib, time
def slow():
    pathlib.Path(__file__).with_name("slow").touch()
    time.sleep(60)
"""
# What takes its time before a run has begun anything: the plugin's text -> the line of a signal that comes then.
STARTS = {
    "a plugin is imported": ("slow()", "ended before anything was begun"),
    "conftests are loaded": ("def pytest_load_initial_conftests(): slow()", "ended before anything was begun"),
    "options are read": ("def pytest_configure(config): slow()", "ended before anything was begun"),
    "scenarios are collected": (
        "def pytest_collection_modifyitems(items): slow()",
        "undoing what is held, then ending; once more hurries, a third time ends at once",
    ),
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("start", STARTS)
def test_a_run_ends_at_once_while_it_starts(tmp_path: Path, start: str, number: signal.Signals) -> None:
    text, line = STARTS[start]
    (tmp_path / "slow_plugin.py").write_text(SLOW + text + "\n")
    options = ["--modes=none", f"--out={tmp_path / 'out'}", "--", "-p", "slow_plugin"]
    process = begun("-m", "chaos", "run", *options, ignored=(signal.SIGINT,), PYTHONPATH=str(tmp_path))
    while not (tmp_path / "slow").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert [one for one in err.splitlines() if one] == [f"sharedfate: {number.name}: {line}"]


LEFT_RUNNING = """
import atexit, threading, warnings
entered = threading.Event()
def library():
    with warnings.catch_warnings():  # which puts back, when the session is over, what was an error within it
        entered.set()
        threading.main_thread().join()
def pytest_collection_modifyitems(items):
    atexit.register(warnings.warn, "subprocess 7 is still running", ResourceWarning)
    threading.Thread(target=library).start()
    entered.wait()
    slow()
"""


def test_a_run_that_was_cut_off_beside_its_cluster_ends_without_a_trace(tmp_path: Path) -> None:
    (tmp_path / "slow_plugin.py").write_text(SLOW + LEFT_RUNNING)
    options = ["--modes=none", f"--out={tmp_path / 'out'}", "--", "-p", "slow_plugin", "-W", "error"]
    process = begun("-m", "chaos", "run", *options, PYTHONPATH=str(tmp_path))
    while not (tmp_path / "slow").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert len([one for one in err.splitlines() if one]) == 1, err


@pytest.mark.parametrize("name", ["--version", "--help"])
def test_the_command_can_be_interrupted_while_it_starts(name: str) -> None:
    chance = random.Random(7)
    for _ in range(4):
        process = begun("-m", "chaos", name)
        time.sleep(chance.uniform(0.1, 0.5))
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)
        assert process.returncode in (0, 143, -signal.SIGTERM, 1)
        assert "Traceback" not in err


def test_an_error_from_another_thread_ends_a_sleep_but_no_undo() -> None:
    program = """
import threading, time
from chaos import interrupts

def late():
    time.sleep(0.3)
    interrupts.abort(RuntimeError("the cluster has ended"))

began = time.monotonic()
with interrupts.listening():
    threading.Thread(target=late).start()
    try:
        time.sleep(30)
    except RuntimeError as error:
        print(error, time.monotonic() - began < 2)
    threading.Thread(target=late).start()
    with interrupts.held_back():
        time.sleep(0.6)
        print("undone")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.splitlines() == ["the cluster has ended True", "undone"]


WAITS = """
import os, signal, sys, threading, time
from chaos.interrupts import on_termination
told = threading.Event()
on_termination(told.set)
with told._cond:  # as within told.wait(): what the main thread holds when a signal comes
    os.kill(os.getpid(), signal.Signals[sys.argv[1]])
    time.sleep(0.2)
sys.exit(0 if told.wait(20) else 1)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_program_in_a_pod_ends_though_the_signal_comes_while_it_waits(name: str) -> None:
    assert subprocess.run([sys.executable, "-c", WAITS, name], timeout=60, check=False).returncode == 0


TAKES_DOWN = """
import sys, time
from chaos import interrupts
with interrupts.listening():
    try:
        with interrupts.cuttable():
            print("taking-down", flush=True)
            with interrupts.held_back():
                print("undoing", flush=True)
                time.sleep(0.6)
                print("undone", flush=True)
            time.sleep(float(sys.argv[1]))
            print("down", flush=True)
        print("next", flush=True)
    except interrupts.Interrupted as error:
        sys.exit(error.exit_code)
"""

# Signals while something is taken down amid the work -> what is still said, and whether it goes on to what is next.
IN_A_TAKE_DOWN = {
    "one: it ends first": (("undoing",), "0.4", ["undone", "down"]),
    "two within an undo: the undo ends first": (("undoing", "undoing"), "30", ["undone"]),
    "one in each: the second cuts": (("undoing", "undone"), "30", []),
}


@pytest.mark.parametrize("case", IN_A_TAKE_DOWN)
def test_a_take_down_amid_the_work_is_ended_first_and_cut_by_a_second_signal(case: str) -> None:
    moments, takes, expected = IN_A_TAKE_DOWN[case]
    with begun("-c", TAKES_DOWN, takes) as process:
        assert process.stderr is not None
        for moment in dict.fromkeys(moments):
            until(process, moment)
            for _ in range(moments.count(moment)):
                process.send_signal(signal.SIGINT)
                while "SIGINT" not in process.stderr.readline():  # two at once would be one to the kernel
                    assert process.poll() is None
        said, _ = process.communicate(timeout=20)
    assert (process.returncode, said.split()) == (130, expected)
