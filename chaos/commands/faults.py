"""`sharedfate inject`, `stop` and `faults`: faults by hand, on a cluster that runs."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import click

from chaos.commands import which
from chaos.commands.which import connected, looked_into, offer, refuse_ignored, running_cluster
from chaos.errors import Misuse, Stopped
from chaos.fields import Fields, parse_pairs
from chaos.interrupts import listening
from chaos.model.faulting import FaultPhase, FaultShape
from chaos.names import summary_of

if TYPE_CHECKING:
    from chaos.faults.model import Fault, Receipt
    from chaos.faults.stop_signal import StopSignal

_TARGETS = ("layer", "tenant", "namespace", "labels", "node", "pod", "container", "workload", "behind", "serving")


def parse_seconds(text: str) -> float:
    """`10s`, `500ms`, `2m`, or a number of seconds; raises Misuse."""
    for unit, factor in (("ms", 0.001), ("s", 1.0), ("m", 60.0), ("", 1.0)):
        number = text.removesuffix(unit)
        if text.endswith(unit) and number.replace(".", "", 1).isdigit():
            return float(number) * factor
    raise Misuse(f"{text!r} is no time: want 10s, 500ms or 2m")


def parse_settings(kind: type[Fault], given: tuple[str, ...]) -> dict[str, Any]:
    """NAME=VALUE texts as the fault's own types; raises Misuse that lists every wrong one."""
    problems: list[str] = []
    known = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    values = Fields(parse_pairs("--set", given), "", problems, known=known).parsed(get_type_hints(kind))
    if problems:
        raise Misuse(f"fault {kind.name}: " + "; ".join(problems))
    return values


@click.command()
@click.argument("fault", shell_complete=offer(which.known_faults))
@click.option("--for", "span", default="10s", show_default=True, help="how long it is held: 10s, 500ms, 2m")
@click.option("--layer", default="", help="l4, l7, app, control-plane or node-agent")
@click.option("--tenant", default="", help="its pods; of proxies, those that serve one of them")
@click.option("--namespace", default="")
@click.option("--labels", default="", help="label selector of pods")
@click.option("--node", default="")
@click.option("--pod", default="")
@click.option("--container", default="")
@click.option("--workload", default="", help="Deployment/NAME, DaemonSet/NAME or StatefulSet/NAME")
@click.option("--behind", default="", help="NAMESPACE/POD of a proxy: the application's pods that it serves")
@click.option("--serving", default="", help="NAMESPACE/POD or NAMESPACE/WORKLOAD: the proxies that serve it")
@click.option("--pick", default="one", show_default=True, type=click.Choice(["one", "all", "random"]))
@click.option("--seed", default=0, show_default=True, help="of the random choice")
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="a setting of the fault, see `sharedfate faults`"
)
@click.option("--run", default="by-hand", show_default=True, help="value of the run's label on the receipt")
@click.option("--dry-run", is_flag=True, help="print what would be written, and write nothing")
@running_cluster
@click.pass_context
def inject(
    ctx: click.Context,
    /,
    fault: str,
    span: str,
    pick: str,
    seed: int,
    settings: tuple[str, ...],
    run: str,
    dry_run: bool,
    spec: str,
    kubeconfig: Path | None,
    namespaces: str,
    **options: str,
) -> None:
    """Inject a fault, hold it, undo it: `sharedfate inject kill --layer l7 --tenant a --for 10s`.

    Ctrl-C, SIGTERM, `sharedfate stop`, the stop file (SHAREDFATE_STOP_FILE) and the stop port (SHAREDFATE_STOP_PORT)
    end it at once; if this process dies, its deadline does.
    """
    from chaos.faults.catalogue import fault_class
    from chaos.faults.dry_run import dry_run as write_nothing
    from chaos.faults.injection import inject_all
    from chaos.faults.selection import Pick, Selector, select
    from chaos.faults.stop_signal import StopSignal

    seconds = parse_seconds(span)
    kind = fault_class(fault)
    made = kind(**parse_settings(kind, settings))
    if pick != Pick.RANDOM:
        refuse_ignored(ctx, "nothing is drawn; add --pick random, or leave it out", "seed")
    listed = tuple(part.strip() for part in namespaces.split(",") if part.strip())
    selector = Selector(**{key: options[key] for key in _TARGETS}, consented=listed, pick=Pick(pick), seed=seed)
    deadline = seconds + 30.0
    with connected(spec, kubeconfig, namespaces) as cluster:
        planned = [(made, target) for target in select(cluster, made.targets, selector)]
        every = dataclasses.replace(selector, pick=Pick.ALL)
        if selector.pick is Pick.ONE and (count := len(select(cluster, made.targets, every))) > 1:
            click.echo(f"1 of {count} candidates, the first by name: --pick all or random for others", err=True)
        if dry_run:
            click.echo("\n".join(write_nothing(cluster, planned, run=run, seconds=deadline, now=time.time_ns())))
            return
        stop_signal = StopSignal(cluster)
        with (
            listening(),
            inject_all(cluster, planned, run=run, seconds=deadline, on_phase=_tell, stop=stop_signal) as receipts,
        ):
            if made.shape is not FaultShape.PULSE:
                _hold(stop_signal, seconds, receipts)


def _tell(phase: FaultPhase, receipt: Receipt) -> None:
    seen = {FaultPhase.INJECTED: receipt.evidence, FaultPhase.RECOVERED: receipt.evidence.get("recovery", {})}.get(
        phase, {}
    )
    told = ", ".join(f"{key} {value}" for key, value in dict(seen).items() if key not in ("phase", "at", "effect"))
    click.echo(f"{phase.word:<9} {receipt.fault} on {receipt.target}" + (f": {told}" if told else f" ({receipt.id})"))


def _hold(stop_signal: StopSignal, seconds: float, receipts: tuple[Receipt, ...]) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if why := stop_signal.requested():
            raise Stopped(f"{len(receipts)} faults stopped by an operator: {why}")
        time.sleep(min(left, 0.5))


@click.command()
@click.option("--lift", is_flag=True, help="take the mark away, so that runners that had begun before it may go on")
@running_cluster
def stop(lift: bool, spec: str, kubeconfig: Path | None, namespaces: str) -> None:
    """Undo every fault of the cluster at once, and stop the runners that hold them."""
    from chaos.faults import stop_signal
    from chaos.faults.injection import undo_overdue

    with connected(spec, kubeconfig, namespaces) as cluster:
        if lift:
            click.echo("lifted" if stop_signal.clear_stop(cluster) else "nobody had asked for a stop")
            return
        stop_signal.request_stop(cluster, why=f"by {os.environ.get('USER', 'somebody')}")

        def done(receipt: Receipt) -> None:
            click.echo(f"undone: {receipt.fault} on {receipt.target} (run {receipt.run})")

        if not undo_overdue(cluster, now=time.time_ns(), everything=True, done=done):
            click.echo("nothing was held")


@click.command()
@click.option("--check", is_flag=True, help="ask the cluster which it allows; exit code 1 when it allows none")
@looked_into
@click.pass_context
def faults(ctx: click.Context, check: bool, spec: str, kubeconfig: Path | None) -> None:
    """What faults there are: on what they act, their settings, what they need, and whether the cluster allows them."""
    from chaos.faults.catalogue import fault_class, known_faults
    from chaos.faults.needs import missing

    lacking: dict[str, list[str]] = {}
    if not check:
        refuse_ignored(ctx, "only --check asks a cluster; add it, or leave this out", "spec", "kubeconfig")
    else:
        with connected(spec, kubeconfig) as cluster:
            lacking = {fault: missing(cluster, fault_class(fault).needs) for fault in known_faults()}
    for fault in sorted(known_faults()):
        kind = fault_class(fault)
        purpose = summary_of(sys.modules[kind.__module__].__doc__)
        click.echo(f"{fault} ({kind.shape}, on {' or '.join(sorted(kind.targets))}): {purpose}")
        fields = [
            f"{one.name}={_default(one)}"
            for one in dataclasses.fields(kind)  # type: ignore[arg-type]
        ]
        click.echo(f"    settings: {', '.join(fields) or 'none'}")
        click.echo(f"    needs: {', '.join(kind.needs)}")
        if check:
            click.echo("    here: " + ("; ".join(lacking[fault]) or "allowed"))
    if check and all(lacking.values()):
        sys.exit(1)


def _default(field: dataclasses.Field[Any]) -> str:
    """Return what a setting is unless it is set, as Python writes it."""
    if field.default is not dataclasses.MISSING:
        return repr(field.default)
    return "(required)" if field.default_factory is dataclasses.MISSING else repr(field.default_factory())
