"""Processes in running containers: the API's `exec`, exec probes, lifecycle hooks."""

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
from collections.abc import Sequence
from typing import Any, Final

from chaos.embedded.kubelet.node_machine import Machine, MachineDown, MachineError

OUTPUT: Final = 16 * 1024  # bytes of a probe's output that are kept


class _Reader(asyncio.StreamReaderProtocol):
    """A reader for which EIO, as a terminal without holders gives, is the end of file."""

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(None if isinstance(exc, OSError) and exc.errno == errno.EIO else exc)


async def pipe_reader(fd: int) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    """A reader of a pipe or a terminal; closing its transport closes it."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: _Reader(reader), os.fdopen(fd, "rb", 0))
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

    def resize(self, columns: int, rows: int) -> None:
        if self._terminal is not None:
            fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
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
