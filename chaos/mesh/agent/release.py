"""Un-captures pods of this node when it has no agent: `python -m chaos.mesh.agent.release UID…`, with hostPID.

An agent that was merely deleted leaves rules that refuse its pods' traffic. Says one JSON line a pod; exits 0 when
every pod that still has a process here is free of our rules.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from chaos.errors import EnvironmentUnfit
from chaos.mesh import capture
from chaos.mesh.agent.sandboxes import find_sandboxes


def release(uids: Sequence[str], proc: Path = Path("/proc")) -> dict[str, str]:
    """Map each pod's UID to the result: released | gone | the reason why not."""
    found = find_sandboxes(proc)
    done = {}
    for uid in uids:
        sandbox = found.get(uid)
        if sandbox is None:
            done[uid] = "gone"  # its last process ended, and its namespace with it
            continue
        place = proc / str(sandbox.pid)
        try:
            capture.apply_rules(
                capture.plan_release(ipv6=capture.has_ipv6(place / "net")), netns=str(place / "ns" / "net")
            )
            done[uid] = "released"
        except EnvironmentUnfit as error:
            done[uid] = str(error)
    return done


def main() -> int:
    done = release(sys.argv[1:])
    for uid, what in done.items():
        print(json.dumps({"uid": uid, "is": what}), flush=True)
    return 0 if set(done.values()) <= {"released", "gone"} else 1


if __name__ == "__main__":
    sys.exit(main())
