"""Shows exactly what a fault would do: the fault's own code runs, its reads are real, its writes are only
recorded.

What it has deleted it does not find again. It ends at the first wait for what does not come; every fault writes first
and waits then.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import urllib3

from chaos.errors import ApiError, SharedfateError
from chaos.faults import receipts
from chaos.faults.catalogue import fault_from
from chaos.faults.clashes import refuse_clashes, refuse_held
from chaos.faults.model import Fault, Receipt, Target, refuse_wrong_target, settings_of
from chaos.kube.client import Cluster
from chaos.model.faulting import FaultPhase


class _Over(Exception):
    """A wait was reached."""


class DryRunCluster(Cluster):
    """A cluster that reads and does not write. `written`: (method, path, body) of each write."""

    def __init__(self, real: Cluster) -> None:
        self.__dict__.update(real.__dict__)
        self.written: list[tuple[str, str, Any]] = []
        self._deleted: set[str] = set()

    def open(self, method: str, path: str, *, body: bytes | None = None, **options: Any) -> urllib3.BaseHTTPResponse:
        if method != "GET":
            self._note(method, path, json.loads(body) if body else None)
            raise _Over
        return super().open(method, path, body=body, **options)

    def request(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        if method == "DELETE":
            self._deleted.add(path)
        if method != "GET":
            self._note(method, path, body)
            return body if isinstance(body, dict) else {}
        if path in self._deleted:
            raise ApiError(f"{path}: would be deleted", code=404, reason="NotFound")
        return super().request(method, path, body, **options)

    def wait(self, what: str, ready: Callable[[], Any], *, seconds: float = 60.0, every: float = 0.05) -> Any:
        if result := ready():  # some write while they wait
            return result
        raise _Over

    def _note(self, method: str, path: str, body: Any) -> None:
        self.written.append((method, path, body))


def dry_run(
    cluster: Cluster, planned: Sequence[tuple[Fault, Target]], *, run: str, seconds: float, now: int
) -> list[str]:
    """Return what injecting and undoing would write, one line each; raises every refusal that the fault would. Changes
    nothing.
    """
    for fault, target in planned:
        refuse_wrong_target(fault, target)
    refuse_clashes(planned)
    refuse_held(cluster, planned)
    lines = []
    for fault, target in planned:
        facts = fault.plan(cluster, target)
        receipt = Receipt("RECEIPT", run, fault.name, settings_of(fault), target, now + int(seconds * 1e9), facts=facts)
        said = {name: value for name, value in settings_of(fault).items() if value not in ("", (), 0, {})}
        lines.append(
            f"{fault.name} on {target}" + (f" (node {target.node})" if target.node else "") + f", settings {said}, "
            f"its deadline is {seconds:g} s after it began: then others undo it too"
        )
        dry = DryRunCluster(cluster)
        injected = Receipt.from_json({**receipt.to_json(), "phase": FaultPhase.INJECTED})
        undo = fault_from(fault.name, settings_of(fault))
        lines += [f"  store    {line}" for line in _written(dry, partial(receipts.store, receipt=receipt))]
        lines += [f"  inject   {line}" for line in _written(dry, partial(fault.inject, receipt=receipt))]
        lines += [
            f"  recover  {line}"
            for line in _written(dry, partial(undo.recover, receipt=injected))
            or ["nothing: it is waited for, and seen to be over"]
        ]
        lines += [f"  close    {line}" for line in _written(dry, partial(receipts.close, receipt=receipt))]
    return lines


def _written(dry: DryRunCluster, act: Callable[[Cluster], Any]) -> list[str]:
    before = len(dry.written)
    # the wait, or a read of what a write would have brought: nothing more can be told before it happens
    with contextlib.suppress(_Over, SharedfateError, KeyError):
        act(dry)
    return [
        f"{method} {path}" + (f" {_brief(body)}" if body is not None else "")
        for method, path, body in dry.written[before:]
    ]


def _brief(body: Any) -> str:
    if isinstance(body, dict) and body.get("kind") == "Pod":
        container = body["spec"]["containers"][0]
        return f"{body['metadata']['name']} on {body['spec'].get('nodeName')}: {' '.join(container['command'])}"
    if isinstance(body, dict) and body.get("kind") == "ConfigMap":
        return str(body["metadata"]["name"])
    return json.dumps(body, sort_keys=True)
