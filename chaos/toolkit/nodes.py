"""Actions on nodes. Each has the action that undoes it.

Whoever has a pod on the node, or a proxy on his path there, is reported and not judged; the others must not be hurt.
`node`: by its name, or `first` and `second` for those of the reference tenants: tenant-a lives on the first, tenant-c
on the second, tenant-b on both. Annotations and parameters are as chaos.toolkit.actions says.
"""

from chaos.faults.cut_node import CutNode
from chaos.faults.drain import Drain
from chaos.faults.hog import Hog
from chaos.faults.stop_kubelet import StopKubelet
from chaos.faults.stop_node import StopNode
from chaos.toolkit.driver import describe
from chaos.toolkit.readings import Reading
from chaos.toolkit.session import current, recover

__all__ = [
    "cut_node",
    "drain_node",
    "hog_node",
    "reconnect_node",
    "release_node",
    "start_kubelet",
    "start_node",
    "stop_kubelet",
    "stop_node",
    "uncordon_node",
]


def drain_node(node: str = "first", everyone: bool = False, seconds: float = 120.0, deadline: float = 240.0) -> Reading:
    """Cordon a node and evict its pods, as `kubectl drain` does, until `uncordon_node`.

    Args:
        everyone: pods of others too, which carry no label of a run.
        seconds: longest wait for them to go, and for new ones to be ready.
    """
    return describe(current().driver.break_node(Drain(everyone=everyone, seconds=seconds), node, deadline=deadline))


def uncordon_node() -> int:
    """Let drained nodes take pods again; how many."""
    return recover("drain")


def stop_node(
    node: str = "first", noticed: bool = False, ready_seconds: float = 90.0, deadline: float = 180.0
) -> Reading:
    """Pull a node's plug, until `start_node`.

    Args:
        noticed: wait until the cluster says NotReady, about 40 s.
        ready_seconds: longest wait for it to be Ready again.
    """
    return describe(
        current().driver.break_node(StopNode(noticed=noticed, ready_seconds=ready_seconds), node, deadline=deadline)
    )


def start_node() -> int:
    """Start stopped nodes; how many."""
    return recover("stop-node")


def cut_node(
    node: str = "first", noticed: bool = False, ready_seconds: float = 90.0, deadline: float = 180.0
) -> Reading:
    """Take a node off the network, until `reconnect_node`; arguments as `stop_node`."""
    return describe(
        current().driver.break_node(CutNode(noticed=noticed, ready_seconds=ready_seconds), node, deadline=deadline)
    )


def reconnect_node() -> int:
    """Put nodes back on the network; how many."""
    return recover("cut-node")


def stop_kubelet(
    node: str = "first", noticed: bool = False, ready_seconds: float = 90.0, deadline: float = 180.0
) -> Reading:
    """Stop a node's kubelet, until `start_kubelet`; arguments as `stop_node`."""
    return describe(
        current().driver.break_node(StopKubelet(noticed=noticed, ready_seconds=ready_seconds), node, deadline=deadline)
    )


def start_kubelet() -> int:
    """Start stopped kubelets; how many."""
    return recover("stop-kubelet")


def hog_node(node: str = "first", cores: int = 1, memory_mib: int = 0, deadline: float = 60.0) -> Reading:
    """Eat CPU and memory on a node beside its pods, until `release_node`.

    Args:
        cores: CPU that is asked for; the kernel divides what there is.
        memory_mib: memory that is held.
    """
    return describe(current().driver.break_node(Hog(cores=cores, memory_mib=memory_mib), node, deadline=deadline))


def release_node() -> int:
    """End hogs; how many."""
    return recover("hog")
