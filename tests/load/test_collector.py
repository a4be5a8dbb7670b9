"""What a loader measured is what the history holds, or the difference is an error."""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from chaos.control_key import HEADER
from chaos.engine.deployment import ANSWERED
from chaos.errors import ExperimentFailure
from chaos.history.model import SAMPLE, Cause, EventKind, Outcome
from chaos.history.store import History, HistoryWriter
from chaos.kube.client import Cluster
from chaos.kube.control_key import secret
from chaos.load.client import Exchange, LoaderClient, parse_ledger, parse_page
from chaos.load.collector import Collector
from chaos.load.collector import Loader as Where
from chaos.load.detail import Detail
from chaos.load.feed import LoaderFeed, LostSamples, detect_missing
from chaos.model.flow import Flow
from chaos.names import CONTROL_SECRET, SYSTEM_NAMESPACE
from tests.load.programs import KEY, Loader, Programs, eventually, flow_to, free_port
from tests.lying_loaders import Dropping, Stamping

HTTP = Flow("tenant-a/client", "tenant-a/server")
TCP = Flow("tenant-a/client", "tenant-a/server", label="tcp")


def started(programs: Programs, **more: Any) -> Loader:
    server = programs.server()
    loader = programs.loader(flow_to(server.http, **more), flow_to(server.tcp, "tcp", protocol="tcp", label="tcp"))
    eventually(lambda: loader.flow("tcp")["ok"] >= 20 and loader.flow("http")["ok"] >= 20)
    return loader


def feed(ask: Exchange, writer: HistoryWriter, detail: Detail = Detail.FULL) -> LoaderFeed:
    return LoaderFeed(LoaderClient(ask), writer, namespace="tenant-a", pod="client-1", detail=detail)


@pytest.fixture(params=list(Detail))
def detail(request: pytest.FixtureRequest) -> Detail:
    return Detail(request.param)


def tampered(loader: Loader, change: Callable[[dict[str, Any], bytes], tuple[dict[str, Any], bytes]]) -> Exchange:
    def ask(path: str, body: bytes | None) -> bytes:
        answer = loader.ask(path, body)
        if not path.startswith("/samples"):
            return answer
        size = int.from_bytes(answer[:4], "little")
        state, records = change(json.loads(answer[4 : 4 + size]), answer[4 + size :])
        text = json.dumps(state).encode()
        return len(text).to_bytes(4, "little") + text + records

    return ask


def changed(state: dict[str, Any], count: str, by: int) -> dict[str, Any]:
    return {**state, "flows": [{**flow, count: flow[count] + by} for flow in state["flows"]]}


def finish(loader: Loader, feed: LoaderFeed) -> None:
    loader.ask("/stop", b"")
    feed.drain(5)
    feed.check()


@pytest.mark.live
def test_every_sample_of_the_loader_is_in_the_history(programs: Programs, tmp_path: Path, detail: Detail) -> None:
    loader = started(programs)
    with HistoryWriter(tmp_path / "trial", {}) as writer:
        one = feed(loader.ask, writer, detail)
        one.poll()
        one.poll()
        finish(loader, one)
        one.note_counts()
    history = History.load(tmp_path / "trial")
    assert set(history.flows) == {HTTP, TCP}
    assert int((history.samples["flow"] == history.flows.index(HTTP)).sum()) == loader.flow("http")["due"]
    assert int((history.samples["flow"] == history.flows.index(TCP)).sum()) == loader.flow("tcp")["due"]
    assert np.all(history.samples["outcome"] == Outcome.OK)
    assert {history.pods[number] for number in history.samples["server"]} == {"tenant-a/server-1"}
    assert {history.pods[number] for number in history.samples["client"]} == {"tenant-a/client-1"}
    told = next(event for event in history.events if event.kind is EventKind.LOADER)
    assert {flow["due"] for flow in told.data["flows"]} == {loader.flow("http")["due"], loader.flow("tcp")["due"]}
    clock = next(event for event in history.events if event.kind is EventKind.CLOCK)
    assert clock.data["offset"] == 0  # one machine, one clock


@pytest.mark.live
def test_a_runner_that_starts_again_loses_nothing(programs: Programs, tmp_path: Path, detail: Detail) -> None:
    loader = started(programs)
    with HistoryWriter(tmp_path / "first", {}) as writer:
        feed(loader.ask, writer, detail).poll()
    with HistoryWriter(tmp_path / "second", {}) as writer:
        finish(loader, feed(loader.ask, writer, detail))
    assert len(History.load(tmp_path / "second").samples) == loader.state()["total"]


@pytest.mark.live
def test_a_thinned_flow_is_counted_whole(programs: Programs, tmp_path: Path, detail: Detail) -> None:
    loader = started(programs, keep_every=7)
    with HistoryWriter(tmp_path / "trial", {}) as writer:
        finish(loader, feed(loader.ask, writer, detail))
    assert loader.flow("http")["stored"] == loader.flow("http")["done"] // 7
    assert History.load(tmp_path / "trial").flows


@pytest.mark.live
@pytest.mark.parametrize(
    ("name", "change"),
    [
        (
            "a page that was cut",
            lambda state, records: ({**state, "count": state["count"] - 1}, records[: -SAMPLE.itemsize]),
        ),
        ("a page from elsewhere", lambda state, records: ({**state, "from": state["from"] + 1}, records)),
        (
            "a sample of another flow",
            lambda state, records: (state, b"\1\0" + records[2:] if records[:2] == b"\0\0" else records),
        ),
        ("counts that do not add up", lambda state, records: (changed(state, "ok", -1), records)),
        ("requests that never ended", lambda state, records: (changed(state, "due", 1), records)),
    ],
)
def test_lost_samples_are_noticed(programs: Programs, tmp_path: Path, name: str, change: Any) -> None:
    loader = started(programs)
    with HistoryWriter(tmp_path / "trial", {}) as writer, pytest.raises(LostSamples):
        finish(loader, feed(tampered(loader, change), writer))


def in_ledger(loader: Loader, change: Callable[[dict[str, Any], bytes], tuple[dict[str, Any], bytes]]) -> Exchange:
    """The same of pages of entries."""

    def ask(path: str, body: bytes | None) -> bytes:
        answer = loader.ask(path, body)
        if not path.startswith("/ledger"):
            return answer
        content = zlib.decompress(answer)
        size = int.from_bytes(content[:4], "little")
        state, entries = change(json.loads(content[4 : 4 + size]), content[4 + size :])
        text = json.dumps(state).encode()
        return zlib.compress(len(text).to_bytes(4, "little") + text + entries, 1)

    return ask


def first_part(state: dict[str, Any], **changed: Any) -> dict[str, Any]:
    first, *rest = state["ledgers"]
    return {**state, "ledgers": [{**first, **changed}, *rest]}


@pytest.mark.live
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("a page that was cut", lambda state, entries: (state, entries[:-1])),
        ("a page from elsewhere", lambda state, entries: (first_part(state, **{"from": [1, 0, 0]}), entries)),
        ("a kind that it does not name", lambda state, entries: (first_part(state, kinds=[]), entries)),
        ("requests of no pace", lambda state, entries: (first_part(state, paces=[]), entries)),
        ("a pace of another form", lambda state, entries: (first_part(state, paces=[[1, 2]]), entries)),
        ("no ledgers", lambda state, entries: ({**state, "ledgers": []}, b"")),
        ("counts that do not add up", lambda state, entries: (changed(state, "ok", -1), entries)),
        ("requests that never ended", lambda state, entries: (changed(state, "due", 1), entries)),
    ],
)
def test_entries_that_are_none_or_were_lost_are_noticed(
    programs: Programs, tmp_path: Path, name: str, change: Any
) -> None:
    loader = started(programs)
    with HistoryWriter(tmp_path / "trial", {}) as writer, pytest.raises(ExperimentFailure):
        finish(loader, feed(in_ledger(loader, change), writer, Detail.LEDGER))


@pytest.mark.live
def test_entries_and_samples_of_one_loader_are_the_same_but_for_when_they_were_sent(
    programs: Programs, tmp_path: Path
) -> None:
    server = programs.server()
    loader = programs.loader(
        flow_to(server.http),
        flow_to(server.tcp, "tcp", protocol="tcp", label="tcp"),
        flow_to(server.http, "random", label="random", arrival="poisson"),
    )
    server.misbehaviour(reset_share=0.2)
    eventually(lambda: loader.flow("http")["unknown"] >= 20)
    loader.set(flow_to(server.http, rate=150.0))
    eventually(lambda: loader.flow("http")["done"] >= 200)
    loader.ask("/stop", b"")
    eventually(lambda: not loader.state()["under_way"])
    found = {}
    for one in Detail:
        with HistoryWriter(tmp_path / one, {}) as writer:
            feeding = feed(loader.ask, writer, one)
            feeding.drain(5)
            feeding.check()
            assert feeding.restore_missing() == []
            flows = writer.by_flow()
            found[one] = {flow: flows[flow] for flow in flows}
        assert len(History.load(tmp_path / one).samples) == sum(map(len, found[one].values()))
    assert found[Detail.FULL].keys() == found[Detail.LEDGER].keys()
    for flow, whole in found[Detail.FULL].items():
        entered = found[Detail.LEDGER][flow]
        for name in SAMPLE.names or ():
            if name != "sent" or flow.label == "random":
                assert np.array_equal(whole[name], entered[name]), (flow, name)
    assert {*found[Detail.LEDGER][HTTP]["sent"]} == {0}
    assert found[Detail.LEDGER][Flow(HTTP.client, HTTP.server, label="random")]["sent"].any()


@pytest.mark.live
def test_the_samples_behind_a_ledger_are_fetched_afterwards_and_give_when_requests_were_sent(
    programs: Programs, tmp_path: Path
) -> None:
    server = programs.server()
    loader = programs.loader(flow_to(server.http))
    server.misbehaviour(reset_share=0.2)
    eventually(lambda: loader.flow("http")["unknown"] >= 20)
    with HistoryWriter(tmp_path / "trial", {}) as writer:
        one = feed(loader.ask, writer, Detail.LEDGER)
        one.poll()
        eventually(
            lambda: loader.flow("http")["done"] >= 2 * len(writer.snapshot()[0])
        )  # what comes later is not asked
        assert one.fetch_whole() == []
        entered = len(writer.snapshot()[0])
    true = parse_page(loader.ask("/samples?from=0")).records
    true = true[np.argsort(true["sequence"])][:entered]
    saved = History.load(tmp_path / "trial").samples
    saved = saved[np.argsort(saved["sequence"])]
    assert np.array_equal(saved["sequence"], true["sequence"][: len(saved)])
    assert np.array_equal(saved["sent"], true["sent"])
    assert saved["sent"].all()


@pytest.mark.live
@pytest.mark.parametrize("column", ["outcome", "status", "done", "sequence"])
def test_samples_that_contradict_their_ledger_are_noticed(programs: Programs, tmp_path: Path, column: str) -> None:
    loader = started(programs)

    def other(state: dict[str, Any], records: bytes) -> tuple[dict[str, Any], bytes]:
        found = np.frombuffer(records, SAMPLE).copy()
        found[column][3] += 1 if column != "sequence" else 10_000
        return state, found.tobytes()

    with HistoryWriter(tmp_path / "trial", {}) as writer:
        one = feed(tampered(loader, other), writer, Detail.LEDGER)
        one.poll()
        problems = one.fetch_whole()
    assert len(problems) == 1
    assert "1 of its samples are not what its ledger says" in problems[0]


@pytest.mark.live
def test_a_loader_that_was_started_again_has_no_samples_to_give(programs: Programs, tmp_path: Path) -> None:
    server, port = programs.server(), free_port()
    first = programs.loader(flow_to(server.http), port=port)
    eventually(lambda: first.flow("http")["ok"] >= 10)
    with HistoryWriter(tmp_path / "trial", {}) as writer:
        one = feed(first.ask, writer, Detail.LEDGER)
        one.poll()
        first.process.kill()
        first.process.wait()
        programs.loader(flow_to(server.http), port=port)
        assert "no longer" in one.fetch_whole()[0]


def test_what_is_no_page_is_no_page() -> None:
    for wrong in (b"", b"\4\0\0\0nope", b"\2\0\0\0{}", b"HTTP/1.1 200"):
        with pytest.raises((ExperimentFailure, KeyError)):
            parse_page(wrong)
        for answer in (wrong, zlib.compress(wrong), zlib.compress(wrong)[:-1]):
            with pytest.raises(ExperimentFailure):
                parse_ledger(answer)


@pytest.mark.live
def test_a_loader_that_started_again_is_counted_anew_and_what_was_lost_is_named(
    programs: Programs, tmp_path: Path, detail: Detail
) -> None:
    server, port = programs.server(), free_port()
    first = programs.loader(flow_to(server.http), port=port)
    eventually(lambda: first.flow("http")["ok"] >= 10)
    with HistoryWriter(tmp_path / "trial", {}) as writer:
        one = feed(first.ask, writer, detail)
        while one.poll():
            pass
        first.process.kill()
        first.process.wait()
        second = programs.loader(flow_to(server.http), port=port)
        eventually(lambda: second.flow("http")["ok"] >= 10)
        finish(second, one)  # all that the first had said was fetched: nothing is missing
        _, events = writer.snapshot()
    assert len(one.epochs) == 2
    assert [event.data["uncollected"] for event in events if event.data.get("phase") == "restarted"] == [0]


@pytest.mark.live
def test_another_clock_is_aligned_and_the_error_stated(programs: Programs, tmp_path: Path) -> None:
    loader, ahead = started(programs), 5_000_000_000

    def later(state: dict[str, Any], records: bytes) -> tuple[dict[str, Any], bytes]:
        page = np.frombuffer(records, dtype=[("rest", "V12"), ("at", "<i8", 3), ("sequence", "<u4")]).copy()
        page["at"] += ahead
        return {**state, "clock": state["clock"] + ahead}, page.tobytes()

    with HistoryWriter(tmp_path / "trial", {}) as writer:
        one = feed(tampered(loader, later), writer)
        finish(loader, one)
        samples, events = writer.snapshot()
    stated = [event.data for event in events if event.kind is EventKind.CLOCK][-1]
    assert abs(stated["offset"] - ahead) <= stated["error"] < 100_000_000
    true = parse_page(loader.ask("/samples?from=0")).records
    assert abs(int(samples["due"][0]) - int(true["due"][0])) <= stated["error"]


class _Direct:
    """A cluster of which only the way to the loaders is used: their control ports on loopback."""

    def __init__(self, loaders: dict[str, Loader]) -> None:
        self.loaders = loaders

    def pod_http(
        self,
        namespace: str,
        pod: str,
        port: int,
        path: str,
        *,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 10.0,
    ) -> bytes:
        assert headers == {HEADER: KEY.token(namespace)}
        return self.loaders[pod].ask(path, body)

    def find(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        assert (kind, name, namespace) == ("Secret", CONTROL_SECRET, SYSTEM_NAMESPACE)
        return secret(KEY, run="r")

    def wait(self, what: str, ready: Callable[[], object], *, seconds: float = 60.0) -> object:
        return eventually(ready, seconds=seconds)


@pytest.mark.live
def test_a_collector_gathers_while_it_runs_and_checks_at_the_end(
    programs: Programs, tmp_path: Path, detail: Detail
) -> None:
    loaders = {"client-1": started(programs), "client-2": started(programs)}
    with (
        HistoryWriter(tmp_path / "trial", {}) as writer,
        Collector(
            cast(Cluster, _Direct(loaders)),
            [Where("tenant-a", name) for name in loaders],
            writer,
            every=0.05,
            detail=detail,
        ) as collector,
    ):
        eventually(lambda: len(writer.snapshot()[0]) >= 500)
        rates = {rate.flow: rate for rate in collector.rates()}
        assert 120 < rates[HTTP].per_second < 280  # two loaders, a hundred a second each
        assert rates[HTTP].errors == 0
        assert 0 < rates[HTTP].p50 <= rates[HTTP].p99
        collector.poll_now()
        collector.finish()
        samples, _ = writer.snapshot()
        assert not collector.failures
    assert len(samples) == sum(loader.state()["total"] for loader in loaders.values())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("samples-")]


@pytest.mark.live
def test_a_collector_says_why_a_loader_gives_nothing(programs: Programs, tmp_path: Path) -> None:
    loader = started(programs)
    with (
        HistoryWriter(tmp_path / "trial", {}) as writer,
        Collector(
            cast(Cluster, _Direct({"client-1": loader})),
            [Where("tenant-a", "client-1")],
            writer,
            every=0.02,
            patience=0.2,
        ) as collector,
    ):
        loader.process.kill()
        eventually(lambda: collector.failures)
        assert "unreachable" in collector.failures[Where("tenant-a", "client-1")]


@pytest.mark.live
def test_pending_requests_are_told_while_a_server_stalls(programs: Programs, tmp_path: Path) -> None:
    server = programs.server()
    loader = programs.loader(flow_to(server.http, timeout=5))
    eventually(lambda: loader.flow("http")["ok"] >= 10)
    server.misbehaviour(stall=True, seconds=2)
    with HistoryWriter(tmp_path / "trial", {}) as writer:
        one = feed(loader.ask, writer)
        eventually(lambda: [one.poll(), len(one.pending.get(HTTP, []))][1] >= 20)
        due = one.pending[HTTP]
    assert np.all(np.diff(due) > 0)


@pytest.mark.parametrize(
    ("numbers", "due", "under_way", "missing"),
    [
        ([1, 2, 3], 3, 0, []),
        ([3, 1, 2], 5, 2, []),  # the latest have not ended
        ([1, 3, 4], 4, 0, [2]),
        ([1, 3], 5, 2, [2]),
        ([], 2, 0, [1, 2]),
    ],
)
def test_a_request_that_fell_due_and_left_no_sample_is_found_by_its_number(
    numbers: list[int], due: int, under_way: int, missing: list[int]
) -> None:
    assert detect_missing(np.array(numbers, np.uint32), due=due, under_way=under_way).tolist() == missing


def test_what_a_loader_drops_is_a_failure_and_is_said(programs: Programs, tmp_path: Path) -> None:
    loader = started(programs)
    eventually(lambda: loader.flow("http")["done"] > 50)

    def without_each_tenth(state: dict[str, Any], records: bytes) -> tuple[dict[str, Any], bytes]:
        found = np.frombuffer(records, dtype=SAMPLE)
        kept = found[found["sequence"] % 10 != 0]
        return {**state, "count": len(kept)}, kept.tobytes()

    with HistoryWriter(tmp_path / "trial", {}) as writer:
        lying = feed(tampered(loader, without_each_tenth), writer)
        loader.ask("/stop", b"")
        eventually(lambda: loader.state()["under_way"] == 0)
        lying.poll()
        problems = lying.restore_missing()
        samples, _ = writer.snapshot()
    lost = samples[samples["cause"] == Cause.NO_SAMPLE]
    assert problems
    assert all("left no sample" in problem for problem in problems)
    assert len(lost) > 4
    assert set(lost["sequence"] % 10) == {0}
    assert set(lost["outcome"]) == {Outcome.FAILED}
    assert lost["due"].min() > 10**18


@pytest.mark.parametrize("lying", [Dropping, Stamping])
def test_a_loader_whose_lies_agree_with_its_own_counts_is_contradicted_by_numbers_or_by_its_servers(
    programs: Programs, tmp_path: Path, lying: type[LoaderClient], detail: Detail
) -> None:
    server = programs.server()
    loader = programs.loader(flow_to(server.http))
    server.misbehaviour(reset_share=0.3)
    eventually(lambda: loader.flow("http")["unknown"] > 20)
    with HistoryWriter(tmp_path / "trial", {}) as writer:
        client = lying(loader.ask)
        one = LoaderFeed(client, writer, namespace="tenant-a", pod="client-1", detail=detail)
        one.poll()
        loader.ask("/stop", b"")
        one.drain(5)
        one.check()
        samples, _ = writer.snapshot()
        problems = one.restore_missing()
    assert set(samples["outcome"]) == {Outcome.OK}
    claimed = sum(flow["ok"] for flow in client.state()["flows"])
    served = sum(server.stats().get(kind, 0) for kind in ANSWERED)
    assert (bool(problems), claimed > served) == (lying is Dropping, lying is Stamping)


def test_an_answer_that_names_no_server_is_misrouted_and_excuses_no_count(
    programs: Programs, tmp_path: Path, detail: Detail
) -> None:
    server = programs.server()
    loader = programs.loader(flow_to(server.http))
    server.misbehaviour(reset_share=0.3)
    eventually(lambda: loader.flow("http")["unknown"] > 20)
    with HistoryWriter(tmp_path / "trial", {}) as writer:
        stamped = LoaderFeed(
            Stamping(loader.ask),
            writer,
            namespace="tenant-a",
            pod="client-1",
            own_servers=lambda flow, names: names - {""},
            detail=detail,
        )
        stamped.poll()
        samples, _ = writer.snapshot()
    lost = samples["cause"] == Cause.MISROUTED
    assert lost.sum() > 20
    assert set(samples["outcome"][lost]) == {Outcome.UNKNOWN}
    assert stamped.misrouted == 0  # nobody gave these answers: they stay a contradiction of the servers' counts


def test_an_answer_by_a_server_that_is_none_of_the_flows_own_is_misrouted(
    programs: Programs, tmp_path: Path, detail: Detail
) -> None:
    loader = started(programs)
    eventually(lambda: loader.flow("http")["done"] > 20)
    with HistoryWriter(tmp_path / "trial", {}) as writer:
        strict = LoaderFeed(
            LoaderClient(loader.ask),
            writer,
            namespace="tenant-a",
            pod="client-1",
            own_servers=lambda flow, names: frozenset() if flow == HTTP else names,
            detail=detail,
        )
        while strict.poll():
            pass
        samples, _ = writer.snapshot()
        ours = samples["flow"] == writer.flows.index(HTTP)
    assert strict.misrouted == int(np.count_nonzero(ours))
    assert set(samples["cause"][ours]) == {Cause.MISROUTED}
    assert set(samples["outcome"][ours]) == {Outcome.UNKNOWN}
    assert Cause.MISROUTED not in samples["cause"][~ours]
