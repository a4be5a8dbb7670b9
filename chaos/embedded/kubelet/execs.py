"""Processes in running containers: the API's `exec` and `attach`, exec probes, lifecycle hooks."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import math
import os
import secrets
import signal
import struct
import termios
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from chaos.embedded.kubelet.node_machine import Machine, MachineDown, MachineError

OUTPUT: Final = 16 * 1024  # bytes of a probe's output that are kept


class _Reader(asyncio.StreamReaderProtocol):
    """A reader for which EIO, as a terminal without holders gives, is the end of file."""

    def __init__(self, reader: asyncio.StreamReader, over: Callable[[], None]) -> None:
        super().__init__(reader)
        self._over = over

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(None if isinstance(exc, OSError) and exc.errno == errno.EIO else exc)
        self._over()


async def pipe_reader(
    fd: int, over: Callable[[], None] = lambda: None
) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    """A reader of a pipe or a terminal; closing its transport closes it. `over` is called at its end."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: _Reader(reader, over), os.fdopen(fd, "rb", 0))
    return reader, transport


async def pipe_writer(fd: int) -> asyncio.StreamWriter:
    """A writer to a pipe or a terminal."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.streams.FlowControlMixin(loop), os.fdopen(fd, "wb", 0)
    )
    return asyncio.StreamWriter(transport, protocol, None, loop)


class Exec:
    """Implements node_api.ExecSession."""

    def __init__(
        self,
        machine: Machine,
        pid: int,
        job: asyncio.Future[int],
        pid_file: str,
        *,
        stdin: asyncio.StreamWriter | None,
        outputs: Sequence[tuple[asyncio.StreamReader, asyncio.ReadTransport]],
        terminal: int | None,
    ) -> None:
        self.stdin = stdin
        self.stdout = outputs[0][0]
        self.stderr = outputs[1][0] if len(outputs) > 1 else None
        self._pipes = [transport for _, transport in outputs]
        self._machine = machine
        self._pid = pid
        self._job = job
        self._pid_file = pid_file
        self._terminal = terminal
        self._chores: set[asyncio.Task[object]] = set()
        job.add_done_callback(lambda _: self._close())

    def _close(self) -> None:
        if self.stdin is not None:
            self.stdin.close()
        if self._terminal is not None:
            os.close(self._terminal)
            self._terminal = None

    def close_stdin(self) -> None:
        if self.stdin is not None:
            self.stdin.close()

    def resize(self, columns: int, rows: int) -> None:
        if self._terminal is not None:
            _set_size(self._terminal, columns, rows)
            self._signal(pid=self._pid, number=signal.SIGWINCH)

    def kill(self) -> None:
        self._signal(pid_file=self._pid_file, number=signal.SIGKILL)
        for pipe in self._pipes:  # what nobody has read, or a child of it still writes
            pipe.close()

    def _signal(self, *, number: signal.Signals, **target: Any) -> None:
        async def send() -> None:
            with contextlib.suppress(MachineDown):
                while not self._job.done():
                    try:
                        await self._machine.ask("kill", signal=int(number), **target)
                        return
                    except MachineError:  # runc has not come so far as to write the pid: nothing tells when it has
                        await asyncio.sleep(0.01)

        chore: asyncio.Task[object] = asyncio.create_task(send())
        self._chores.add(chore)
        chore.add_done_callback(self._chores.discard)

    async def wait(self) -> int:
        try:
            return await asyncio.shield(self._job)
        except MachineDown:
            return 137


def _set_size(terminal: int, columns: int, rows: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


class Attachment:
    """Implements node_api.ExecSession for one who is attached to a container's own process.

    As containerd has it: where the container says `stdinOnce` and has no terminal, its input ends with that of the
    first who is attached, and its output goes on. Else whoever has no more to say is detached.
    """

    def __init__(
        self,
        stdin: asyncio.StreamWriter | None,
        outputs: Sequence[tuple[asyncio.StreamReader, asyncio.ReadTransport]],
        over: asyncio.Event,
        *,
        terminal: int | None,
        end_input: Callable[[], None] | None,
    ) -> None:
        self.stdin = stdin
        self.stdout = outputs[0][0]
        self.stderr = outputs[1][0] if len(outputs) > 1 else None
        self._pipes = [transport for _, transport in outputs]
        self._over = over
        self._terminal = terminal
        self._end_input = end_input

    def close_stdin(self) -> None:
        if self.stdin is None or self.stdin.is_closing():
            return
        self.stdin.close()
        if self._end_input is not None:
            self._end_input()
        else:
            self._detach()

    def _detach(self) -> None:
        for pipe in self._pipes:
            pipe.close()

    def resize(self, columns: int, rows: int) -> None:
        if self._terminal is not None:
            _set_size(self._terminal, columns, rows)

    def kill(self) -> None:
        self.close_stdin()
        self._detach()
        if self._terminal is not None:
            os.close(self._terminal)
            self._terminal = None

    async def wait(self) -> int:
        await self._over.wait()
        return 0


async def attach(machine: Machine, container: str, spec: Mapping[str, Any], *, stdin: bool) -> Attachment:
    """Attach to a running container, whose spec that is. Raises LookupError when it ended or the node has no power."""
    tty = bool(spec.get("tty"))
    pipes = [os.pipe() for _ in range(1 if tty else 2)]
    try:
        _, passed = await machine.ask("attach", container=container, fds=[writing for _, writing in pipes])
    except (MachineDown, MachineError) as error:
        for reading, _ in pipes:
            os.close(reading)
        raise LookupError(str(error)) from error
    finally:
        for _, writing in pipes:
            os.close(writing)
    over, still_open = asyncio.Event(), len(pipes)

    def ended() -> None:
        nonlocal still_open
        still_open -= 1
        if not still_open:
            over.set()

    chores: set[asyncio.Task[None]] = set()

    async def close_in_container() -> None:
        with contextlib.suppress(MachineDown, MachineError):
            await machine.ask("close_stdin", container=container)

    def end_input() -> None:
        chore = asyncio.create_task(close_in_container())
        chores.add(chore)
        chore.add_done_callback(chores.discard)

    outputs = [await pipe_reader(reading, ended) for reading, _ in pipes]
    writer = await pipe_writer(os.dup(passed[0])) if stdin and passed else None
    terminal = passed.pop() if tty and passed else None
    for fd in passed:
        os.close(fd)
    once = bool(spec.get("stdinOnce")) and not tty
    return Attachment(writer, outputs, over, terminal=terminal, end_input=end_input if once else None)


async def start_exec(machine: Machine, container: str, command: Sequence[str], *, stdin: bool, tty: bool) -> Exec:
    """Start a process in a running container. Raises LookupError when the node has no power or refuses."""
    pid_file = f"/run/runc/exec-{secrets.token_hex(8)}"
    arguments = [
        "runc",
        "--root",
        "/run/runc",
        "exec",
        "--pid-file",
        pid_file,
        *(["--tty"] if tty else []),
        container,
        *command,
    ]
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    theirs: list[int] = []
    ours: list[int] = []
    terminal = None
    try:
        if tty:
            terminal, slave = os.openpty()
            theirs = [slave, slave, slave]
            ours = [os.dup(terminal), os.dup(terminal)]
        else:
            read_in, write_in = os.pipe()
            read_out, write_out = os.pipe()
            read_err, write_err = os.pipe()
            theirs = [read_in if stdin else null, write_out, write_err]
            ours = [read_out, read_err, write_in]
            if not stdin:
                os.close(read_in)
                os.close(ours.pop())
        try:
            pid, job = await machine.spawn(arguments, theirs, session=tty)
        except (MachineDown, MachineError) as error:
            for fd in [*ours, *([terminal] if terminal is not None else [])]:
                os.close(fd)
            raise LookupError(str(error)) from error
    finally:
        for fd in {*theirs, null}:
            os.close(fd)
    outputs = [await pipe_reader(ours[0])]
    if tty:
        return Exec(machine, pid, job, pid_file, stdin=await pipe_writer(ours[1]), outputs=outputs, terminal=terminal)
    outputs.append(await pipe_reader(ours[1]))
    writer = await pipe_writer(ours[2]) if stdin else None
    return Exec(machine, pid, job, pid_file, stdin=writer, outputs=outputs, terminal=None)


async def run_command(machine: Machine, container: str, command: list[str], timeout: float) -> tuple[int, str]:
    """Run a command; (exit code, output of both streams). Raises TimeoutError after killing it, LookupError."""
    session = await start_exec(machine, container, command, stdin=False, tty=False)
    assert session.stderr is not None
    try:
        async with asyncio.timeout(None if math.isinf(timeout) else timeout):
            out, err = await asyncio.gather(session.stdout.read(OUTPUT), session.stderr.read(OUTPUT))
            while (await session.stdout.read(OUTPUT)) or (await session.stderr.read(OUTPUT)):
                pass  # a process that cannot write does not end
            return await session.wait(), (out + err).decode(errors="replace")
    except TimeoutError:
        session.kill()
        raise
