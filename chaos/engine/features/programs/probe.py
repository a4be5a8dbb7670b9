"""Runs on a node: sends one request to a pod from the node's own network, as its kubelet does.

`probe IP PORT`, in a privileged pod with hostPID. Prints `{"status", "error"}`.
"""

from __future__ import annotations

import json
import sys

from chaos.engine.features.programs.caller import CallSpec, run
from chaos.inpod.sniffer import enter


def main() -> None:
    enter("/proc/1/ns/net")
    (reply,) = run(CallSpec(host=sys.argv[1], port=int(sys.argv[2]), path="/healthz"))
    print(json.dumps({"status": reply.status, "error": reply.error}))


if __name__ == "__main__":
    main()
