"""The node agent: finds the meshed pods of its node, gives their network namespaces to the node's Envoy, and captures
them.

`sandboxes` reads /proc; `work` is the agent, one pod's step after another; `__main__` runs it beside Envoy in the
DaemonSet's pod (hostPID). Nothing of a pod is kept in memory that /proc, the links, the rules and the API do not tell,
so a restarted agent finds everything as it is, and an agent that is away harms no traffic.
"""

from __future__ import annotations
