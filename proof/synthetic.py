"""Synthetic histories whose truth is known, for the judge's error rates. Used by `proof.judge` and tests/verdict.

A flow's requests fall due evenly or as a Poisson stream. Latencies are lognormal through a Gaussian autoregressive
process, so that slowness comes in stretches; failures are a threshold of a second such process, so that they cluster
by a chosen time constant. Noise (bursts, drift, lateness) acts on every flow, sentinels too, in every window; harm acts
on chosen flows in fault windows alone. `true_rise` gives what the judge should find.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chaos.history.model import SAMPLE, Cause, Flag, Outcome, Samples
from chaos.model.flow import Flow, Window, WindowKind
from chaos.verdict import FaultEvidence, HistoryView

NANO = 1_000_000_000
EPOCH = 1_700_000_000 * NANO
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Noise:
    """What the machine does to everybody."""

    sigma: float = 0.25  # of the log of latency
    median: float = 0.002  # s
    memory: float = 0.0  # s: time constant of slowness and of failures; 0: independent requests
    error_share: float = 0.0  # failures that are always there
    bursts: float = 0.0  # stalls per second, of all flows at once
    burst_seconds: float = 0.15  # mean length of a stall
    burst_factor: float = 8.0  # latency within a stall
    own_bursts: float = 0.0  # stalls per second of one flow alone, which no sentinel sees
    drift: float = 1.0  # latency factor that is reached at the end of the fault window, steadily from the begin
    step: float = 1.0  # latency factor of everything from the fault's begin on
    passing: float = 1.0  # latency factor of everything while a fault is held, and no longer
    late_share: float = 0.0  # share of requests that the loader sends late, by 1 to 20 ms
    poisson: bool = False


@dataclass(frozen=True, slots=True)
class HarmDone:
    """What the fault does to one flow."""

    error_share: float = 0.0
    slow_factor: float = 1.0
    memory: float = 0.0  # s: how the failures cluster


@dataclass(frozen=True, slots=True)
class Plan:
    baseline: float = 6.0
    fault: float = 30.0
    after: float = 2.0
    rate: float = 200.0
    sentinel_rate: float = 50.0
    windows: tuple[tuple[WindowKind, float, float], ...] = ()  # instead of the three: kind, begin, end (s)

    def cut(self) -> list[tuple[WindowKind, float, float]]:
        if self.windows:
            return list(self.windows)
        b, f = self.baseline, self.baseline + self.fault
        return [(WindowKind.BASELINE, 0.0, b), (WindowKind.FAULT, b, f), (WindowKind.RECOVERY, f, f + self.after)]

    @property
    def seconds(self) -> float:
        return max(end for _, _, end in self.cut())


def switchback(*, pairs: int = 3, on: float = 4.0, off: float = 4.0, baseline: float = 6.0) -> Plan:
    windows = [(WindowKind.BASELINE, 0.0, baseline)]
    at = baseline
    for _ in range(pairs):
        windows += [(WindowKind.FAULT, at, at + on), (WindowKind.RECOVERY, at + on, at + on + off)]
        at += on + off
    return Plan(windows=tuple(windows))


def flows(count: int) -> list[Flow]:
    return [Flow(f"tenant-{i}/client", f"tenant-{i}/server") for i in range(count)]


def view(
    rng: np.random.Generator, plan: Plan, noise: Noise, harms: dict[Flow, HarmDone], *, sentinels: bool = True
) -> HistoryView:
    """A whole history: the flows of `harms` and, with `sentinels`, one sentinel per client."""
    cut = plan.cut()
    windows = tuple(Window(kind, EPOCH + round(a * NANO), EPOCH + round(b * NANO)) for kind, a, b in cut)
    faults = [(a, b) for kind, a, b in cut if kind is WindowKind.FAULT]
    stalls = _stalls(rng, noise.bursts, noise.burst_seconds, plan.seconds)
    found: dict[Flow, Samples] = {}
    for flow, harm in harms.items():
        own = stalls + _stalls(rng, noise.own_bursts, noise.burst_seconds, plan.seconds)
        found[flow] = _requests(rng, plan, noise, harm, plan.rate, faults, own)
        if sentinels:
            sentinel = Flow(flow.client, flow.server, sentinel=True)
            found[sentinel] = _requests(rng, plan, noise, HarmDone(), plan.sentinel_rate, faults, stalls)
    injected, restored = EPOCH + round(faults[0][0] * NANO), EPOCH + round(faults[-1][1] * NANO)
    evidence = FaultEvidence(True, True, injected, restored)
    return HistoryView(found, windows, evidence, EPOCH + round((plan.seconds + 1) * NANO))


def true_rise(harm: HarmDone, noise: Noise, plan: Plan, slow_threshold: float) -> tuple[float, float]:
    """The rise of the share of errors, and of slow requests, that the harm causes in the long run.

    Beside the same fault windows without harm: what drift does to both is no harm.
    """
    slow = slow_share(noise, plan, slow_threshold, harm.slow_factor) - slow_share(noise, plan, slow_threshold)
    return (1 - noise.error_share) * harm.error_share, slow


def slow_share(noise: Noise, plan: Plan, slow_threshold: float, factor: float = 1.0) -> float:
    """The long-run share of requests slower than the threshold in a plan's fault windows, at `factor` times the usual
    latency.
    """
    faults = [(begin, end) for kind, begin, end in plan.cut() if kind is WindowKind.FAULT]
    instants = [begin + (end - begin) * (i + 0.5) / 20 for begin, end in faults for i in range(20)]
    last = max(end for _, end in faults)
    machine = [noise.step * noise.passing * noise.drift ** (at / last) for at in instants]
    shift = [math.log(slow_threshold / (noise.median * factor * now)) / noise.sigma for now in machine]
    return sum(1 - _NORMAL.cdf(z) for z in shift) / len(shift)


def _requests(
    rng: np.random.Generator,
    plan: Plan,
    noise: Noise,
    harm: HarmDone,
    rate: float,
    faults: Sequence[tuple[float, float]],
    stalls: Sequence[tuple[float, float]],
) -> Samples:
    count = round(plan.seconds * rate)
    due: NDArray[np.floating[Any]] = (np.arange(count) + rng.random()) / rate
    if noise.poisson:
        due = np.sort(rng.random(rng.poisson(count))) * plan.seconds
    n = len(due)
    during = np.zeros(n, bool)
    for begin, end in faults:
        during |= (due >= begin) & (due < end)
    latency = noise.median * np.exp(noise.sigma * _autoregressive(rng, n, noise.memory * rate))
    last = max(end for _, end in faults)
    latency *= np.power(noise.drift, np.clip(due / last, 0, 1))
    latency[due >= faults[0][0]] *= noise.step
    for begin, length in stalls:
        latency[(due >= begin) & (due < begin + length)] *= noise.burst_factor
    latency[during] *= harm.slow_factor * noise.passing
    errors = _clustered(rng, n, noise.error_share, noise.memory * rate)
    errors |= during & _clustered(rng, n, harm.error_share, harm.memory * rate)
    late = rng.random(n) < noise.late_share
    latency += np.where(late, rng.uniform(0.001, 0.02, n), 0.0)
    samples = np.zeros(n, SAMPLE)
    samples["due"] = EPOCH + np.round(due * NANO).astype(np.int64)
    samples["sent"] = samples["due"]
    samples["done"] = samples["due"] + np.round(latency * NANO).astype(np.int64)
    samples["outcome"] = np.where(errors, Outcome.UNKNOWN, Outcome.OK)
    samples["cause"] = np.where(errors, Cause.RESET, Cause.NONE)
    samples["flags"] = np.where(late, Flag.LATE, 0)
    return samples


def _stalls(rng: np.random.Generator, rate: float, mean: float, seconds: float) -> list[tuple[float, float]]:
    if rate <= 0:
        return []
    return [(float(at), float(rng.exponential(mean))) for at in rng.random(rng.poisson(rate * seconds)) * seconds]


def _autoregressive(rng: np.random.Generator, n: int, memory: float) -> NDArray[np.float64]:
    """Standard normal, with correlation exp(-lag / memory) in requests."""
    if memory <= 0:
        return rng.standard_normal(n)
    phi = math.exp(-1 / memory)
    # A sum of phi-powers in blocks: short enough that no power underflows, exact at their seams.
    shocks = rng.standard_normal(n) * math.sqrt(1 - phi * phi)
    block = max(1, min(n, int(200 * memory)))
    out = np.empty(n)
    state = float(rng.standard_normal())
    powers = phi ** np.arange(1, block + 1)
    for begin in range(0, n, block):
        part = shocks[begin : begin + block]
        weights = powers[: len(part)]
        out[begin : begin + len(part)] = weights * (state + np.cumsum(part / weights))
        state = float(out[begin + len(part) - 1])
    return out


def _clustered(rng: np.random.Generator, n: int, share: float, memory: float) -> NDArray[np.bool_]:
    if share <= 0:
        return np.zeros(n, bool)
    if memory <= 0:
        return rng.random(n) < share
    return _autoregressive(rng, n, memory) > _NORMAL.inv_cdf(1 - share)
