"""The loader: `python -m chaos.load.agent` in a tenant's client pod, for as long as the tenant is deployed.

One process, one thread, one loop: flows, aggressors and the control port share it. Environment:
`LOADER_FLOWS` (JSON list, `chaos.load.spec`), `POD_NAME` (default: the host's name), `POD_NAMESPACE`, `WORKLOAD`
(default `client`), `LISTEN` (default 0.0.0.0), `CONTROL_PORT`, `CONTROL_DIGEST` (`chaos.control_key`; without it the
control port answers probes alone). SIGTERM: no more requests, what is under way ends, exit 0.
"""

from __future__ import annotations

import gc
import json
import os
import secrets
import signal
import socket
from dataclasses import replace
from time import monotonic_ns, time_ns
from typing import Any

from chaos.build import build
from chaos.control_key import Gate
from chaos.errors import Misuse
from chaos.load.aggressor import Aggressor, Phase
from chaos.load.control import DONE, Control
from chaos.load.engine import Engine, SampleRecorder
from chaos.load.pages import as_json, ledger_page, samples_page
from chaos.load.reactor import TOLERANCE, Reactor
from chaos.load.samples import CHUNK_RECORDS, FlowCounters, sample_log
from chaos.load.sockets import Resolver
from chaos.load.spec import FlowSpec, aggressor_flow, aggressor_from, flows_from
from chaos.load.transports import open_transport
from chaos.names import PORT_CONTROL

_DRAIN_NS = 500_000_000


class LoaderAgent:
    """A loader with its flows.

    Samples are asked for by number, within an *epoch*: a loader that was started again begins a new one.
    """

    def __init__(self, *, pod: str, workload: str, host: str, port: int, gate: Gate) -> None:
        self.pod, self.workload = pod, workload
        self.epoch = secrets.token_hex(8)
        self.reactor = Reactor()
        self.log = sample_log()
        self.recorder = SampleRecorder(self.log, time_ns() - monotonic_ns())
        self.resolver = Resolver(self.reactor)
        self.flow_counters: list[FlowCounters] = []
        self.engines: dict[str, Engine] = {}
        self.aggressors: dict[str, Aggressor] = {}
        self.retired: list[Engine] = []
        self.control = Control(
            self.reactor,
            host,
            port,
            {
                "/healthz": lambda method, query, body: (200, b"ok\n"),
                "/build": lambda method, query, body: (200, as_json({"build": build()})),
                "/state": lambda method, query, body: (200, as_json(self.state())),
                "/samples": self._samples,
                "/ledger": self._ledger,
                "/flows": self._flows,
                "/stop": self._stop,
                "/aggressor": self._aggressor,
            },
            pod,
            gate,
        )

    # ---- flows

    def set_flow(self, spec: FlowSpec) -> None:
        """Start the flow, or change the one of that name; requests under way end as they began."""
        old = self.engines.get(spec.name)
        if old is not None:
            if replace(old.spec, rate=spec.rate) == spec:
                old.spec = spec
                old.set_rate(spec.rate)
                return
            self._retire(old)
        counters = next((one for one in self.flow_counters if one.name == spec.name), None)
        if counters is not None and (counters.server, counters.sentinel, counters.label) != (
            spec.server,
            spec.sentinel,
            spec.label,
        ):
            raise Misuse(
                f"loader: {spec.name}: already counts {counters.server} [{counters.label}]: choose another name"
            )
        if counters is None:
            counters = FlowCounters(
                len(self.flow_counters),
                name=spec.name,
                server=spec.server,
                sentinel=spec.sentinel,
                label=spec.label,
                keep_every=spec.keep_every,
            )
            self.flow_counters.append(counters)
        counters.keep_every = spec.keep_every
        engine = self.engines[spec.name] = Engine(self.reactor, self.recorder, counters, spec)
        engine.start(open_transport(engine, self.resolver))

    def _retire(self, engine: Engine) -> None:
        engine.stop()
        self.retired.append(engine)

        def close() -> None:
            engine.close()
            self.retired.remove(engine)

        self.reactor.at(monotonic_ns() + int((engine.spec.timeout + 0.1) * 1e9), close)

    def _flows(self, method: bytes, query: dict[str, str], body: bytes) -> tuple[int, bytes]:
        if method == b"POST":
            for spec in flows_from(body):
                self.set_flow(spec)
            return DONE
        return 200, as_json([one.as_dict() for one in self.flow_counters])

    def _stop(self, method: bytes, query: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """`POST /stop`: no more requests from any flow, until it is set again."""
        if method == b"POST":
            for engine in self.engines.values():
                engine.stop()
            return DONE
        return 200, as_json({"under_way": self.under_way()})

    # ---- aggressors

    def _aggressor(self, method: bytes, query: dict[str, str], body: bytes) -> tuple[int, bytes]:
        if method == b"POST":
            try:
                data = json.loads(body or b"{}")
            except ValueError as error:
                raise Misuse(f"loader: not JSON: {error}") from error
            if isinstance(data, dict) and data.get("stop"):
                for aggressor in self.aggressors.values():
                    aggressor.stop()
            else:
                self._start_aggressor(data)
            return DONE
        return 200, as_json([one.as_dict() for one in self.aggressors.values()])

    def _start_aggressor(self, data: Any) -> None:
        spec = aggressor_from(data)
        flow = aggressor_flow(spec)
        running = self.aggressors.get(flow.name)
        if running is not None and running.phase is not Phase.ENDED:
            raise Misuse(f"loader: {flow.name} runs already: stop it first")
        self.engines.pop(flow.name, None)
        self.set_flow(flow)
        self.aggressors[flow.name] = Aggressor(self.engines[flow.name], spec, lambda: None)

    # ---- what the runner asks

    def under_way(self) -> int:
        return sum(engine.under_way for engine in [*self.engines.values(), *self.retired])

    def state(self) -> dict[str, Any]:
        """Return this end's counts, and the loader's own lateness."""
        reactor = self.reactor
        return {
            "pod": self.pod,
            "client": self.workload,
            "epoch": self.epoch,
            "clock": monotonic_ns() + self.recorder.base,
            "total": self.log.total,
            "under_way": self.under_way(),
            "servers": self.recorder.servers,
            "flows": [one.as_dict() for one in self.flow_counters],
            "aggressors": [one.as_dict() for one in self.aggressors.values()],
            "lateness": {"tolerance_ns": TOLERANCE, "stalls": reactor.stalls, "worst_ns": reactor.worst},
        }

    def _samples(self, method: bytes, query: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """A page of whole samples (`chaos.load.pages`), from number `from` on. With `pending=1` its head holds of each
        flow (by its number) when the requests fell due that have no sample yet.
        """
        limit = query.get("limit", "")
        most = int(limit) if limit.isdigit() else CHUNK_RECORDS
        return 200, samples_page(self._head(query), self.log, _place(query, self.epoch, "from")[0], most)

    def _ledger(self, method: bytes, query: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """A page of the ledgers, of what comes after the place `after` (numbers with commas)."""
        return 200, ledger_page(self._head(query), self.recorder.ledgers, _place(query, self.epoch, "after"))

    def _head(self, query: dict[str, str]) -> dict[str, Any]:
        pending: dict[int, list[int]] = {}
        if query.get("pending"):
            for engine in [*self.engines.values(), *self.retired]:
                pending.setdefault(engine.counters.id, []).extend(engine.pending())
        return {**self.state(), "pending": pending}

    # ---- life

    def terminate(self) -> None:
        """Send no more requests; end once nothing is under way, or after half a second."""
        for engine in self.engines.values():
            engine.stop()
        self._drain(monotonic_ns() + _DRAIN_NS)

    def _drain(self, end: int) -> None:
        now = monotonic_ns()
        if now >= end or not self.under_way():
            self.reactor.stop()
        else:
            self.reactor.at(now + 10_000_000, lambda: self._drain(end))

    def run(self) -> None:
        """Until `terminate`."""
        self.reactor.run()
        for engine in [*self.engines.values(), *self.retired]:
            engine.close()
        self.control.close()


def _place(query: dict[str, str], epoch: str, name: str) -> list[int]:
    """Return where a reader is, by its query; at the begin when it has read another epoch."""
    words = query.get(name, "0").split(",")
    if not all(word.isdigit() for word in words):
        raise Misuse(f"loader: {name}: expected numbers, got {query[name]!r}")
    return [int(word) for word in words] if query.get("epoch", epoch) == epoch else [0]


def main() -> None:
    try:
        flows = flows_from(os.environ.get("LOADER_FLOWS", "[]"))
        agent = LoaderAgent(
            pod=os.environ.get("POD_NAME") or socket.gethostname(),
            workload=f"{os.environ.get('POD_NAMESPACE', 'default')}/{os.environ.get('WORKLOAD', 'client')}",
            host=os.environ.get("LISTEN", "0.0.0.0"),
            port=int(os.environ.get("CONTROL_PORT", PORT_CONTROL)),
            gate=Gate.of_pod(),
        )
        for flow in flows:
            agent.set_flow(flow)
    except Misuse as error:
        raise SystemExit(str(error)) from error
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agent.reactor.call_from_thread(agent.terminate))
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)  # requests form no cycles: a full collection would only make the load late
    agent.run()


if __name__ == "__main__":
    main()
