"""Rows of processes whose truth is known, each a kind of noise or harm that lasts what it says. Each row is data, and
`proof.judge` runs them.

Independent of `proof.synthetic`: errors and speeds are states in continuous time. A burst is a stay in a failing state
of exponential length; a process with memory is a threshold of an Ornstein-Uhlenbeck path; a server that switches speed
stays in each for an exponential time. Harm acts in the fault's windows alone, and truth is the long-run rise that the
row states. One judged flow, a quiet sentinel; rates, windows and repeats are those of a run by the default settings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from chaos.engine.designs import BETWEEN_SECONDS, PULSE_SECONDS, RECOVERY_LOOK_SECONDS, REPEAT_LOOK_SECONDS, REPEATS
from chaos.engine.settings import Settings
from chaos.engine.topology import SENTINEL_RATE
from chaos.history.model import SAMPLE, Cause, Outcome, Samples
from chaos.model.faulting import FaultShape
from chaos.model.flow import Flow, Window, WindowKind
from chaos.verdict import Expectation, FaultEvidence, Finding, Harm, HistoryView, Judgement, Thresholds, Verdict, judge
from chaos.verdict.recovery import Return

NANO = 1_000_000_000
EPOCH = 1_700_000_000 * NANO
THRESHOLDS = Thresholds(bootstrap=0)
RATE, BASELINE = Settings().rate, 6.0
WATCH = THRESHOLDS.back_seconds + THRESHOLDS.stay_seconds  # s, at most, after an undo
RENEWAL = 2.0  # s, in which a fresh pod comes for the next pulse: of no window
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Errors:
    """Failures of a long-run share. `burst` (s): stays in which all fail; `memory` (s): threshold of a process."""

    share: float = 0.0
    burst: float = 0.0
    memory: float = 0.0

    def draw(self, rng: np.random.Generator, due: Floats) -> Bools:
        if self.share <= 0:
            return np.zeros(len(due), bool)
        if self.burst:
            return _stays(rng, due, self.burst, self.burst * (1 - self.share) / self.share)
        if self.memory:
            return _ornstein_uhlenbeck(rng, due, self.memory) > NormalDist().inv_cdf(1 - self.share)
        return rng.random(len(due)) < self.share


@dataclass(frozen=True, slots=True)
class Speed:
    """Latency: lognormal, in an own state of `factor` times the usual for stays of `dwell` s, half of the time."""

    sigma: float = 0.25
    median: float = 0.012  # s: so long that the threshold is 1.5 x the median, not the least 5 ms beyond it
    factor: float = 1.0
    dwell: float = 0.0
    memory: float = 0.0
    drift: float = 1.0

    def draw(self, rng: np.random.Generator, due: Floats) -> Floats:
        z = _ornstein_uhlenbeck(rng, due, self.memory) if self.memory else rng.standard_normal(len(due))
        latency: Floats = self.median * np.exp(self.sigma * z)
        if self.dwell:
            latency = np.where(_stays(rng, due, self.dwell, self.dwell), latency * self.factor, latency)
        if len(due):
            latency = latency * self.drift ** (due / due[-1])
        return latency


@dataclass(frozen=True, slots=True)
class Row:
    """One row: what is always there, and what the fault does.

    Attributes:
        harm, slower: in the fault's windows, beyond what is always there.
        late: of a held fault, when harm begins (s after its begin).
        rise: true long-run rise in points of errors; `above` overrides which side of the margin that is.
        blind: why this row may err more often than the targets; empty when it must not.
    """

    name: str
    base: Errors = Errors()
    speed: Speed = Speed()
    harm: Errors = Errors()
    slower: float = 1.0
    late: float = 0.0
    pulses: int = 0  # 0: held; of several the judge sees all at once
    as_needed: bool = False  # up to so many pulses, while the judge does not pass it: as a run repeats kills
    length: float = 30.0  # s, of the hold or of the harm in each pulse; a pulse's window has its least length
    rate: float = RATE
    poisson: bool = False
    rise: float = 0.0
    above: bool | None = None
    blind: str = ""

    @property
    def is_above(self) -> bool:
        return self.rise > 2.0 if self.above is None else self.above


@dataclass
class Seen:
    findings: Counter[Finding] = field(default_factory=Counter)
    seconds: Counter[float] = field(default_factory=Counter)  # to a decision -> histories


def _stays(rng: np.random.Generator, due: Floats, inside: float, outside: float) -> Bools:
    """Which instants lie in the first of two states with exponential stays, begun in equilibrium."""
    if not len(due):
        return np.zeros(0, bool)
    state = bool(rng.random() < inside / (inside + outside))
    need = int(4 * due[-1] / min(inside + outside, due[-1] + 1) + 40)
    pairs = rng.exponential([inside, outside] if state else [outside, inside], (need, 2)).ravel()
    edges = np.cumsum(pairs)
    crossed = np.searchsorted(edges, due, side="right")
    found: Bools = (crossed % 2 == 0) == state
    return found


def _ornstein_uhlenbeck(rng: np.random.Generator, due: Floats, memory: float) -> Floats:
    """Standard normal with correlation exp(-lag / memory), on a grid of a tenth of the memory or of the requests."""
    from scipy.signal import lfilter

    step = min(memory / 10, 0.005)
    n = int(due[-1] / step) + 2
    phi = float(np.exp(-step / memory))
    shocks = rng.standard_normal(n)
    shocks[1:] *= np.sqrt(1 - phi * phi)
    path: Floats = lfilter([1.0], [1.0, -phi], shocks)
    found: Floats = path[(due / step).astype(int)]
    return found


def history(rng: np.random.Generator, row: Row, *, watch: float = 4.0) -> tuple[HistoryView, Flow]:
    """One history of a row; a held fault is watched for so many seconds after its undo."""
    flow = Flow("tenant-0/client", "tenant-0/server")
    cut, faults, end = _pulsed(row) if row.pulses else _held(row, watch)
    n = round(end * row.rate)
    times = np.sort(rng.random(rng.poisson(n)) * end) if row.poisson else (np.arange(n) + rng.random()) / row.rate
    due: Floats = times.astype(np.float64)
    during = np.zeros(len(due), bool)
    for begin in faults:
        during |= (due >= begin + row.late) & (due < begin + row.length)
    errors = row.base.draw(rng, due) | (during & row.harm.draw(rng, due))
    latency = row.speed.draw(rng, due)
    latency[during] *= row.slower
    sentinel = sentinel_of(flow)
    quiet = np.arange(round(end * SENTINEL_RATE)) / SENTINEL_RATE
    rows = {
        flow: _samples(due, latency, errors),
        sentinel: _samples(quiet, Speed().draw(rng, quiet), np.zeros(len(quiet), bool)),
    }
    windows = tuple(Window(kind, _at(a), _at(b)) for kind, a, b in cut)
    restored = max(w.end for w in windows if w.kind is WindowKind.FAULT)
    return HistoryView(rows, windows, FaultEvidence(True, True, _at(faults[0]), restored), _at(end)), flow


def _at(second: float) -> int:
    return EPOCH + round(second * NANO)


Cut = list[tuple[WindowKind, float, float]]


def _held(row: Row, watch: float) -> tuple[Cut, list[float], float]:
    """(windows, begins of the fault, end), s."""
    undone = BASELINE + row.length
    cut = [
        (WindowKind.BASELINE, 0.0, BASELINE),
        (WindowKind.FAULT, BASELINE, undone),
        (WindowKind.RECOVERY, undone, undone + watch),
    ]
    return cut, [BASELINE], undone + watch


def _pulsed(row: Row) -> tuple[Cut, list[float], float]:
    """(windows, begins of the pulses, end), s."""
    cut = pulsed(row.pulses, max(row.length, PULSE_SECONDS))
    return cut, [begin for kind, begin, _ in cut if kind is WindowKind.FAULT], cut[-1][2]


def pulsed(pulses: int, length: float) -> Cut:
    """As `engine.designs.pulses` lays them out: a look's time after each pulse but the last, then a fresh pod, which no
    window holds, and more of the baseline."""
    cut: Cut = [(WindowKind.BASELINE, 0.0, BASELINE)]
    for number in range(1, pulses + 1):
        at = cut[-1][2]
        watched = at + (THRESHOLDS.looks[-1] if number == pulses else REPEAT_LOOK_SECONDS)
        cut += [(WindowKind.FAULT, at, at + length), (WindowKind.RECOVERY, at + length, watched)]
        if number < pulses:
            cut.append((WindowKind.BASELINE, watched + RENEWAL, watched + RENEWAL + BETWEEN_SECONDS))
    return cut


def sentinel_of(flow: Flow) -> Flow:
    return Flow(flow.client, flow.server, sentinel=True)


def _samples(due: Floats, latency: Floats, errors: Bools) -> Samples:
    samples = np.zeros(len(due), SAMPLE)
    samples["due"] = EPOCH + np.round(due * NANO).astype(np.int64)
    samples["sent"] = samples["due"]
    samples["done"] = samples["due"] + np.round(latency * NANO).astype(np.int64)
    samples["outcome"] = np.where(errors, Outcome.UNKNOWN, Outcome.OK)
    samples["cause"] = np.where(errors, Cause.RESET, Cause.NONE)
    return samples


def run_row(row: Row, *, trials: int, seed: int) -> Seen:
    """Judge so many histories of a row."""
    out = Seen()
    shape = FaultShape.PULSE if row.pulses else FaultShape.HELD
    harm = Harm.ERRORS if row.pulses else Harm.EITHER
    for trial in range(trials):
        seen, flow = history(np.random.default_rng([seed, trial]), row)
        expected = Expectation.nobody([flow], harm=harm, fault_shape=shape)
        judgement = _as_needed(seen, expected) if row.as_needed else judge(seen, expected, THRESHOLDS)
        if not judgement.flows:  # a baseline without an answer, in a burst of the flow's own: no look is taken
            out.findings[Finding.INCONCLUSIVE] += 1
            continue
        verdict = judgement.flows[0]
        out.findings[verdict.finding] += 1
        if verdict.decided_after is not None:
            out.seconds[verdict.decided_after] += 1
    return out


def _as_needed(seen: HistoryView, expected: Expectation) -> Judgement:
    """The judgement after as many of the pulses as it takes to pass, and REPEATS at most: as a run goes on."""
    pulses = seen.windows_of(WindowKind.FAULT)
    for number, pulse in enumerate(pulses[:REPEATS], start=1):
        last = number == min(REPEATS, len(pulses))
        until = seen.until if last else pulse.begin + round(REPEAT_LOOK_SECONDS * NANO)
        judgement = judge(_so_far(seen, until, pulse.end), expected, THRESHOLDS)
        if last or judgement.verdict is Verdict.PASS:
            break
    return judgement


def _so_far(seen: HistoryView, until: int, restored: int) -> HistoryView:
    """What had happened by an instant, at which the last undo was seen at `restored`."""
    return replace(
        seen,
        flows={flow: samples[samples["due"] < until] for flow, samples in seen.flows.items()},
        windows=tuple(replace(w, end=min(w.end, until)) for w in seen.windows if w.begin < until),
        evidence=replace(seen.evidence, restored=restored),
        until=until,
    )


@dataclass(frozen=True, slots=True)
class AfterRow:
    """What goes on after the undo of a hold of 10 s, for as long as a run watches.

    Attributes:
        victim: in the hold all of its requests failed, as predicted; else it was spared.
        harm: from the undo on, for `lasts` seconds.
        wrong: what may not be found.
    """

    name: str
    wrong: tuple[Return, ...]
    base: Errors = Errors()
    speed: Speed = Speed()
    harm: Errors = Errors()
    slower: float = 1.0
    lasts: float = WATCH
    victim: bool = False


def run_after(row: AfterRow, *, trials: int, seed: int) -> Counter[str]:
    """What is known of the flow's return, over so many histories, each watched as a run does it."""
    out: Counter[str] = Counter()
    held = Row(row.name, row.base, row.speed, harm=Errors(1.0 if row.victim else 0.0), length=10.0)
    for trial in range(trials):
        rng = np.random.default_rng([seed, trial])
        seen, flow = history(rng, held, watch=WATCH)
        samples = seen.flows[flow].copy()
        undone = seen.evidence.restored or 0
        after = (samples["due"] >= undone) & (samples["due"] < undone + round(row.lasts * NANO))
        failed = after & row.harm.draw(rng, (samples["due"] - EPOCH) / NANO)
        samples["outcome"][failed], samples["cause"][failed] = Outcome.UNKNOWN, Cause.RESET
        taken = samples["done"] - samples["due"]
        samples["done"] = samples["due"] + np.where(after, (taken * row.slower).astype(np.int64), taken)
        expected = replace(Expectation.nobody([flow]), shares={flow: float(row.victim)}, recovery=True)
        judgement = _watched(replace(seen, flows={**seen.flows, flow: samples}), expected, undone)
        out[judgement.flows[0].after_undo if judgement.flows else Return.UNKNOWN] += 1
    return out


def _watched(seen: HistoryView, expected: Expectation, undone: int) -> Judgement:
    """Look until every flow is back or the time is over, as `designs.await_recovery` does."""
    first, step, last = (round(s * NANO) for s in (THRESHOLDS.stay_seconds, RECOVERY_LOOK_SECONDS, WATCH))
    for after in range(first, last + 1, step):
        judgement = judge(_so_far(seen, undone + after, undone), expected, THRESHOLDS)
        if judgement.recovered:
            break
    return judgement


CLUSTER = 'no watch of seconds meets enough of them; the verdict says: "*not hurt* rests on ... s: harm in clusters longer than ... s may have fallen beside them"'  # noqa: E501
PULSE = 'within one pulse too few requests fall due; the verdict says: "one pulse: a rise below 9.0 points within may go unseen ...: repeat it"'  # noqa: E501
OWN = "a pulse and a burst of the flow's own are alike; the verdict says: \"one pulse: ... a burst of a flow's own looks like harm: repeat it\""  # noqa: E501
LATE = 'a burst that lasts 4.5 s to the end of the fault is alike; the verdict says: "... was hurt in the last 4.5 s of the fault alone: a burst of its own that lasts so long looks the same: repeat it"'  # noqa: E501
SPEED = "a change of the flow's own speed that begins and ends with the fault is alike; the verdict says: \"... was only slower, from the fault's begin to its undo: ... looks the same: repeat it\""  # noqa: E501
B = 0.005


def _pulse_rows() -> Iterator[Row]:
    """What a pulse does is a share of its window, which has a least length."""
    for least, lasting in ((0.5, 0.5), (0.5, 0.3), (1.0, 1.0)):
        for share in {0.5: (0.03, 0.05, 0.1, 0.2, 1.0), 0.3: (0.1, 0.2), 1.0: (0.05,)}[lasting]:
            rise, blind = 100 * share * lasting / least, PULSE if share * lasting / least < 0.09 else ""
            name = f"{lasting:g} s, {share:.0%} of it"
            yield Row(f"pulse {name}", harm=Errors(share), pulses=1, length=lasting, rise=rise, blind=blind)
            yield Row(
                f"pulse {name}, repeated as needed",
                harm=Errors(share),
                pulses=3,
                as_needed=True,
                length=lasting,
                rise=rise,
                blind=blind,
            )
    for lasting, share in ((0.5, 0.021), (0.5, 0.05), (0.5, 0.1), (0.5, 0.2), (0.3, 0.1), (1.0, 0.021)):
        rise = 100 * share * lasting / max(0.5, lasting)
        name = f"three pulses {lasting:g} s, {share:.1%} of each"
        yield Row(name, harm=Errors(share), pulses=3, length=lasting, rise=rise, blind=PULSES if rise < 5.5 else "")
    yield Row(
        "three pulses 0.5 s, 10% of each, memory 0.1 s",
        harm=Errors(0.1, memory=0.1),
        pulses=3,
        length=0.5,
        rise=10,
        blind=PULSES,
    )
    noises: tuple[tuple[str, Errors, Speed], ...] = (
        ("", Errors(), Speed()),
        (", base 0.5 %", Errors(B), Speed()),
        (", own bursts of 0.25 s, base 1 %", Errors(0.01, burst=0.25), Speed()),
        (", own bursts of 1 s, base 1 %", Errors(0.01, burst=1.0), Speed()),
        (", own speed x2, dwell 2 s", Errors(), Speed(factor=2, dwell=2)),
    )  # fmt: skip
    for name, base, speed in noises:
        own = OWN if base.burst else ""
        yield Row(f"pulse 0.5 s{name}, A/A", base, speed, pulses=1, length=0.5, blind=own)
        yield Row(f"pulse 0.5 s, repeated as needed{name}, A/A", base, speed, pulses=3, as_needed=True, length=0.5)
        yield Row(f"three pulses 0.5 s{name}, A/A", base, speed, pulses=3, length=0.5)


PULSES = 'within three pulses too few requests fall due; the verdict says: "3 pulses: a rise below 5.5 points within may go unseen"'  # noqa: E501
ROWS: tuple[Row, ...] = (
    *(Row(f"errors iid, base 0.5 %, rise {x:g}", Errors(B), harm=Errors(x / 100), rise=x) for x in (1.9, 2.1, 2.5, 5)),
    Row("errors iid, base 0 %, rise 2.1", harm=Errors(0.021), rise=2.1),
    Row("Poisson arrivals, base 0.5 %, rise 2.1", Errors(B), harm=Errors(0.021), rise=2.1, poisson=True),
    *(Row(f"harm with memory {m:g} s, base 0.5 %, rise 1.9", Errors(B), harm=Errors(0.019, memory=m), rise=1.9)
      for m in (0.05, 1.0)),
    *(Row(f"harm with memory {m:g} s, base 0.5 %, rise 2.1", Errors(B), harm=Errors(0.021, memory=m), rise=2.1,
          blind=CLUSTER if m >= 0.1 else "") for m in (0.05, 0.1, 0.2, 1.0)),
    *(Row(f"harm in bursts of {b:g} s, base 0 %, rise {x:g}", harm=Errors(x / 100, burst=b), rise=x,
          blind=CLUSTER if b >= 0.1 else "")
      for b, x in ((0.05, 2.1), (0.1, 3), (0.25, 3), (0.25, 10), (1.0, 3), (1.0, 10))),
    *(Row(f"own bursts of {b:g} s, base 1 %, A/A{h}", Errors(0.01, burst=b), length=s, blind=LATE)
      for b in (0.05, 0.25, 1.0, 2.0) for s, h in ((30.0, ""), (10.0, ", hold 10 s"))),
    *(Row(f"own errors with memory {m:g} s, base 1 %, A/A", Errors(0.01, memory=m), blind=LATE)
      for m in (0.1, 1.0, 5.0)),
    *(Row(f"own speed x{f:g}, dwell {d:g} s, A/A{h}", speed=Speed(factor=f, dwell=d), length=s, blind=SPEED)
      for f, d in ((2, 0.5), (2, 2), (2, 5), (2, 20), (4, 5)) for s, h in ((30.0, ""), (10.0, ", hold 10 s"))),
    Row("own speed x5 of 2 ms, dwell 2 s, A/A, hold 10 s", speed=Speed(median=0.002, factor=5, dwell=2), length=10.0,
        blind=SPEED),
    Row("latency with memory 2 s, A/A", speed=Speed(memory=2.0)),
    Row("heavy latency (sigma 1.2), A/A", speed=Speed(sigma=1.2)),
    Row("own drift to 1.3 x, A/A", speed=Speed(drift=1.3)),
    *(Row(f"slow x{f:g} (above 15 points)", slower=f, above=True) for f in (1.6, 2, 4)),
    Row("slow x4 of 2 ms (above 15 points)", speed=Speed(median=0.002), slower=4, above=True),
    *(Row(f"outage of {s:.0%} from {t:g} s on{h}", harm=Errors(s), late=t, rise=100 * s * (1 - t / n), length=n)
      for s, t, n, h in ((1.0, 3, 30.0, ""), (1.0, 4.5, 30.0, ""), (1.0, 9, 30.0, ""), (0.2, 4.5, 30.0, ""),
                         (1.0, 5, 10.0, ", hold 10 s"), (0.2, 5, 10.0, ", hold 10 s"))),
    Row("harm of 20% with memory 0.25 s from 4.5 s on", harm=Errors(0.2, memory=0.25), late=4.5, rise=17),
    *_pulse_rows(),
)  # fmt: skip


WORSE = (Return.NOT_BACK, Return.HURT_BY_UNDO)
AFTER: tuple[AfterRow, ...] = (
    AfterRow("undone, well, base 0.5 %", WORSE, Errors(B)),
    AfterRow("undone, well, own bursts of 1 s, base 1 %", WORSE, Errors(0.01, burst=1.0)),
    AfterRow("undone, well, own errors with memory 5 s, base 1 %", WORSE, Errors(0.01, memory=5.0)),
    AfterRow("undone, well, own speed x2, dwell 2 s", WORSE, speed=Speed(factor=2, dwell=2)),
    AfterRow("undone, well, own speed x2, dwell 20 s", WORSE, speed=Speed(factor=2, dwell=20)),
    *(
        AfterRow(f"undone, {x:.0%} of requests fail from then on", (Return.BACK,), harm=Errors(x))
        for x in (0.03, 0.05, 0.5)
    ),
    AfterRow("undone, an outage of 2 s with it, then well", (Return.NOT_BACK,), harm=Errors(1.0), lasts=2.0),
    AfterRow("undone, three times as slow from then on", (Return.BACK,), slower=3.0),
    AfterRow("undone, a victim, well, base 0.5 %", WORSE, Errors(B), victim=True),
    AfterRow("undone, a victim, well, own bursts of 1 s, base 1 %", WORSE, Errors(0.01, burst=1.0), victim=True),
    AfterRow(
        "undone, a victim, well, own errors with memory 5 s, base 1 %", WORSE, Errors(0.01, memory=5), victim=True
    ),
    AfterRow("undone, a victim, well, own speed x2, dwell 2 s", WORSE, speed=Speed(factor=2, dwell=2), victim=True),
    *(
        AfterRow(
            f"undone, a victim, {x:.0%} of requests fail from then on", (Return.BACK,), harm=Errors(x), victim=True
        )
        for x in (0.05, 0.3, 0.82)
    ),
    AfterRow("undone, a victim, three times as slow from then on", (Return.BACK,), slower=3.0, victim=True),
)
