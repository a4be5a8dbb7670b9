"""Actions on whole workloads: roll-outs, added servers, control-plane failures. Each held one has its undo.

A roll-out may be gentle: whoever's traffic passes the workload is reported and not judged; the others must not be hurt.
Those that inject a fault are made from the fault, as chaos.toolkit.actions says.
"""

from typing import TYPE_CHECKING, Any

from chaos.faults.activity import ActsAt
from chaos.toolkit.of_faults import actions_at
from chaos.toolkit.session import current

_BY_HAND = ["add_server", "remove_servers"]
_OF_FAULTS = actions_at(ActsAt.WORKLOAD, ActsAt.PLANE, besides=_BY_HAND)
__all__ = [*_BY_HAND, *_OF_FAULTS]
globals().update(_OF_FAULTS)

if TYPE_CHECKING:  # those of faults

    def __getattr__(name: str) -> Any: ...


def add_server(tenant: str = "tenant-a") -> str:
    """Request one more server of a tenant without waiting; it stays until `remove_servers`, or the experiment's end."""
    session = current()
    session.add_server(tenant)
    return session.tenant(tenant).server


def remove_servers() -> int:
    """Remove added servers, and see them gone; return how many."""
    return current().remove_servers()
