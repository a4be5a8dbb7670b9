"""Runs inside a helper pod to answer another pod's DNS questions: `python -m chaos.inpod.dns_helper dns …`.

Enters the target's network namespace, answers on a port of its own there, and has nftables lead port 53 to it. Before
it says `injected` it asks a question as the pod would, and sees the wrong answer. Undone at SIGTERM or its deadline;
what a killed one left, `chaos.inpod.network_helper mend` undoes. Standard library only.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import struct
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chaos.inpod import rules, sandboxes
from chaos.inpod.network_helper import dropped, nft
from chaos.inpod.process_helper import NO_EFFECT, VANISHED, processes, say

MARK: Final = 0x53F  # SO_MARK of the questions that we pass on ourselves
_SERVFAIL, _NXDOMAIN, _A, _IN = 2, 3, 1, 1
_PROBE: Final = "sharedfate-probe."


@dataclass(frozen=True, slots=True)
class Wrong:
    """How questions are answered. `silence`: not at all."""

    answer: str
    address: str
    names: tuple[str, ...]

    def meant(self, name: str) -> bool:
        return not self.names or any(name == end or name.endswith(f".{end}") for end in self.names)


def question(message: bytes) -> tuple[str, int, int]:
    """Return name, type and end of a message's first question; raises ValueError for any other message."""
    labels, at = [], 12
    try:
        while length := message[at]:
            labels.append(message[at + 1 : at + 1 + length].decode("ascii", "replace").lower())
            at += 1 + length
        (kind,) = struct.unpack_from(">H", message, at + 1)
    except (IndexError, struct.error) as error:
        raise ValueError("not a question") from error
    return ".".join(labels), kind, at + 5


def plan_answer(message: bytes, wrong: Wrong) -> bytes | None:
    """Return the wrong answer to a question; None for silence. Pure."""
    _, kind, end = question(message)
    (flags,) = struct.unpack_from(">H", message, 2)
    code = {"servfail": _SERVFAIL, "nxdomain": _NXDOMAIN}.get(wrong.answer, 0)
    if wrong.answer == "silence":
        return None
    lies = wrong.answer == "lie" and kind == _A
    head = struct.pack(">HHHHHH", int.from_bytes(message[:2]), 0x8080 | (flags & 0x0100) | code, 1, int(lies), 0, 0)
    record = struct.pack(">HHHIH", 0xC00C, _A, _IN, 5, 4) + socket.inet_aton(wrong.address) if lies else b""
    return head + message[12:end] + record


def plan_question(name: str, number: int = 7) -> bytes:
    """A question for the address of a name."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split("."))
    return struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", _A, _IN)


def nameserver(resolv: str) -> str:
    """The first IPv4 name server of a resolv.conf; raises LookupError."""
    for line in resolv.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver" and ":" not in words[1]:
            return words[1]
    raise LookupError("the target's resolv.conf names no IPv4 server")


def ask(server: str, message: bytes, *, mark: int = 0, seconds: float = 2.0) -> bytes | None:
    """The server's answer over UDP, None when none comes."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        if mark:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        sock.settimeout(seconds)
        try:
            sock.connect((server, 53))
            sock.send(message)
            return sock.recv(4096)
        except OSError:
            return None


class Responder:
    """Answers on one port, UDP and TCP, in the namespace in which it is made."""

    def __init__(self, wrong: Wrong, server: str) -> None:
        self._wrong, self._server = wrong, server
        self.datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.datagrams.bind(("127.0.0.1", 0))  # where a redirection leads: an answer must come from there
        self.port: int = self.datagrams.getsockname()[1]
        self.streams = socket.create_server(("127.0.0.1", self.port))
        self.answered = 0

    def serve(self, ready: list[int]) -> None:
        """Answer what waits on the descriptors that are readable."""
        if self.datagrams.fileno() in ready:
            message, peer = self.datagrams.recvfrom(4096)
            if (answer := self._answer(message)) is not None:
                self.datagrams.sendto(answer, peer)
        if self.streams.fileno() in ready:
            connection, _ = self.streams.accept()
            with connection, suppress(OSError, struct.error):
                connection.settimeout(0.5)
                (length,) = struct.unpack(">H", connection.recv(2))
                if (answer := self._answer(connection.recv(length))) is not None:
                    connection.sendall(struct.pack(">H", len(answer)) + answer)

    def _answer(self, message: bytes) -> bytes | None:
        try:
            name, _, _ = question(message)
        except ValueError:
            return None
        if not self._wrong.meant(name):
            return ask(self._server, message, mark=MARK)
        self.answered += 1
        return plan_answer(message, self._wrong)

    def close(self) -> None:
        self.datagrams.close()
        self.streams.close()


def sees(server: str, wrong: Wrong, responder: Responder) -> bool:
    """Whether a question that the pod would ask reaches this responder: asked and answered within this one thread."""
    name = _PROBE + (wrong.names[0] if wrong.names else "cluster.local")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((server, 53))
        sock.send(plan_question(name))
        before, end = responder.answered, time.monotonic() + 2
        while responder.answered == before and (left := end - time.monotonic()) > 0:
            responder.serve(select.select([responder.datagrams.fileno()], [], [], left)[0])
        if wrong.answer == "silence":
            return responder.answered > before
        sock.settimeout(1)
        try:
            return sock.recv(4096) == plan_answer(plan_question(name), wrong)
        except OSError:
            return False


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="chaos.inpod.dns_helper")
    parser.add_argument("action", choices=["dns"])
    parser.add_argument("--receipt", required=True)
    parser.add_argument("--uid", required=True)
    parser.add_argument("--container", required=True)
    parser.add_argument("--for", dest="seconds", type=float, default=10.0)
    parser.add_argument("--answer", required=True)
    parser.add_argument("--address", default="192.0.2.1")
    parser.add_argument("--names", nargs="*", default=[])
    options = parser.parse_args(arguments)
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    pids = processes(options.uid, options.container)
    if not pids:
        say("vanished")
        return VANISHED
    wrong = Wrong(options.answer, options.address, tuple(options.names))
    server = nameserver(Path(f"/proc/{pids[0]}/root/etc/resolv.conf").read_text())
    with ExitStack() as stack:
        stack.enter_context(sandboxes.inside(sandboxes.opened(pids[0])))
        responder = Responder(wrong, server)
        stack.callback(responder.close)
        stack.callback(nft, rules.plan_removal(options.receipt))
        at = time.time_ns()
        nft(rules.plan_redirect(options.receipt, responder.port, MARK))
        if not sees(server, wrong, responder):
            return NO_EFFECT
        own = dropped(options.receipt) or 0  # what the question just asked has met
        say("injected", effect=at, server=server, answer=wrong.answer, names=wrong.names, own_packets=own)
        end = time.monotonic() + options.seconds
        watched = [reader, responder.datagrams.fileno(), responder.streams.fileno()]
        while (left := end - time.monotonic()) > 0:
            ready = select.select(watched, [], [], left)[0]
            if reader in ready:
                break
            responder.serve(ready)
        seen = {"answered": responder.answered, "redirected": dropped(options.receipt)}
    say("recovered", effect=time.time_ns(), **seen)
    return 0


if __name__ == "__main__":
    sys.exit(main())
