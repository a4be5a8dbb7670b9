"""Lifecycle hooks: postStart and preStop, by exec, httpGet, tcpSocket (a no-op, as in Kubernetes) or sleep."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Any

from chaos.embedded.kubelet.probes import ProbeFailed, ProbeTarget, http_get


async def run_hook(hook: Mapping[str, Any], target: ProbeTarget) -> None:
    """Run one hook to its end. Raises ProbeFailed with the reason; a time limit is the caller's."""
    if "exec" in hook:
        code, output = await target.run(list(hook["exec"]["command"]), math.inf)
        if code:
            raise ProbeFailed(f"command '{' '.join(hook['exec']['command'])}' exited with {code}: {output}")
    elif "httpGet" in hook:
        await http_get(hook["httpGet"], target, 30)
    elif "sleep" in hook:
        await asyncio.sleep(float(hook["sleep"]["seconds"]))
