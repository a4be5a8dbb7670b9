"""The sidecar-or-sharing debate, claim by claim, each answered from this run's trials alone.

A claim names the scenario that shows it, and where it is of certain meshes their modes. Its answer is a figure for each
mode that was tried, with the interval and the verdict that say how sure we are; a claim whose scenario did not run says
what would measure it: a command, and the real mesh that it needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chaos.history.result import VERDICTS, TrialResult
from chaos.report.formatting import bystander, effects, flows_of, measure_line, number, short_flows, unpredicted_text
from chaos.report.sharing import Sharing, target_of

COSTS: Final = "benchmarks/results/cost.md"


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim of the debate. `side` is who says it. `scenario`: "" where no trial measures it, and `command` does;
    `measured` is then what it measured once, as its page has it.
    """

    text: str
    scenario: str
    side: str  # for sidecars | for sharing | for both
    measures: tuple[str, ...] = ()  # the first ones to show; others follow
    meshes: tuple[str, ...] = ()  # modes of real meshes, which alone can show it; none: any mode can
    command: str = ""
    measured: str = ""

    @property
    def unmeasured(self) -> str:
        """What is said of it when no trial of the run measured it."""
        once = f" Once it was ({COSTS}): {self.measured}" if self.measured else ""
        return f"Not measured in this run: {self.asks}{'.' if once else ''}{once}"

    @property
    def asks(self) -> str:
        """What would measure it."""
        if self.command:
            return f"`{self.command}`"
        modes = f"--modes {','.join(self.meshes)} " if self.meshes else ""
        needs = ", on a cluster with these meshes" if self.meshes else ""
        return f"`sharedfate run {modes}--scenarios {self.scenario}`{needs}"


@dataclass(frozen=True, slots=True)
class Figure:
    """What one mode measured for a claim."""

    mode: str
    text: str
    verdict: str
    anchor: str


@dataclass(frozen=True, slots=True)
class ClaimAnswer:
    """A claim with what was measured here, and in a few words how sure we are."""

    claim: Claim
    said: str
    figures: tuple[Figure, ...]


_SIDECARS, _SHARING, _BOTH = "for sidecars", "for sharing", "of both sides"

CLAIMS: Final[tuple[Claim, ...]] = (
    Claim(
        "A shared proxy is a single point of failure: its death takes down everyone behind it, a sidecar's only its "
        "pod.",
        "proxy-killed",
        _SIDECARS,
        ("requests lost",),
    ),
    Claim("Behind a shared proxy, one noisy tenant slows its neighbours.", "noisy-neighbour", _SIDECARS),
    Claim("A shared proxy that hangs is worse than one that dies: nothing restarts it.", "proxy-paused", _SIDECARS),
    Claim(
        "A shared proxy that keeps crashing takes its whole scope with it for as long as the back-off lasts.",
        "proxy-crash-loop",
        _SIDECARS,
    ),
    Claim("One tenant can exhaust the memory of a shared proxy for all.", "proxy-out-of-memory", _SIDECARS),
    Claim("A shared proxy is hard to size: too little CPU slows all who share it.", "proxy-throttled", _SIDECARS),
    Claim(
        "A shared budget gives out for all at once; sidecars give out one by one, and waste what idles.",
        "saturation",
        _BOTH,
    ),
    Claim("A shared proxy holds the keys of many identities, a sidecar those of one.", "identities-exposed", _SIDECARS),
    Claim(
        "Whoever takes over a shared proxy calls as everybody behind it; a sidecar's keys open what its own pod calls.",
        "identities-exposed",
        _SIDECARS,
        ("servers that a proxy's keys open are those that the model says",),
    ),
    Claim(
        "Upgrading a sidecar restarts the application; upgrading a shared proxy does not.", "proxy-upgraded", _SHARING
    ),
    Claim("A new configuration of the proxies restarts no application.", "proxy-reconfigured", _BOTH),
    Claim("Renewing every certificate restarts no application.", "certificates-rotated", _BOTH),
    Claim("Another root of all certificates restarts no application.", "root-rotated", _BOTH),
    Claim("A new version of a waypoint restarts no application.", "waypoint-upgraded", _SHARING),
    Claim(
        "A waypoint is put before a running application, moved and taken away without a restart.",
        "waypoint-added",
        _SHARING,
    ),
    Claim(
        "A running application joins a mesh without sidecars, and leaves it, without a restart.",
        "enrolment-on",
        _SHARING,
    ),
    Claim("A new version of the control plane costs running traffic nothing.", "control-plane-upgraded", _BOTH),
    Claim("A sidecar keeps a Job from ever completing (native sidecars do not).", "job-completes", _SHARING),
    Claim(
        "An application's last calls are lost when its sidecar ends first (a native sidecar ends after it).",
        "client-shut-down",
        _SHARING,
    ),
    Claim(
        "Behind one shared proxy all pods of a Job fail at once, which uses up its retries; a sidecar fails one.",
        "job-policies",
        _SIDECARS,
    ),
    Claim(
        "A sidecar that keeps a Job from ending makes a CronJob miss its next run; a proxy's death does not.",
        "cron-job",
        _SHARING,
    ),
    Claim(
        "A proxy that dies while its pod ends is not restarted; a shared one comes back in time.",
        "client-shut-down-proxy-killed",
        _SHARING,
    ),
    Claim(
        "A server that waits before it ends loses no request, but where its sidecar does not wait with it.",
        "server-shut-down",
        _SHARING,
    ),
    Claim("A Job's first requests fail while its proxy starts.", "job-starts-before-proxy", _SHARING),
    Claim("A Job survives the death of its proxy.", "job-proxy-killed", _BOTH),
    Claim("Sidecars cost CPU and memory for each pod; shared proxies cost less.", "footprint", _SHARING),
    Claim("The mesh loses requests when an application is rolled out.", "app-rolled-out", _BOTH),
    Claim("A proxy that is cut off from the network hurts just those behind it.", "proxy-partitioned", _BOTH),
    Claim(
        "Without its control plane a mesh goes on serving, and new pods are not left without protection.",
        "control-plane-down",
        _BOTH,
    ),
    Claim(
        "Behind a shared proxy, a tenant's connections, handshakes or bodies slow its neighbours as its requests do.",
        "noisy-handshakes",
        _SIDECARS,
    ),
    Claim(
        "Behind a shared proxy, a tenant that reads slowly holds its neighbours up.", "noisy-slow-readers", _SIDECARS
    ),
    Claim(
        "Where only a proxy of connections is shared, a tenant fills it by connections, or bytes, and slows its "
        "neighbours.",
        "noisy-connections",
        _SIDECARS,
        ("rate that fills the proxy",),
    ),
    Claim(
        "In a tunnel that several share, one that reads slowly holds up the small requests of the others.",
        "noisy-tunnel",
        _SIDECARS,
    ),
    Claim("The death of a waypoint takes down all whom it serves, and nobody else.", "waypoint-killed", _SIDECARS),
    Claim(
        "A proxy for connections alone, one a node, costs a fraction of sidecars that read requests.",
        "footprint",
        _SHARING,
        meshes=("istio-ambient", "istio-sidecar"),
    ),
    Claim(
        "A proxy made for the mesh alone is so small that one for each pod costs little.",
        "footprint",
        _SIDECARS,
        meshes=("linkerd", "istio-sidecar"),
    ),
    Claim(
        "Without any proxy for connections, by the kernel's programs, a mesh costs least.",
        "footprint",
        _SHARING,
        meshes=("cilium", "istio-ambient"),
    ),
    Claim(
        "Upgrading the real node proxy cuts the long connections of its whole node; a sidecar's restarts its pod.",
        "proxy-upgraded",
        _SIDECARS,
        meshes=("istio-ambient", "istio-sidecar", "linkerd"),
    ),
    Claim(
        "The last calls of an application are answered where its mesh waits for it.",
        "client-shut-down",
        _BOTH,
        meshes=("linkerd", "linkerd-classic", "istio-sidecar", "istio-sidecar-classic", "istio-ambient"),
    ),
    Claim(
        "What a compromised proxy of a real mesh holds are the identities that its place needs.",
        "identities-exposed",
        _SIDECARS,
        meshes=("istio-ambient", "istio-sidecar", "linkerd"),
    ),
    Claim(
        "Sharing saves memory and CPU from so many tenants on, and from so many requests on it does not.",
        "",
        _BOTH,
        command="python -m benchmarks.cost growth",
        measured="`node` and `ambient-namespace` took less memory than `sidecar` from 2 tenants of 3 pods on, at 10 "
        "tenants by 504 and 366 MiB, and less CPU at every rate.",
    ),
    Claim(
        "A shared proxy is sized for all tenants and one burst, sidecars for every tenant's burst.",
        "",
        _SHARING,
        command="python -m benchmarks.cost growth",
        measured="of 10 tenants one bursts from 100 requests/s to 5 times as many: `sidecar` needs 6.67 cores, "
        "`ambient-namespace` 4.24, `node` 1.15.",
    ),
    Claim(
        "What runs in a proxy matters more than where it stands.",
        "",
        _BOTH,
        command="python -m benchmarks.cost configurations",
        measured="it did not show: light, usual and heavy took 653, 567 and 515 core-µs a request in `sidecar`, 235, "
        "278 and 239 in `node`.",
    ),
    Claim("Every mode does the same: mutual TLS, retries, timeouts, balancing, policy, metrics.", "features", _BOTH),
)


def answers(trials: Sequence[TrialResult], sharings: Sequence[Sharing | None]) -> list[ClaimAnswer]:
    """Return every claim, answered or marked as not measured."""
    placed = dict(zip((trial.directory for trial in trials), sharings, strict=True))
    found = []
    for claim in CLAIMS:
        figures = tuple(
            figure_of(claim, trial, placed[trial.directory])
            for trial in trials
            if trial.scenario == claim.scenario and (not claim.meshes or trial.mode in claim.meshes)
        )
        said = summarise(figures) if figures else claim.unmeasured
        found.append(ClaimAnswer(claim, said, figures))
    return found


def summarise(figures: Sequence[Figure]) -> str:
    """Say in how many modes a claim was found to hold. Pure."""
    count = {
        verdict: sum(figure.verdict == verdict for figure in figures) for verdict in ("pass", "fail", "inconclusive")
    }
    of = f"of {len(figures)} mode{'s' if len(figures) != 1 else ''}"
    parts = [f"as the sharing model says in {count['pass']} {of}"]
    if count["fail"]:
        parts.append(f"not so in {count['fail']}")
    if count["inconclusive"]:
        parts.append(f"cannot tell in {count['inconclusive']}")
    return "Measured: " + ", ".join(parts)


def figure_of(claim: Claim, trial: TrialResult, sharing: Sharing | None) -> Figure:
    """Describe who was hurt and by how much, what became of the others, and the scenario's own measures."""
    parts = []
    judged = effects(trial)
    short = short_flows(flows_of(trial))
    if judged:
        flows = list(dict.fromkeys(effect.flow for effect in judged))
        hurt = trial.observed["hurt"]
        text = f"{len(hurt)} of {len(flows)} flows hurt"
        if unsure := trial.observed["inconclusive"]:
            text += f", of {len(unsure)} it cannot be told"
        worst = [max((e for e in judged if e.flow == flow), key=lambda e: e.low) for flow in hurt if flow in flows]
        if worst:
            text += " (" + "; ".join(f"{short.get(e.flow, e.flow)} {e}" for e in worst) + ")"
        parts.append(text)
        if (beside := bystander(trial)) is not None:
            parts.append(f"others: {beside.most}")
        if seen := unpredicted_text(trial, short):
            parts.append(seen)
    if sharing is not None and (behind := _behind_target(trial, sharing)):
        parts.append(behind)
    names = [name for name in claim.measures if name in trial.measures]
    names += [name for name in sorted(trial.measures) if name not in names and not name.startswith("worst bystander")]
    parts += [measure_line(name, trial.measures[name]) for name in names[:6]]
    if not judged and not names:
        parts.append(trial.reason)
    how_sure = "" if trial.verdict == "pass" else VERDICTS[trial.verdict]
    return Figure(trial.mode, "; ".join([*parts, *([how_sure] if how_sure else [])]), trial.verdict, trial.anchor)


def _behind_target(trial: TrialResult, sharing: Sharing) -> str:
    proxy = target_of(sharing, trial.target)
    if proxy is None:
        return ""
    pods = [pod for pod in sharing.pods if proxy.serves(pod)]
    if not pods:
        return "the target served nobody"
    tenants = {pod.namespace for pod in pods}
    return f"the target served {number(len(pods))} pod{'s' if len(pods) != 1 else ''} of {len(tenants)} tenant" + (
        "s" if len(tenants) != 1 else ""
    )
