"""Runs inside a helper pod to harm a network: `python -m chaos.inpod.network_helper isolate|degrade|mend|count
…`.

In a privileged pod with hostPID on the target's node. Enters the network namespaces that are concerned, applies, says
`{"phase": "injected", …}`, holds until SIGTERM or its deadline, undoes, says `{"phase": "recovered", …}`. `mend`
undoes what a killed helper left: it looks through every namespace of the node for the receipt's name. Exit codes as in
`chaos.inpod.process_helper`.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from chaos.inpod import rules, sandboxes
from chaos.inpod.process_helper import NO_EFFECT, VANISHED, hold, processes, say


def nft(script: str) -> None:
    done = subprocess.run(["nft", "-f", "-"], input=script, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"nft: {done.stderr.strip()}")


def dropped(receipt: str) -> int | None:
    """Return how many packets the receipt's rules in this namespace have dropped; None when there are none here."""
    listing = ["nft", "-j", "list", "table", "inet", rules.table(receipt)]
    done = subprocess.run(listing, capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    return counted(json.loads(done.stdout))


def counted(listing: dict[str, Any]) -> int:
    """Sum of the packet counters in `nft -j list table`."""
    return sum(
        part["counter"]["packets"]
        for item in listing["nftables"]
        for part in item.get("rule", {}).get("expr", ())
        if isinstance(part.get("counter"), dict)
    )


def met(receipt: str, remove: bool) -> dict[str, Any]:
    """Return in how many namespaces of the node the receipt's rules are, and how many packets they met.

    Args:
        remove: take them out.
    """
    seen: dict[str, Any] = {"namespaces": 0, "dropped": 0}
    for member in sandboxes.namespaces().values():
        with ExitStack() as stack:
            try:
                handle = sandboxes.opened(member)
            except OSError:
                continue  # the namespace's last process ended, and with it its rules
            stack.callback(os.close, handle)
            stack.enter_context(sandboxes.inside(handle))
            packets = dropped(receipt)
            if packets is not None:
                if remove:
                    nft(rules.plan_removal(receipt))
                seen["namespaces"] += 1
                seen["dropped"] += packets
    return seen


def undo(receipt: str) -> dict[str, Any]:
    """Remove the receipt's rules from every namespace of the node; return what was found there."""
    return met(receipt, remove=True)


def count(options: argparse.Namespace, pids: list[int]) -> int:
    """Report the packets that a receipt's rules have met, and those of the pod's delay line and slowed link, by the
    kernel's counters; changes nothing.
    """
    seen = met(options.receipt, remove=False)
    say("counted", **seen, **(_link_counters(pids[0]) if pids else {}), effect=time.time_ns())
    return 0


def _link_counters(pid: int) -> dict[str, int]:
    """Packets that went into a delay line, and that a slowed link held back, in a process's network namespace."""
    from chaos.inpod.delay_line import DEVICE

    handle = sandboxes.opened(pid)
    try:
        with sandboxes.inside(handle):
            shown = subprocess.run(["tc", "-s", "-j", "qdisc", "show"], capture_output=True, text=True, check=False)
        table = Path(f"/proc/{pid}/net/dev").read_text()
    finally:
        os.close(handle)
    queues = json.loads(shown.stdout or "[]") if shown.returncode == 0 else []
    held_back = sum(int(one.get("overlimits", 0)) for one in queues if one.get("kind") == "tbf")
    return {"delayed": sent_by(table, DEVICE), "held_back": held_back}


def sent_by(table: str, device: str) -> int:
    """Packets that left by a device, by the text of /proc/PID/net/dev; 0 for one that is not there."""
    rows = (line.split(":", 1) for line in table.splitlines() if ":" in line)
    return next((int(counts.split()[9]) for name, counts in rows if name.strip() == device), 0)


def isolate(options: argparse.Namespace, pids: list[int]) -> int:
    """Lose or reset the packets of one process wherever it listens (and, `--whole`, everything at its home)."""
    places = sandboxes.served(pids)
    spared = frozenset(options.spare)

    def isolation(ports: frozenset[int], whole: bool) -> rules.Isolation:
        return rules.Isolation(
            ports,
            options.mark,
            whole,
            spared,
            tuple(options.peer),
            frozenset(options.only),
            options.direction != "out",
            options.direction != "in",
            options.reset,
            options.segments,
        )

    homes = sandboxes.namespaces()
    home = os.stat(f"/proc/{pids[0]}/ns/net").st_ino
    if options.whole:
        places.setdefault(homes[home], frozenset())
    at, changed = time.time_ns(), {}
    for member, ports in places.items():
        whole = options.whole and os.stat(f"/proc/{member}/ns/net").st_ino == home
        handle = sandboxes.opened(member)
        try:
            with sandboxes.inside(handle):
                nft(rules.plan_isolation(options.receipt, isolation(ports, whole)))
        finally:
            os.close(handle)
        changed[str(member)] = "everything" if whole else sorted(ports - spared)
    if not changed:
        return NO_EFFECT
    say("injected", effect=at, namespaces=changed)
    why = hold(options.seconds)
    say("recovered", why=why, **undo(options.receipt), effect=time.time_ns())
    return 0


def degrade(options: argparse.Namespace, pids: list[int]) -> int:
    """Delay, lose or slow what a pod sends (and, for loss, receives). Says `refused` for a process whose connections
    live in other network namespaces than its own."""
    from chaos.inpod.delay_line import DelayLine, uplink  # only here: the isolation's helper starts quicker without

    home = sandboxes.namespaces()[os.stat(f"/proc/{pids[0]}/ns/net").st_ino]
    if others := len(sandboxes.served(pids).keys() - {home}):
        say(
            "refused",
            why=f"its connections live in other network namespaces than its own ({others} pods that it serves)",
        )
        return NO_EFFECT
    spared = frozenset(options.spare)
    handle = sandboxes.opened(pids[0])
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
    with ExitStack() as stack:
        stack.enter_context(sandboxes.inside(handle))
        link, at = uplink(), time.time_ns()
        if options.loss:
            stack.callback(nft, rules.plan_removal(options.receipt))
            nft(rules.plan_loss(options.receipt, options.loss, spared))
        if options.rate:
            stack.callback(_tc, rules.plan_rate_removal(link.device))
            _tc(rules.plan_rate(link.device, options.rate))
        wait: Callable[[int, float], str] = _wait
        line: DelayLine | None = None
        if options.delay or options.jitter:
            line = stack.enter_context(
                DelayLine(delay=options.delay / 1000, jitter=options.jitter / 1000, seed=options.seed, spared=spared)
            )
            wait = line.run
        means = "user-space delay line" if line else "nftables and tc-tbf"
        say(
            "injected",
            effect=at,
            device=link.device,
            means=means,
            delay_ms=options.delay,
            jitter_ms=options.jitter,
            loss=options.loss,
            rate_kbit=options.rate,
        )
        why = wait(reader, options.seconds)
        seen = {"dropped": dropped(options.receipt), "delayed": line.passed if line else None}
    say("recovered", why=why, effect=time.time_ns(), **seen)
    return 0


def _wait(stop: int, seconds: float) -> str:
    return "told" if select.select([stop], [], [], seconds)[0] else "deadline"


def _tc(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


def mend(options: argparse.Namespace, pids: list[int]) -> int:
    """Undo what a killed helper of this receipt left behind; `pids` are the pod's, whatever container they are of."""
    from chaos.inpod.delay_line import remove_rule, uplink

    seen = undo(options.receipt)
    if options.degraded and pids:
        handle = sandboxes.opened(pids[0])
        with sandboxes.inside(handle):
            seen["rule"] = remove_rule()
            shaped = subprocess.run(
                rules.plan_rate_removal(uplink().device), capture_output=True, text=True, check=False
            )
            seen["rate"] = shaped.returncode == 0  # refused when there is nothing to remove
        os.close(handle)
    say("recovered", effect=time.time_ns(), **seen)
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos.inpod.network_helper")
    parser.add_argument("action", choices=["isolate", "degrade", "mend", "count"])
    parser.add_argument("--receipt", required=True)
    parser.add_argument("--uid", required=True)
    parser.add_argument("--container", required=True)
    parser.add_argument("--for", dest="seconds", type=float, default=10.0)
    parser.add_argument("--whole", action="store_true", help="isolate: lose everything in the process's own namespace")
    parser.add_argument(
        "--mark", type=lambda text: int(text, 0), default=0, help="isolate: SO_MARK of what the process sends"
    )
    parser.add_argument("--spare", type=int, nargs="*", default=[], help="ports that stay open, or are not degraded")
    parser.add_argument("--peer", nargs="*", default=[], help="isolate: only packets from and to these addresses")
    parser.add_argument("--only", type=int, nargs="*", default=[], help="isolate: only packets from or to these ports")
    parser.add_argument("--direction", choices=["both", "in", "out"], default="both")
    parser.add_argument("--reset", action="store_true", help="isolate: answer with a TCP reset")
    parser.add_argument(
        "--segments", choices=[*rules.SEGMENTS], default="all", help="isolate: only such segments of TCP"
    )
    parser.add_argument("--delay", type=float, default=0.0, help="degrade: milliseconds")
    parser.add_argument("--jitter", type=float, default=0.0, help="degrade: milliseconds")
    parser.add_argument("--loss", type=float, default=0.0, help="degrade: share of packets, 0 to 1")
    parser.add_argument("--rate", type=int, default=0, help="degrade: kilobits a second")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--degraded", action="store_true", help="mend: the pod's link too")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    pids = processes(options.uid, "" if options.action in ("mend", "count") else options.container)
    if not pids and options.action not in ("mend", "count"):
        say("vanished")
        return VANISHED
    return {"isolate": isolate, "degrade": degrade, "mend": mend, "count": count}[options.action](options, pids)


if __name__ == "__main__":
    sys.exit(main())
