"""Actions: a fault each, with the action that undoes it. A fault that acts on is undone by its deadline at the latest.

`tenant`, `layer` and `side` choose a proxy, as `kill_proxy` says. Whom its fault must hurt is not stated here: that is
derived from the mode and the live placement when the fault is injected. Nothing selected, or nothing seen to change,
raises. Undoing what is not in force is no error, so that rollbacks may always name it.

The annotations are real ones, not postponed (`chaos discover` shows those as "object"), and the parameters positional
(it drops keyword-only ones).
"""

from chaos.errors import Misuse
from chaos.faults.crash_loop import CrashLoop
from chaos.faults.delete_pod import DeletePod
from chaos.faults.kill import Kill
from chaos.faults.model import Fault, Receipt
from chaos.faults.network.degrade import Degrade
from chaos.faults.network.dns import Dns
from chaos.faults.network.drop import Drop
from chaos.faults.network.partition import Partition
from chaos.faults.network.reset import Reset
from chaos.faults.out_of_memory import OutOfMemory
from chaos.faults.overload import Overload
from chaos.faults.pause import Pause
from chaos.faults.throttle import Throttle
from chaos.mesh import manifests
from chaos.toolkit.driver import GRACE, describe
from chaos.toolkit.readings import NOBODY, Names, Reading
from chaos.toolkit.session import current, recover
from chaos.verdict import Harm

__all__ = [
    "break_connections",
    "crash_loop_proxy",
    "degrade_proxy",
    "delete_proxy_pod",
    "drop_packets",
    "fill_proxy_memory",
    "hold",
    "keep_connections",
    "kill_proxy",
    "mend_dns",
    "mend_proxy_link",
    "overload_path",
    "partition_proxy",
    "pass_packets",
    "pause_proxy",
    "play_scenario",
    "recover_all",
    "restore_proxy_cpu",
    "resume_proxy",
    "reunite_proxy",
    "spoil_dns",
    "start_job",
    "stop_crash_loop",
    "stop_overload",
    "throttle_proxy",
]


def kill_proxy(
    tenant: str = "tenant-a",
    layer: str = "any",
    side: str = "client",
    signal: int = 9,
    restart_seconds: float = 90.0,
    deadline: float = 120.0,
) -> Reading:
    """Kill one proxy of a tenant's path, and see its successor serve.

    Args:
        tenant: whose path.
        layer: `l4`, `l7`, or `any`.
        side: `client` for the first of them on the path, `server` for the last.
        signal: number; 9 (SIGKILL) or 15 (SIGTERM).
        restart_seconds: longest wait for the successor.
        deadline: seconds after which others may undo the fault.
    """
    fault = Kill(signal=signal, restart_seconds=restart_seconds)
    return describe(break_proxy(fault, tenant, layer, side, deadline=deadline, harm=Harm.ERRORS))


def delete_proxy_pod(
    tenant: str = "tenant-a",
    layer: str = "any",
    side: str = "client",
    grace: int = -1,
    seconds: float = 90.0,
    deadline: float = 120.0,
) -> Reading:
    """Delete the pod that holds a proxy of a tenant's path (with a sidecar: the application with it), and see it
    replaced.

    It may be gentle: those behind it are reported and not judged, the others must not be hurt.

    Args:
        grace: seconds; -1 for the pod's own, 0 at once.
        seconds: longest wait for its going, and for its replacement.
    """
    session, fault = current(), DeletePod(grace=None if grace < 0 else grace, seconds=seconds)
    return describe(session.driver.break_exempt(fault, session.proxy_of(tenant, layer, side), deadline=deadline))


def pause_proxy(tenant: str = "tenant-a", layer: str = "any", side: str = "client", deadline: float = 60.0) -> Reading:
    """Stop one proxy of a tenant's path (SIGSTOP) until `resume_proxy`, at most `deadline` seconds."""
    return describe(break_proxy(Pause(), tenant, layer, side, deadline=deadline))


def resume_proxy() -> int:
    """Let paused proxies go on; how many."""
    return recover("pause")


def crash_loop_proxy(
    tenant: str = "tenant-a",
    layer: str = "any",
    side: str = "client",
    signal: int = 9,
    back_off_seconds: float = 30.0,
    restart_seconds: float = 330.0,
    deadline: float = 120.0,
) -> Reading:
    """Kill one proxy of a tenant's path, and every successor, until `stop_crash_loop`, at most `deadline` seconds.

    Args:
        back_off_seconds: longest wait for the kubelet to say CrashLoopBackOff.
        restart_seconds: longest wait, on recovery, for a successor that lives: the back-off must pass.
    """
    fault = CrashLoop(signal=signal, back_off_seconds=back_off_seconds, restart_seconds=restart_seconds)
    return describe(break_proxy(fault, tenant, layer, side, deadline=deadline, harm=Harm.ERRORS))


def stop_crash_loop() -> int:
    """Let killed proxies live; how many."""
    return recover("crash-loop")


def fill_proxy_memory(
    tenant: str = "tenant-a",
    layer: str = "any",
    side: str = "client",
    most_mib: int = 2048,
    restart_seconds: float = 90.0,
    deadline: float = 120.0,
) -> Reading:
    """Fill the memory limit of one proxy of a tenant's path until it is OOMKilled, and see its successor serve.

    Args:
        most_mib: refuse a proxy whose limit is higher: so much would really be taken.
        restart_seconds: longest wait for the successor.
    """
    fault = OutOfMemory(most_mib=most_mib, restart_seconds=restart_seconds)
    return describe(break_proxy(fault, tenant, layer, side, deadline=deadline, harm=Harm.ERRORS))


def throttle_proxy(
    tenant: str = "tenant-a",
    layer: str = "any",
    side: str = "client",
    millicores: int = 10,
    pairs: int = 6,
    deadline: float = 60.0,
) -> Reading:
    """Cut the CPU limit of one proxy of a tenant's path.

    Args:
        millicores: the limit.
        pairs: on and off at most so often (3 or 6), until the judge has decided; 0: on, until `restore_proxy_cpu`.
        deadline: seconds after which one throttling undoes itself.
    """
    session, fault = current(), Throttle(millicores=millicores)
    if not pairs:
        return describe(break_proxy(fault, tenant, layer, side, deadline=deadline))
    proxy = session.proxy_of(tenant, layer, side)
    done = session.driver.switch(fault, proxy, deadline=deadline, pairs=pairs)
    return {"fault": fault.name, "target": str(proxy), "pairs": done}


def restore_proxy_cpu() -> int:
    """Give throttled proxies their CPU limits back; how many."""
    return recover("throttle")


def overload_path(
    tenant: str = "tenant-a",
    profile: str = "requests",
    pairs: int = 6,
    start_rate: float = 500.0,
    max_rate: float = 4000.0,
    in_flight: int = 1024,
    saturate_seconds: float = 8.0,
    deadline: float = 20.0,
) -> Reading:
    """Let one tenant overload its own path until it gives out; its own flow is reported and not judged.

    Args:
        profile: `requests`, `handshakes`, `bodies` or `slow-readers`.
        pairs: on and off at most so often (3 or 6), until the judge has decided; 0: on, until `stop_overload`.
        start_rate, max_rate: requests a second of the ramp.
        in_flight: requests that wait for their answers at most.
        saturate_seconds: longest wait for the path to give out.
        deadline: seconds after which the aggressor ends by itself.
    """
    session = current()
    owner = session.tenant(tenant)
    fault = Overload(
        **owner.call_options(),
        profile=profile,
        seconds=deadline + GRACE,
        start_rate=start_rate,
        max_rate=max_rate,
        in_flight=in_flight,
        saturate_seconds=saturate_seconds,
    )
    if not pairs:
        return describe(session.driver.overload(owner, fault, deadline=deadline))
    done = session.driver.switch_overload(owner, fault, deadline=deadline, pairs=pairs)
    return {"fault": fault.name, "target": str(session.trial.deployment.loader_target(owner)), "pairs": done}


def stop_overload() -> int:
    """End overloads; how many."""
    return recover("overload")


def partition_proxy(
    tenant: str = "tenant-a",
    layer: str = "any",
    side: str = "client",
    spare_status: bool = True,
    deadline: float = 60.0,
) -> Reading:
    """Lose every packet of one proxy of a tenant's path until `reunite_proxy`, at most `deadline` seconds.

    Args:
        spare_status: leave its status port open, so that the kubelet's probes do not notice.
    """
    return describe(break_proxy(Partition(spare_status=spare_status), tenant, layer, side, deadline=deadline))


def reunite_proxy() -> int:
    """Let the packets of partitioned proxies pass again; how many."""
    return recover("partition")


def degrade_proxy(
    tenant: str = "tenant-a",
    layer: str = "any",
    side: str = "client",
    delay_ms: float = 0.0,
    jitter_ms: float = 0.0,
    loss: float = 0.0,
    rate_kbit: int = 0,
    seed: int = 0,
    deadline: float = 60.0,
) -> Reading:
    """Delay, slow or lose what the pod of a tenant's proxy sends until `mend_proxy_link`, at most `deadline` seconds.

    Args:
        delay_ms, jitter_ms: added to all that it sends, and how much that varies.
        loss: share of packets lost, each way, 0 to 1.
        rate_kbit: most that it sends, in kilobits a second; 0: no limit.
    """
    fault = Degrade(delay_ms=delay_ms, jitter_ms=jitter_ms, loss=loss, rate_kbit=rate_kbit, seed=seed)
    return describe(break_proxy(fault, tenant, layer, side, deadline=deadline))


def mend_proxy_link() -> int:
    """Take delay, loss and rate limits away; how many."""
    return recover("degrade")


def drop_packets(
    tenant: str = "tenant-a",
    layer: str = "any",
    side: str = "client",
    peers: Names = NOBODY,
    ports: Names = NOBODY,
    direction: str = "both",
    deadline: float = 60.0,
) -> Reading:
    """Lose packets of the pod of a tenant's proxy until `pass_packets`, at most `deadline` seconds.

    Args:
        peers: addresses or networks (IPv4) at the other end; none: all.
        ports: on either side; none: all.
        direction: `in`, `out` or `both`, seen from the pod.
    """
    fault = Drop(peers=tuple(peers), ports=_ports(ports), direction=direction)  # type: ignore[arg-type]
    return describe(break_proxy(fault, tenant, layer, side, deadline=deadline))


def pass_packets() -> int:
    """Let dropped packets pass again; how many faults ended."""
    return recover("drop")


def break_connections(
    tenant: str = "tenant-a",
    layer: str = "any",
    side: str = "client",
    peers: Names = NOBODY,
    ports: Names = NOBODY,
    deadline: float = 60.0,
) -> Reading:
    """Reset connections of the pod of a tenant's proxy until `keep_connections`; arguments as `drop_packets`."""
    fault = Reset(peers=tuple(peers), ports=_ports(ports))
    return describe(break_proxy(fault, tenant, layer, side, deadline=deadline))


def keep_connections() -> int:
    """Reset no more connections; how many faults ended."""
    return recover("reset")


def spoil_dns(
    tenant: str = "tenant-a",
    layer: str = "any",
    side: str = "client",
    answer: str = "servfail",
    names: Names = NOBODY,
    address: str = "192.0.2.1",
    deadline: float = 60.0,
) -> Reading:
    """Answer the DNS questions of the pod of a tenant's proxy wrongly until `mend_dns`.

    What it has resolved already goes on: those behind it are reported and not judged, the others must not be hurt.

    Args:
        answer: `servfail`, `nxdomain`, `silence`, or `lie`.
        names: which are meant, by their ends; none: all.
        address: what a lie answers.
    """
    session = current()
    fault = Dns(answer=answer, names=tuple(names), address=address)  # type: ignore[arg-type]
    return describe(session.driver.break_exempt(fault, session.proxy_of(tenant, layer, side), deadline=deadline))


def mend_dns() -> int:
    """Answer DNS questions as usual; how many faults ended."""
    return recover("dns")


def recover_all() -> int:
    """Undo every fault that is in force; how many. The rollback that fits every experiment."""
    return recover("")


def hold(seconds: float = 5.0) -> int:
    """Let the load go on for so long; the requests that have been gathered since the experiment began."""
    session = current()
    session.trial.hold(seconds)
    return sum(len(samples) for samples in session.trial.view().flows.values())


def start_job(
    name: str = "job", tenant: str = "tenant-a", requests: int = 20, tries: int = 20, deadline_seconds: int = 120
) -> Reading:
    """Start a batch Job of a tenant: some requests to its server, then the end. It is deleted when the experiment ends.

    Args:
        tries: of each request: the Job may begin before its proxy does.
    """
    session = current()
    owner = session.tenant(tenant)
    found = manifests.job(
        name,
        tenant=owner.name,
        nodes=session.trial.deployment.placement().nodes_of(owner.client),
        requests=requests,
        deadline_seconds=deadline_seconds,
    )
    for job in found:
        job["spec"]["template"]["spec"]["containers"][0]["env"].append({"name": "TRIES", "value": str(tries)})
    session.job_started(owner.namespace, name)
    session.trial.mesh.deploy(found)
    return {"job": f"{owner.namespace}/{name}", "requests": requests}


def play_scenario(name: str) -> str:
    """Play a shipped scenario, whole: what `sharedfate run --scenarios NAME` does, with the hypothesis checked beside
    it.
    """
    current().play(name)
    return name


def break_proxy(
    fault: Fault, tenant: str, layer: str, side: str, *, deadline: float, harm: Harm = Harm.EITHER
) -> list[Receipt]:
    """Break the chosen proxy and expect harm to just those behind it."""
    session = current()
    return session.driver.break_proxy(fault, session.proxy_of(tenant, layer, side), deadline=deadline, harm=harm)


def _ports(given: Names) -> tuple[int, ...]:
    try:
        return tuple(int(port) for port in given)
    except ValueError:
        raise Misuse(f"ports are {given!r}: want numbers") from None
