"""Actions on whole workloads: roll-outs, servers that are added, trouble of the control plane. Each held one has its
undo.

A roll-out may be gentle: whoever's traffic passes the workload is reported and not judged; the others must not be hurt.
Annotations and parameters are as chaos.toolkit.actions says.
"""

from chaos.faults.api_trouble import ApiTrouble
from chaos.faults.certificates import ExpireCertificates
from chaos.faults.control_plane import ControlPlane
from chaos.faults.recreate import Recreate
from chaos.faults.restart import Restart
from chaos.faults.scale import Scale
from chaos.faults.upgrade import Upgrade
from chaos.names import CONTROL_PLANE, SYSTEM_NAMESPACE
from chaos.toolkit.driver import describe
from chaos.toolkit.readings import NO_READING, NOBODY, Names, Reading
from chaos.toolkit.session import current, recover

__all__ = [
    "add_server",
    "disturb_api",
    "disturb_control_plane",
    "expire_certificates",
    "recreate_workload",
    "remove_servers",
    "renew_certificates",
    "restart_workload",
    "roll_back_workload",
    "scale_back_workload",
    "scale_workload",
    "soothe_api",
    "soothe_control_plane",
    "upgrade_workload",
]


def restart_workload(
    workload: str = "DaemonSet/node-proxy",
    namespace: str = SYSTEM_NAMESPACE,
    ready_seconds: float = 180.0,
    deadline: float = 240.0,
) -> Reading:
    """Restart a workload pod by pod, as `kubectl rollout restart` does, and see all of it ready.

    Args:
        workload: `Deployment/NAME`, `DaemonSet/NAME` or `StatefulSet/NAME`.
        ready_seconds: longest wait for that.
    """
    return describe(
        current().driver.break_workload(Restart(ready_seconds=ready_seconds), workload, namespace, deadline=deadline)
    )


def recreate_workload(
    workload: str = "DaemonSet/node-proxy",
    namespace: str = SYSTEM_NAMESPACE,
    gone_seconds: float = 90.0,
    ready_seconds: float = 180.0,
    deadline: float = 300.0,
) -> Reading:
    """Delete a workload, see it gone, and see the same one rolled out again.

    Args:
        gone_seconds: longest wait for it to go.
        ready_seconds: longest wait for it to be ready again.
    """
    fault = Recreate(gone_seconds=gone_seconds, ready_seconds=ready_seconds)
    return describe(current().driver.break_workload(fault, workload, namespace, deadline=deadline))


def upgrade_workload(
    workload: str = "DaemonSet/node-proxy",
    namespace: str = SYSTEM_NAMESPACE,
    container: str = "",
    image: str = "",
    env: Reading = NO_READING,
    args: Names = NOBODY,
    whole: bool = True,
    seconds: float = 180.0,
    deadline: float = 300.0,
) -> Reading:
    """Roll out a changed pod template, until `roll_back_workload`.

    Args:
        container: of the template; empty for its first.
        image, env, args: what changes; empty keeps what there is.
        whole: see the roll-out through; else its first new pod is enough.
        seconds: longest wait for it, and for the way back.
    """
    fault = Upgrade(container=container, image=image, env=dict(env), args=tuple(args), whole=whole, seconds=seconds)
    return describe(current().driver.break_workload(fault, workload, namespace, deadline=deadline))


def roll_back_workload() -> int:
    """Roll upgraded workloads back; how many."""
    return recover("upgrade")


def add_server(tenant: str = "tenant-a") -> str:
    """Ask for one server more of a tenant, and wait for nothing; until `remove_servers`, or the experiment's end."""
    session = current()
    session.add_server(tenant)
    return session.tenant(tenant).server


def remove_servers() -> int:
    """Take added servers away, and see them gone; how many."""
    return current().remove_servers()


def scale_workload(
    workload: str = "Deployment/control-plane",
    namespace: str = SYSTEM_NAMESPACE,
    replicas: int = 0,
    seconds: float = 90.0,
    deadline: float = 180.0,
) -> Reading:
    """Set a Deployment's or StatefulSet's replicas, until `scale_back_workload`.

    Args:
        replicas: how many are left.
        seconds: longest wait, each way.
    """
    return describe(
        current().driver.break_workload(
            Scale(replicas=replicas, seconds=seconds), workload, namespace, deadline=deadline
        )
    )


def scale_back_workload() -> int:
    """Give scaled workloads their replicas back; how many."""
    return recover("scale")


def disturb_control_plane(
    answer: str = "errors", delay: float = 5.0, seconds: float = 60.0, deadline: float = 120.0
) -> Reading:
    """Have our control plane refuse every stream (`errors`) or push late (`slow`), until `soothe_control_plane`.

    Args:
        delay: seconds, for `slow`.
        seconds: longest wait for it to say so, and for the proxies to be back afterwards.
    """
    fault = ControlPlane(answer=answer, delay=delay, seconds=seconds)  # type: ignore[arg-type]  # checked by the fault
    return describe(
        current().driver.break_workload(fault, f"Deployment/{CONTROL_PLANE}", SYSTEM_NAMESPACE, deadline=deadline)
    )


def soothe_control_plane() -> int:
    """Let the control plane answer as it should; how many."""
    return recover("control-plane")


def expire_certificates(life: float = 2.0, seconds: float = 30.0, deadline: float = 120.0) -> Reading:
    """Let every certificate that our control plane handed out expire, until `renew_certificates`.

    Args:
        life: seconds of the short-lived certificates.
        seconds: longest wait, each way.
    """
    fault = ExpireCertificates(life=life, seconds=seconds)
    return describe(
        current().driver.break_workload(fault, f"Deployment/{CONTROL_PLANE}", SYSTEM_NAMESPACE, deadline=deadline)
    )


def renew_certificates() -> int:
    """Have certificates issued anew; how many times they had expired."""
    return recover("expire-certificates")


def disturb_api(
    workload: str = "Deployment/control-plane",
    namespace: str = SYSTEM_NAMESPACE,
    share: float = 1.0,
    code: int = 0,
    delay: float = 0.0,
    silent: bool = False,
    deadline: float = 60.0,
) -> Reading:
    """Give a workload's account trouble with the Kubernetes API (the embedded cluster's alone), until `soothe_api`.

    Args:
        share: of its requests.
        code: HTTP status that they get; 0: the right answer.
        delay: seconds before the answer.
        silent: no answer at all, and open watches are cut.
    """
    fault = ApiTrouble(share=share, code=code, delay=delay, silent=silent)
    return describe(current().driver.break_workload(fault, workload, namespace, deadline=deadline))


def soothe_api() -> int:
    """Let the Kubernetes API answer as it should; how many troubles ended."""
    return recover("api-trouble")
