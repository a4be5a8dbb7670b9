"""Actions on nodes. Each has an action that undoes it; all are made from faults, as `chaos.toolkit.actions` says.

Whoever has a pod on the node, or a proxy on his path there, is reported and not judged; the others must not be hurt.
`node`: by its name, or `first` and `second` for those of the reference tenants: tenant-a lives on the first, tenant-c
on the second, tenant-b on both.
"""

from typing import TYPE_CHECKING, Any

from chaos.faults.activity import ActsAt
from chaos.toolkit.of_faults import actions_at

_OF_FAULTS = actions_at(ActsAt.NODE)
__all__ = [*_OF_FAULTS]
globals().update(_OF_FAULTS)

if TYPE_CHECKING:  # those of faults

    def __getattr__(name: str) -> Any: ...
