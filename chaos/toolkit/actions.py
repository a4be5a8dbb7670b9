"""Actions on proxies, and on the experiment itself. A fault that stays in force is undone by its deadline at the
latest.

Those that inject a fault are made from the fault (`chaos.toolkit.of_faults`): `kill_proxy` is the fault `kill`. Whom a
fault must hurt is not stated here: that is derived from the mode and the live placement when it is injected. Nothing
selected, or nothing seen to change, raises. Undoing what is not in force is no error, so that rollbacks may always name
it. What stands below needs more than a fault knows of itself.

The annotations are real ones, not postponed (`chaos discover` shows those as "object"), and the parameters positional
(it drops keyword-only ones).
"""

from typing import TYPE_CHECKING, Any

from chaos.faults.activity import ActsAt
from chaos.faults.overload import Overload
from chaos.mesh import manifests
from chaos.toolkit.driver import GRACE, describe
from chaos.toolkit.of_faults import actions_at
from chaos.toolkit.readings import Reading
from chaos.toolkit.session import current, recover

_BY_HAND = ["hold", "overload_path", "play_scenario", "recover_all", "start_job", "stop_overload"]
_OF_FAULTS = actions_at(ActsAt.PROXY, besides=_BY_HAND)
__all__ = [*_BY_HAND, *_OF_FAULTS]
globals().update(_OF_FAULTS)

if TYPE_CHECKING:  # those of faults

    def __getattr__(name: str) -> Any: ...


def overload_path(
    tenant: str = "tenant-a",
    profile: str = "requests",
    pairs: int = 6,
    start_rate: float = 500.0,
    max_rate: float = 0.0,
    in_flight: int = 1024,
    saturate_seconds: float = 8.0,
    deadline: float = 20.0,
) -> Reading:
    """Let one tenant overload its own path until it saturates; its own flow is reported and not judged.

    Args:
        profile: `requests`, `handshakes`, `bodies` or `slow-readers`.
        pairs: on and off at most so often (3 or 6), until the judge has decided; 0: on, until `stop_overload`.
        start_rate, max_rate: requests a second of the ramp; 0: as much as its path is known to bound.
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
    """End overloads; return how many."""
    return recover("overload")


def recover_all() -> int:
    """Undo every fault in force; return how many. The rollback that fits every experiment."""
    return recover("")


def hold(seconds: float = 5.0) -> int:
    """Keep the load running for so long; return the number of requests since the experiment began."""
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
    """Play a whole shipped scenario: what `sharedfate run --scenarios NAME` does, with the hypothesis checked beside
    it.
    """
    current().play(name)
    return name
