"""The designs of an experiment: how a fault is laid out in time, so that its effect can be told from noise.

    pulse        a fault that is over by itself: its window ends when recovery was seen; a kill is made, and
                 repeated, in fresh pods, for the kubelet backs off from a container that was killed before
    held         a fault that acts until it is undone: for its whole declared time, whatever the judge says before
    switchback   a fault that acts by degrees: on and off in turn, so that drift cancels
    overload     a switchback whose expectation rests on which proxies were seen to be saturated

Each begins with a baseline and ends with every flow seen back, or not. The suite plays them whole; Chaos Toolkit plays
the halves (`put_in_force`, `InForce.undo`, `await_recovery`) from one activity to a later one. Windows are cut by
evidence that the faults bring back, never by the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from chaos.engine.saturation import Saturation, classify_saturation
from chaos.engine.targets import container_of, flows_behind, proxies_of_client
from chaos.engine.topology import TenantLoad
from chaos.engine.trial import Injection, Trial
from chaos.errors import NotReady
from chaos.faults.model import Fault, Target
from chaos.faults.overload import FREE_RATE, LIMITED_RATE, MAX_RATE_REACHED, Overload
from chaos.history.model import EventKind
from chaos.history.spans import SpanKind
from chaos.kube.objects import container_status
from chaos.model.faulting import FaultShape
from chaos.model.flow import Flow, Window, WindowKind
from chaos.model.placement import Proxy
from chaos.verdict import Harm, Judgement, Measure, Verdict
from chaos.verdict.measures import over_repeats

# A held fault's declared time. Harm that comes late in it must show: a bystander that is wholly down from the fifth
# second on has lost half of its requests by then, and one that goes down a quarter of a second before the end still
# exceeds the margin of errors. Shorter, and the looks at 4 and 8 s would decide alone.
HOLD_SECONDS: Final = 10.0
# Of a pulse's window: two at 120/s hold as many requests, each worth half an independent one, as exclude its margin.
PULSE_SECONDS: Final = 0.5
# Of each window of a switchback that is judged: three pairs at 120/s exclude the margin of errors.
SWITCH_SECONDS: Final = 2.5
# Pulses of a trial that the settings leave to the judge: from three on a flow's own burst can be told from harm.
REPEATS: Final = 3
# After each pulse but the last: the look that decides a quiet flow; what is open then is for the next pulse.
REPEAT_LOOK_SECONDS: Final = 4.0
# A pulse that lasted longer is repeated only when that was asked for.
LONGEST_REPEATED: Final = 10.0
# Steady load between a fresh pod and its kill: the baseline goes on there, interleaved with what is compared with it.
BETWEEN_SECONDS: Final = 2.0
# Seconds that a container has to run until its kubelet forgets the restarts before: twice its longest back-off.
BACK_OFF_FORGOTTEN: Final = 600.0
# Of the rate that a path was found to give out at: what it bears, so that a ramp need not begin lower.
BORNE_SHARE: Final = 0.7
GAVE_OUT: Final = "the rate at which the path gives out"
# Between two looks at whether every flow is back.
RECOVERY_LOOK_SECONDS: Final = 0.5


@dataclass(slots=True)
class InForce:
    """A fault in force, from its first effect until `undo`."""

    trial: Trial
    fault: Fault
    injection: Injection
    stack: ExitStack

    @property
    def begin(self) -> int:
        """The instant of the first effect, ns."""
        return self.injection.begin

    def undo(self) -> int:
        """Undo the fault, close its windows, and return the instant at which it was seen to be undone."""
        end = time.time_ns()
        self.stack.close()
        restored = self.injection.restored_at or time.time_ns()
        if self.fault.shape is FaultShape.PULSE:  # over by itself: its window ends when recovery was seen
            end = max(restored, self.begin + round(PULSE_SECONDS * 1e9))
        self.trial.window(WindowKind.FAULT, self.begin, end, "first effect until it was over")
        self.trial.window(WindowKind.RECOVERY, restored, None, "undone, and seen so")
        return restored


def put_in_force(
    trial: Trial, fault: Fault, *targets: Target, seconds: float, noisy: TenantLoad | None = None, described: str = ""
) -> InForce:
    """Inject, and open the fault's window. State the expectation before.

    Args:
        seconds: deadline, after which whoever sees the receipt undoes it.
        noisy: the tenant whose own flow pauses meanwhile, and starts again slowly.
        described: how the result names the target.
    """
    with ExitStack() as stack:
        if noisy is not None:
            stack.callback(trial.restore_load, noisy)
            trial.deployment.pause(noisy)
        injection = stack.enter_context(trial.fault(fault, *targets, seconds=seconds, described=described))
        trial.window(WindowKind.FAULT, injection.begin, None, "first effect")
        return InForce(trial, fault, injection, stack.pop_all())


def break_proxy(
    trial: Trial, fault: Fault, proxy: Proxy, *, harm: Harm = Harm.EITHER, seconds: float = 60.0
) -> Judgement:
    """Expect harm to exactly the proxy's fate group, and break the proxy by the design that the fault's shape
    requires.
    """
    target = container_of(trial.cluster, proxy)
    trial.expect_fate_of(proxy, shape=fault.shape, harm=harm)
    if fault.shape is FaultShape.PULSE and trial.deployment.may_replace_pods:
        return pulses(trial, fault, proxy, seconds=seconds)
    return break_and_watch(trial, fault, target, seconds=seconds)


def break_and_watch(trial: Trial, fault: Fault, *targets: Target, seconds: float = 60.0) -> Judgement:
    """Run baseline, fault, looks and recovery, by the fault's shape. State the expectation before."""
    match fault.shape:
        case FaultShape.PULSE:
            return pulse(trial, fault, *targets, seconds=seconds)
        case FaultShape.HELD:
            return held(trial, fault, *targets, seconds=seconds)
        case FaultShape.GRADUAL:
            return switchback(trial, fault, *targets, seconds=seconds)


def pulse(trial: Trial, fault: Fault, *targets: Target, seconds: float = 60.0) -> Judgement:
    """Inject a fault that ends by itself; leave once recovery was seen, which says when the successor began to
    serve.
    """
    trial.baseline()
    return _one_pulse(trial, fault, *targets, seconds=seconds)[0]


def pulses(trial: Trial, fault: Fault, proxy: Proxy, *, seconds: float = 60.0) -> Judgement:
    """Kill a proxy as often as the settings say, or up to REPEATS times while the judge does not pass: each time in a
    fresh pod, because the kubelet delays a container that was killed before, which is not the mesh's doing.

    A fail is repeated too: a burst of a flow's own that meets one kill looks like harm, and meets not the next.
    """
    wanted = trial.deployment.settings.repeat
    pod = trial.cluster.get("Pod", proxy.pod, proxy.namespace)
    if detect_back_off(container_status(pod, proxy.container), now=time.time()):  # by an earlier trial
        proxy = trial.renew(proxy)
    trial.baseline()
    for number in range(1, (wanted or REPEATS) + 1):
        last = number == (wanted or REPEATS)
        judgement, lasted = _one_pulse(
            trial,
            fault,
            container_of(trial.cluster, proxy),
            seconds=seconds,
            until=0.0 if last else REPEAT_LOOK_SECONDS,
        )
        if last or not judgement.recovered or trial.doubts:
            break
        if not wanted and (judgement.verdict is Verdict.PASS or lasted > LONGEST_REPEATED):
            break
        trial.end_recovery()
        try:
            proxy = trial.renew(proxy)
        except NotReady as error:  # what was disturbed for it is no evidence: made again from the beginning
            if judgement.verdict is not Verdict.FAIL:
                trial.doubts.append(f"no fresh pod came for the next {fault.name}: {error}")
            break
        trial.baseline_between(BETWEEN_SECONDS)
    return judgement


def detect_back_off(status: Mapping[str, Any], *, now: float) -> bool:
    """Whether the kubelet would delay the container's next start: it was restarted, and has not run for ten minutes
    since, after which the kubelet forgets. Pure.

    Args:
        status: of the container.
        now: seconds since the epoch.
    """
    if not status.get("restartCount"):
        return False
    started = ((status.get("state") or {}).get("running") or {}).get("startedAt")
    return started is None or now - _instant(started) < BACK_OFF_FORGOTTEN


def _instant(stamp: str) -> float:
    return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()


def _one_pulse(
    trial: Trial, fault: Fault, *targets: Target, seconds: float, until: float = 0.0
) -> tuple[Judgement, float]:
    """Return (the judgement once every flow recovered or did not, the pulse's length in s).

    Args:
        until: no look later than so many seconds after the pulse's begin; 0: as many as the judge has.
    """
    force = put_in_force(trial, fault, *targets, seconds=seconds)
    lasted = (force.undo() - force.begin) / 1e9
    trial.look_until_done(force.begin, least=max(lasted, until), most=until)
    return await_recovery(trial), lasted


def held(trial: Trial, fault: Fault, *targets: Target, seconds: float = 60.0, hold: float = HOLD_SECONDS) -> Judgement:
    """Hold a fault for its whole declared time, and longer while the judge cannot tell.

    Args:
        hold: the declared time, in seconds.
    """
    trial.baseline()
    force = put_in_force(trial, fault, *targets, seconds=max(seconds, hold + trial.thresholds.looks[-1]))
    try:
        trial.look_until_done(force.begin, least=hold)
    finally:
        force.undo()
    return await_recovery(trial)


def await_recovery(trial: Trial, *, origin: int = 0) -> Judgement:
    """Keep the load running until every flow is back within its baseline and stays there, or the stated time is over.

    Args:
        origin: ns, from when on flows must come back; 0: from when the last fault was seen to be undone.
    """
    limits = trial.thresholds
    origin = origin or trial.recovery_origin()
    end = origin + int((limits.back_seconds + limits.stay_seconds) * 1e9)
    with trial.spans.span("recovery", SpanKind.OBSERVATION):
        trial.observe_until(origin + int(limits.stay_seconds * 1e9))
        while not (judgement := trial.look()).recovered and time.time_ns() < end:
            trial.observe_until(time.time_ns() + int(RECOVERY_LOOK_SECONDS * 1e9))
    trial.end_watch(origin)
    return judgement


def switchback(
    trial: Trial,
    fault: Fault,
    *targets: Target,
    seconds: float = 60.0,
    pairs: int = 0,
    noisy: TenantLoad | None = None,
    described: str = "",
    again: Callable[[Sequence[Held]], Fault] | None = None,
    before_look: Callable[[Sequence[Held]], None] = lambda _: None,
    baseline: bool = True,
    build_up: float = 0.0,
) -> Judgement:
    """Switch a gradual fault on and off, in pairs, until the judge needs no more.

    The ramp before the effect belongs to neither window, nor does the time that flows take to be healthy again.

    Args:
        pairs: at most so many, one of the judge's looks; 0: as many as it has looks for.
        noisy: the tenant that is the fault itself: its own flow pauses meanwhile.
        again: returns the fault of the next pair, of the times that it was held before; None: the same each time.
        before_look: told of each time that the fault was held, before the judge looks: time to state an expectation
            that rests on what was seen of the fault.
        baseline: False where it was taken already.
        build_up: seconds from the fault's effect until it is whole; they belong to no window either.
    """
    if baseline:
        trial.baseline()
    on: list[Held] = []
    judgement: Judgement | None = None
    for look in (step for step in trial.thresholds.pairs if not pairs or step <= pairs):
        while len(on) < look:
            now = again(on) if again is not None and on else fault
            on.append(_switch(trial, now, targets, seconds, noisy, described, build_up))
            trial.pairs_done = len(on)
        before_look(on)
        judgement = trial.look()
        if judgement.done:
            break
    if rates := [rate for held in on for rate in held.rates()]:
        each = [Measure(rate, rate, rate, "requests/s") for rate in rates]
        trial.measures[GAVE_OUT] = over_repeats(each, "ramp")
    assert judgement is not None
    healthy = trial.deployment.steady.healthy
    if not judgement.recovered:  # the noise asks for more of the last off window
        return await_recovery(trial, origin=healthy)
    trial.end_watch(healthy)
    return judgement


@dataclass(frozen=True, slots=True)
class Held:
    """A fault that was held: when, and what its receipts say."""

    window: Window
    evidence: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, injection: Injection, begin: int, end: int) -> Held:
        found = tuple(receipt.evidence for receipt in injection.receipts)
        return cls(Window(WindowKind.FAULT, begin, end), found)

    @property
    def gave_out(self) -> bool:
        """Whether the path of an overload did: the ramp did not come to its own end."""
        return all(one.get("why") != MAX_RATE_REACHED for one in self.evidence)

    def reached(self) -> list[float]:
        """Return the requests a second at which the ramps of an overload ended, whatever ended them."""
        return [float(one["saturated_at"]) for one in self.evidence if one.get("saturated_at")]

    def rates(self) -> list[float]:
        """Return the requests a second at which the path of an overload gave out, where the path was the bound."""
        bound = [one for one in self.evidence if "saturated_at" in one and not one.get("loader_bound")]
        return [float(one["saturated_at"]) for one in bound if one.get("why") != MAX_RATE_REACHED]


def _switch(
    trial: Trial,
    fault: Fault,
    targets: Sequence[Target],
    seconds: float,
    noisy: TenantLoad | None,
    described: str,
    build_up: float,
) -> Held:
    """Run one pair."""
    hold = trial.thresholds.settle + SWITCH_SECONDS
    if noisy is not None:
        trial.deployment.pause(noisy)
    try:
        with trial.fault(fault, *targets, seconds=seconds, described=described) as injection:
            trial.hold(build_up)
            begin = time.time_ns()
            trial.hold(hold)
            end = time.time_ns()
    finally:
        if noisy is not None:
            trial.deployment.resume(noisy)
    why = "; ".join(str(receipt.evidence.get("why", fault.name)) for receipt in injection.receipts)
    trial.window(WindowKind.FAULT, begin, end, f"held: {why}")
    trial.restore_load()
    quiet = trial.deployment.steady.healthy
    with trial.spans.span("off", SpanKind.OBSERVATION):
        trial.observe_until(quiet + int(hold * 1e9))
    trial.window(WindowKind.RECOVERY, quiet, time.time_ns(), "undone, and flows healthy")
    return Held.of(injection, begin, end)


def why_nobody(number: int, client: str, seen: Saturation, held: Sequence[Held]) -> str:
    """Return why an overload put nobody at risk, as far as is known."""
    most = [float(one["rate"]) for each in held if not each.gave_out for one in each.evidence]
    if seen.near and most:
        return f"the path of {client} carried all of the {max(most):.0f} requests/s that the overload may reach"
    if not seen.unread:
        return f"the overload saturated none of the {number} proxies on the path of {client}"
    unlimited = [str(proxy) for proxy in seen.unread if not proxy.cpu_millicores]
    why = (
        f"{', '.join(unlimited)} has no CPU limit to be held against" if unlimited else "there is no reading of its CPU"
    )
    return (
        f"whether the overload saturated a proxy on the path of {client} is not known of {len(seen.unread)} of "
        f"{number}: {why}"
    )


def overload(
    trial: Trial,
    fault: Overload,
    noisy: TenantLoad,
    *,
    seconds: float = 60.0,
    pairs: int = 0,
    broken: Iterable[Proxy] = (),
    exempt: Iterable[Flow] = (),
    baseline: bool = True,
    path: Sequence[Proxy] = (),
    asked: Proxy | None = None,
) -> Judgement:
    """One tenant overloads its own path. Whoever shares a proxy that it saturated must be hurt: the weakest proxy of
    the path gives out first, and shields the others. Of those who share one that came near saturation, and none that
    was saturated, nothing is predicted.

    Args:
        broken, exempt: what earlier faults of the same trial broke, and the flows of which nothing is expected.
        path: what the overload passes; none given: the paths of the tenant's own calls.
        asked: the proxy that must be saturated for anything to be shown; None: any.
    """
    path = path or proxies_of_client(trial.deployment.placement(), noisy.client, whole=True)
    spared = frozenset(exempt)

    def expect(on: Sequence[Held]) -> None:
        full = expect_saturated(trial, noisy, path, on, shape=FaultShape.GRADUAL, broken=broken, exempt=spared)
        if asked is not None and asked not in full:
            trial.nobody_at_risk = f"the overload did not saturate {asked}, which it asks about"

    fault = bounded(fault, path)
    return switchback(
        trial,
        fault,
        trial.deployment.loader_target(noisy),
        seconds=seconds,
        pairs=pairs,
        noisy=noisy,
        described=f"{noisy.client} overloads {fault.server}",
        again=lambda on: resumed(fault, on),
        before_look=expect,
        baseline=baseline,
    )


def bounded(fault: Overload, path: Iterable[Proxy]) -> Overload:
    """Return an overload that names no highest rate with the one that such a path is known to bound."""
    limited = any(proxy.cpu_millicores for proxy in path)
    return fault if fault.max_rate else replace(fault, max_rate=LIMITED_RATE if limited else FREE_RATE)


def resumed(fault: Overload, on: Iterable[Held]) -> Overload:
    """Return the overload with a ramp that begins where the path is known to bear it, by the ramps before."""
    rates = [rate for held in on for rate in held.reached()]
    return replace(fault, start_rate=max(fault.start_rate, BORNE_SHARE * min(rates))) if rates else fault


def expect_saturated(
    trial: Trial,
    noisy: TenantLoad,
    path: Sequence[Proxy],
    held: Sequence[Held],
    *,
    shape: FaultShape,
    broken: Iterable[Proxy] = (),
    exempt: Iterable[Flow] = (),
) -> tuple[Proxy, ...]:
    """Expect harm to those who share a proxy that an overload was seen to saturate; return these proxies.

    Args:
        path: of the noisy tenant, whole.
        broken, exempt: as `overload` takes them.
    """
    earlier, gave_out = tuple(broken), all(one.gave_out for one in held)
    seen = classify_saturation(path, trial.events(), [one.window for one in held], gave_out=gave_out)
    hurt = flows_behind(trial.placement, seen.saturated)
    unsaid = flows_behind(trial.placement, (*seen.near, *seen.unread)) - hurt
    own = Flow(noisy.client, noisy.server)
    trial.expect_fate_of(*earlier, *seen.saturated, shape=shape, exempt=sorted({own, *exempt, *unsaid}))
    at_risk = bool(seen.saturated or earlier or not path)
    trial.nobody_at_risk = "" if at_risk else why_nobody(len(path), noisy.client, seen, held)
    names = {"saturated": seen.saturated, "near saturation": seen.near, "not read": seen.unread}
    trial.note(EventKind.NOTE, {name: [str(proxy) for proxy in found] for name, found in names.items()})
    return seen.saturated
