"""Probes: measure the running experiment. Each returns a reading (chaos.toolkit.readings) for a tolerance.

They change nothing; `watch` and `await_job` take time. The annotations are real ones, not postponed: `chaos discover`
shows postponed ones as "object". Parameters are positional: it drops keyword-only ones.
"""

from chaos.engine.restarts import compare_restarts, container_snapshot
from chaos.errors import ExperimentFailure, Misuse, NoTargets
from chaos.model.flow import Flow
from chaos.toolkit import jobs, readings
from chaos.toolkit.readings import NOBODY, Names, Reading
from chaos.toolkit.session import current
from chaos.verdict import Verdict

__all__ = [
    "added_servers",
    "await_job",
    "blast_radius",
    "claim",
    "error_share",
    "footprint",
    "hurt_tenants",
    "identities",
    "job_completion",
    "latency_shift",
    "measure",
    "model_verdict",
    "requests_lost",
    "restarts",
    "watch",
    "wrongly_hurt",
]

QUANTILES = (0.5, 0.9, 0.99)


def hurt_tenants(besides: Names = NOBODY) -> Reading:
    """Tenants that the fault hurts, and those that are undecided so far (`open`).

    Before anything is broken: tenants with errors of their own.

    Args:
        besides: tenants that are left out, such as the fault's own.
    """
    session = current()
    left_out = [session.tenant(name).namespace for name in besides]
    judgement = session.judgement()
    if judgement is None:
        return readings.unsteady_tenants(session.trial.view(), left_out, session.trial.thresholds)
    if not judgement.flows:  # the judge has no look yet: of nobody can it be told
        return readings.names(
            (), (t.namespace for t in session.trial.deployment.tenants if t.namespace not in left_out), judgement.reason
        )
    return readings.hurt_tenants(judgement, left_out)


def wrongly_hurt() -> Reading:
    """Flows that are hurt though none of their traffic passes what was broken."""
    return readings.names(current().wrongly_hurt(), (), "bystanders outside the predicted set")


def error_share(tenant: str = "tenant-a") -> Reading:
    """Share of a tenant's requests that failed during the fault (before it: recently), with a 95 % interval."""
    session = current()
    owner = session.tenant(tenant)
    return readings.error_share(
        session.trial.view(), Flow(owner.client, owner.server), bool(session.driver.first_effect)
    )


def latency_shift(tenant: str = "tenant-a", quantile: float = 0.99) -> Reading:
    """How much later a quantile (0.5, 0.9 or 0.99) of a tenant's answers is than in the baseline, in seconds."""
    if quantile not in QUANTILES:
        raise Misuse(f"quantile is {quantile}: it is one of {', '.join(map(str, QUANTILES))}")
    session = current()
    owner, judgement = session.tenant(tenant), session.judgement_with_shifts()
    mine = [f for f in (judgement.flows if judgement else ()) if f.flow == Flow(owner.client, owner.server)]
    return readings.latency_shift(mine[0] if mine else None, quantile)


def blast_radius() -> Reading:
    """Share of the flows that are hurt; its interval includes the undecided ones. Zero before a fault."""
    judgement = current().judgement()
    return (
        readings.number(0.0, 0.0, 0.0, "share", "nothing was broken yet")
        if judgement is None
        else readings.blast_radius(judgement)
    )


def requests_lost(tenant: str = "tenant-a") -> Reading:
    """Requests that the fault cost a tenant until recovery, beyond what its baseline would have lost."""
    session = current()
    owner, judgement = session.tenant(tenant), session.judgement()
    for flow in judgement.flows if judgement else ():
        if flow.flow == Flow(owner.client, owner.server) and flow.requests_lost is not None:
            lost = flow.requests_lost
            return readings.number(lost.value, lost.low, lost.high, lost.unit)
    return readings.number(None, None, None, "requests", "nothing was broken yet, or the fault still acts")


def restarts(of: str = "applications") -> Reading:
    """Containers that restarted or went since the experiment began.

    Args:
        of: `applications` (in their pods, but for the proxies there), `proxies`, or `all`: those of the mesh's own pods
            too.
    """
    if of not in ("applications", "proxies", "all"):
        raise Misuse(f"of is {of!r}: it is applications, proxies or all")
    session = current()
    placement = session.trial.placement
    proxies = {(p.uid, p.container) for p in placement.proxies}
    applications = {pod.uid for pod in placement.pods}
    after = container_snapshot(session.trial.cluster, session.trial.deployment.namespaces)

    def wanted(uid: str, container: str) -> bool:
        is_proxy = (uid, container) in proxies
        return of == "all" or (is_proxy if of == "proxies" else uid in applications and not is_proxy)

    chosen = {key: state for key, state in session.before.items() if wanted(*key)}
    return readings.names(compare_restarts(chosen, after))


def job_completion(name: str = "job", tenant: str = "tenant-a", patience: float = 10.0) -> Reading:
    """Outcome of a Job: `complete` (pass), `failed` or `held by its proxy` (fail), else still open.

    Args:
        patience: seconds after its own container ended for which a pod may live on before its proxy is said to hold it.
    """
    session = current()
    return jobs.completion(session.trial.cluster, session.tenant(tenant).namespace, name, patience)


def await_job(name: str = "job", tenant: str = "tenant-a", seconds: float = 90.0, patience: float = 10.0) -> Reading:
    """Wait, up to the given seconds, until a Job's outcome is known; return the reading of `job_completion`."""
    session = current()
    namespace = session.tenant(tenant).namespace
    if session.trial.cluster.find("Job", name, namespace) is None:
        raise NoTargets(f"there is no job {namespace}/{name}: start it before it is awaited")

    def known() -> Reading:
        found = jobs.completion(session.trial.cluster, namespace, name, patience)
        return found if found["verdict"] != Verdict.INCONCLUSIVE else {}

    fate: Reading = session.trial.cluster.wait(
        f"job {namespace}/{name}: complete, failed or held", known, seconds=seconds, every=0.5
    )
    return fate


def footprint(resource: str = "cpu", of: str = "proxies") -> Reading:
    """CPU (cores) or memory (bytes) in use now, summed over the proxies or the applications.

    Args:
        resource: `cpu` or `memory`.
        of: `proxies` or `applications`.
    """
    if resource not in ("cpu", "memory") or of not in ("proxies", "applications"):
        raise Misuse(f"resource is {resource!r} and of is {of!r}: want cpu or memory, of proxies or applications")
    session = current()
    placement = session.trial.deployment.placement()
    proxies = {(p.namespace, p.pod, p.container) for p in placement.proxies if p.layers}
    pods = {(p.namespace, p.name) for p in placement.pods}
    total, seen = 0.0, 0
    for facts in session.trial.deployment.read_usage():
        pod = (facts["namespace"], facts["pod"])
        for container, usage in facts["containers"].items():
            key = (*pod, container)
            if key in proxies if of == "proxies" else pod in pods and key not in proxies:
                total += usage["cores" if resource == "cpu" else "bytes"]
                seen += 1
    wanted = len(proxies) if of == "proxies" else len(pods)
    if seen < wanted:
        raise ExperimentFailure(
            f"there are readings of {seen} containers of {of}, and {wanted} of them: try again in a few seconds"
        )
    return readings.number(total, total, total, "cores" if resource == "cpu" else "bytes", f"{seen} containers of {of}")


def identities(tenant: str = "tenant-a", layer: str = "any", side: str = "client") -> Reading:
    """Whose private keys one proxy of a tenant's path holds in memory: `namespace/service-account`, each. Read once.

    It needs a helper pod that sees the proxy's process. Its verdict is *fail* as soon as there is one: weigh it with
    `only`.
    """
    session = current()
    return readings.names(
        session.identities_of(session.proxy_of(tenant, layer, side)), (), "private keys in the proxy's memory"
    )


def added_servers() -> Reading:
    """Added servers that are ready, or have answered a request. Open: those without an address yet."""
    seen = current().added_servers()
    serving = [
        f"{tenant}/{pod.name}" for tenant, pod in seen.items() if pod is not None and (pod.ready or pod.requests)
    ]
    return readings.names(
        serving, [tenant for tenant, pod in seen.items() if pod is None], "servers that were added and take part"
    )


def claim(name: str = "") -> Reading:
    """Outcome of a played scenario: the claim of that name, or the worst of all; its value where it has one."""
    shown = [check for check in current().trial.checks if name in ("", check.name)]
    if not shown:
        known = ", ".join(check.name for check in current().trial.checks) or "none yet"
        return readings.opinion(None, Verdict.INCONCLUSIVE, f"no claim {name!r} was shown: {known}")
    worst = next(
        check
        for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS)
        for check in shown
        if check.verdict is verdict
    )
    return {**readings.opinion(worst.value, worst.verdict, str(worst)), "unit": worst.unit}


def measure(name: str) -> Reading:
    """A measure of the judge by its name in the reports, such as `time to recover` or `worst bystander errors`."""
    judgement = current().judgement()
    found = judgement.measures.get(name) if judgement else None
    if found is None:
        known = ", ".join(judgement.measures) if judgement else "none before a fault"
        return readings.number(None, None, None, "", f"no measure {name!r} yet: there are {known}")
    return readings.number(found.value, found.low, found.high, found.unit)


def model_verdict() -> Reading:
    """Whether exactly those are hurt whom the sharing model names: pass, fail or inconclusive, with the judge's
    sentence.
    """
    judgement = current().judgement()
    if judgement is None:
        return readings.opinion(None, Verdict.INCONCLUSIVE, "nothing was broken yet")
    return readings.opinion(str(judgement.verdict), judgement.verdict, judgement.reason)


def watch(seconds: float = 30.0) -> Reading:
    """Keep the load running until the judge has decided about every flow, up to the given seconds; then return
    `model_verdict`.
    """
    session = current()
    left = seconds
    while left > 0:
        judgement = session.judgement()
        if judgement is not None and judgement.done:
            break
        session.trial.hold(min(0.5, left))
        left -= 0.5
    return model_verdict()
