"""Receipts that are broken, lost, or another's: what is held is undone all the same, and nobody's original is lost."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import pytest
from click.testing import CliRunner

from chaos.cli import main
from chaos.commands import faults as commands
from chaos.errors import EnvironmentUnfit, ExperimentFailure, Misuse
from chaos.faults import notes, receipts, stop_signal
from chaos.faults.activity import Activity
from chaos.faults.catalogue import FAULTS
from chaos.faults.drain import Drain
from chaos.faults.injection import begin, end, inject_all, injected, undo_overdue
from chaos.faults.model import Evidence, Fault, Receipt, Target, Witness
from chaos.faults.needs import Need
from chaos.faults.receipts import UnreadableReceipt
from chaos.faults.recreate import Recreate
from chaos.faults.scale import Scale
from chaos.faults.selection import container_target, node_target, workload_target
from chaos.faults.throttle import Throttle
from chaos.faults.upgrade import Upgrade
from chaos.faults.watchdog import Watchdog
from chaos.kube.client import Cluster
from chaos.model.faulting import FaultShape
from chaos.names import LABEL_RUN, SYSTEM_NAMESPACE
from tests.embedded.api.conftest import World, deployment, pod
from tests.embedded.api.conftest import world as world  # the fixture: a server without nodes

FOREVER = 2**62


@pytest.fixture
def cluster(world: World) -> Iterator[Cluster]:
    """With the system namespace, and nothing held at the end."""
    made = world.cluster
    if made.find("Namespace", SYSTEM_NAMESPACE) is None:
        made.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM_NAMESPACE}})
    yield made
    stop_signal.clear_stop(made)
    lose(made)
    for node in made.list("Node"):
        made.delete("Node", node["metadata"]["name"])
    for kind in ("Pod", "Deployment"):
        for obj in made.list(kind, "default"):
            made.delete(kind, obj["metadata"]["name"], "default", grace=0)


def lose(cluster: Cluster) -> None:
    """Take every receipt away, as somebody who tidies up."""
    for item in cluster.list("ConfigMap", SYSTEM_NAMESPACE, labels=receipts.LABEL_RECEIPT):
        cluster.delete("ConfigMap", item["metadata"]["name"], SYSTEM_NAMESPACE)


def node(cluster: Cluster, name: str = "n1") -> Target:
    return node_target(cluster.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}))


def cordoned(cluster: Cluster, name: str = "n1") -> bool:
    return bool(cluster.get("Node", name)["spec"].get("unschedulable"))


@contextlib.contextmanager
def kubelet(cluster: Cluster, name: str) -> Iterator[Target]:
    """A running pod whose status follows its CPU limit, as a kubelet has it."""
    limits = {"resources": {"limits": {"cpu": "500m"}}}
    made = cluster.create(pod(name, "default", nodeName="", containers=[{"name": "app", "image": "e:1", **limits}]))
    over = threading.Event()

    def applied() -> dict[str, Any]:
        spec = cluster.get("Pod", name, "default")["spec"]["containers"][0]
        running = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
        status = {"name": "app", "image": "e:1", "imageID": "e", "ready": True, "restartCount": 0, "state": running}
        status |= {"containerID": f"containerd://{name}", "resources": spec["resources"]}
        patch = {"status": {"phase": "Running", "containerStatuses": [status]}}
        return cluster.patch("Pod", name, patch, "default", subresource="status")

    def follow() -> None:
        while not over.wait(0.01):
            applied()

    applied()
    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield container_target(cluster.get("Pod", made["metadata"]["name"], "default"), "app")
    finally:
        over.set()
        thread.join()


def limit(cluster: Cluster, name: str) -> str:
    found: str = cluster.get("Pod", name, "default")["spec"]["containers"][0]["resources"]["limits"]["cpu"]
    return found


RECEIPT = Receipt("1-a", "r", "drain", {}, Target("node", "n9"), 1).to_json()
BROKEN: dict[str, str | None] = {  # what a receipt may hold that is none
    "no-data": None,
    "empty": "",
    "no-json": "{",
    "a-list": "[]",
    "a-number": "7",
    "deep": "[" * 100_000,
    "a-field-less": json.dumps({key: value for key, value in RECEIPT.items() if key != "deadline"}),
    "a-field-more": json.dumps({**RECEIPT, "colour": "red"}),
    "a-deadline-of-words": json.dumps({**RECEIPT, "deadline": "soon"}),
    "a-deadline-that-is-true": json.dumps({**RECEIPT, "deadline": True}),
    "no-such-phase": json.dumps({**RECEIPT, "phase": "over"}),
    "a-target-of-words": json.dumps({**RECEIPT, "target": "n1"}),
    "a-target-of-no-kind": json.dumps({**RECEIPT, "target": {"kind": "planet", "name": "n1"}}),
    "another-id": json.dumps({**RECEIPT, "id": "2-b"}),
    "facts-of-words": json.dumps({**RECEIPT, "facts": "none"}),
    "null": "null",
    "deep-objects": '{"a":' * 100_000,
    "deep-facts": json.dumps(RECEIPT)[:-1] + ', "facts": ' + '{"a":' * 50_000,
    "huge": json.dumps({**RECEIPT, "colour": "x" * 900_000}),
    "a-nul": "\0" + json.dumps(RECEIPT),
    "a-mark-before": "\ufeff" + json.dumps(RECEIPT),
    "two-of-them": json.dumps(RECEIPT) * 2,
    "a-key-twice": json.dumps(RECEIPT)[:-1] + ', "target": {"kind": "node", "name": "n1"}}',
    "a-key-twice-within": json.dumps(RECEIPT).replace('"uid": ""', '"uid": "", "uid": "x"'),
    "a-deadline-of-many-digits": json.dumps(RECEIPT).replace('"deadline": 1,', '"deadline": ' + "1" * 5000 + ","),
    "a-deadline-beyond-time": json.dumps({**RECEIPT, "deadline": 10**30}),
    "a-deadline-of-no-number": json.dumps({**RECEIPT, "deadline": float("nan")}),
    "a-version-of-the-future": json.dumps({**RECEIPT, "version": 2}),
    "a-setting-of-infinity": json.dumps({**RECEIPT, "settings": {"seconds": float("inf")}}),
    "half-a-pair": json.dumps({**RECEIPT, "target": {"kind": "node", "name": "\ud800"}}),
    "a-target-in-a-list": json.dumps({**RECEIPT, "target": [RECEIPT["target"]]}),
    "a-name-that-is-null": json.dumps({**RECEIPT, "target": {"kind": "node", "name": None}}),
    "a-name-that-is-a-path": json.dumps({**RECEIPT, "target": {"kind": "node", "name": "../../../version"}}),
    "a-fault-that-is-a-list": json.dumps({**RECEIPT, "fault": ["drain"]}),
    "an-id-that-is-a-number": json.dumps({**RECEIPT, "id": 1}),
}
UNDOABLE: dict[str, dict[str, Any]] = {  # what reads well, and cannot be undone
    "no-such-fault": {"fault": "flood"},
    "no-such-setting": {"settings": {"depth": 3}},
    "a-setting-of-words": {"fault": "expire-certificates", "settings": {"life": "long"}},
    "without-facts": {"fault": "upgrade", "target": {"kind": "workload", "name": "x", "workload_kind": "Deployment"}},
    "no-such-workload-kind": {"fault": "scale", "target": {"kind": "workload", "name": "x", "workload_kind": "Town"}},
    "a-fault-of-no-name": {"fault": ""},
    "a-fault-that-is-a-path": {"fault": "../drain"},
    "a-fault-that-is-a-module": {"fault": "chaos.faults.drain"},
    "settings-of-another-fault": {"settings": {"millicores": 10}},
    "another-kind-of-target": {"target": {"kind": "workload", "name": "n1", "workload_kind": "Node"}},
}


def plant(cluster: Cluster, name: str, text: str | None) -> None:
    meta = {
        "name": f"receipt-{name}",
        "namespace": SYSTEM_NAMESPACE,
        "labels": {receipts.LABEL_RECEIPT: "drain", LABEL_RUN: "r"},
    }
    data = {} if text is None else {"data": {"receipt": text}}
    cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, **data})


@pytest.mark.parametrize("what", [*BROKEN, *UNDOABLE])
def test_a_receipt_that_cannot_be_used_is_told_of_and_the_others_are_undone(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    text = BROKEN[what] if what in BROKEN else json.dumps({**RECEIPT, "id": "1-a", **UNDOABLE[what]})
    plant(cluster, "1-a", text)
    target = node(cluster)
    # by `stop`
    begin(cluster, Drain(), target, run="r", seconds=60)
    assert cordoned(cluster)
    monkeypatch.setattr(commands, "connected", lambda *_, **__: contextlib.nullcontext(cluster))
    done = CliRunner().invoke(main, ["stop"])
    assert not cordoned(cluster)
    assert "undone: drain on n1" in done.output
    assert (
        ("receipt-1-a" if what in BROKEN else "receipt 1-a") in done.output
        or "flood" in done.output
        or ("setting" in done.output or "upgrade" in done.output or "Town" in done.output)
    )
    assert (done.exit_code in (1, 4), "Traceback" in done.output) == (True, False)
    # by the watchdog
    begin(cluster, Drain(), target, run="r", seconds=-60)
    watchdog = Watchdog(cluster, name="w")
    watchdog.look()
    cluster.wait("undone by the watchdog", lambda: not cordoned(cluster), seconds=10)
    watchdog.look()
    watchdog._pool.shutdown()
    told = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    if what in BROKEN:
        assert [text for text in told if "cannot be read" in text] == [text for text in told if "1-a" in text][:1]


def test_receipts_that_are_written_are_read() -> None:
    made = Receipt("1-a", "r", "kill", {"signal": 9}, Target("container", "p", "n", "u"), FOREVER, facts={"a": [1]})
    assert receipts.read_receipt("1-a", json.dumps(made.to_json()), where="here") == made


def test_a_fault_that_another_process_holds_is_refused_with_its_name(cluster: Cluster) -> None:
    target = node(cluster)
    with injected(cluster, Drain(), target, run="theirs"):
        with pytest.raises(Misuse, match=r"drain .*run theirs, receipt .*, process \d+ on "):
            begin(cluster, Drain(), target, run="ours", seconds=60)
        with pytest.raises(Misuse, match="run theirs"), injected(cluster, Drain(), target, run="ours"):
            pytest.fail("the block must not run")
        assert [one.run for one in receipts.open_receipts(cluster)] == ["theirs"]
        assert cordoned(cluster)
    assert not cordoned(cluster)
    assert receipts.open_receipts(cluster) == []


def test_of_many_that_begin_at_once_at_most_one_holds_and_the_original_comes_back(cluster: Cluster) -> None:
    with kubelet(cluster, "many") as target:
        for _ in range(10):
            gate = threading.Barrier(4)

            def course(number: int, gate: threading.Barrier = gate) -> str:
                gate.wait()
                try:
                    with injected(cluster, Throttle(millicores=10), target, run=f"run-{number}"):
                        return "held"
                except Misuse as error:
                    return "refused" if "throttle" in str(error) else str(error)

            with ThreadPoolExecutor(4) as pool:
                ends = list(pool.map(course, range(4)))
            assert set(ends) <= {"held", "refused"}
            assert "held" in ends
            assert limit(cluster, "many") == "500m"
            assert receipts.open_receipts(cluster) == []
        assert notes.all_noted(cluster) == []


@pytest.mark.parametrize("what", [what for what, row in UNDOABLE.items() if "target" not in row])
def test_a_target_whose_fault_is_not_known_here_is_held_all_the_same(cluster: Cluster, what: str) -> None:
    held = Receipt.from_json({**RECEIPT, "by": "process 7 on elsewhere", **UNDOABLE[what]})
    plant(cluster, "1-a", json.dumps(held.to_json()))
    node(cluster, "n9")
    with (
        pytest.raises(Misuse, match="run r, receipt 1-a, process 7 on elsewhere"),
        injected(cluster, Drain(), held.target, run="ours"),
    ):
        pytest.fail("the block must not run")
    assert not cordoned(cluster, "n9")


@dataclass(frozen=True, slots=True)
class Paint:
    """Somebody's own fault: a node's colour, of which no note is kept."""

    name: ClassVar[str] = "paint"
    shape: ClassVar[FaultShape] = FaultShape.HELD
    targets: ClassVar[frozenset[str]] = frozenset({"node"})
    aspects: ClassVar[frozenset[str]] = frozenset({"colour"})
    witness: ClassVar[Witness] = Witness.PODS
    needs: ClassVar[tuple[Need, ...]] = ()
    activity: ClassVar[Activity] = Activity("paint", "scrape")
    colour: str = "red"

    def plan(self, cluster: Cluster, target: Target) -> dict[str, Any]:
        return {"was": colour(cluster)}

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return self._put(cluster, self.colour)

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        return self._put(cluster, receipt.facts["was"])

    @staticmethod
    def _put(cluster: Cluster, colour: str) -> Evidence:
        cluster.patch("Node", "n1", {"metadata": {"labels": {"colour": colour}}})
        return Evidence(1, {})


def colour(cluster: Cluster) -> str:
    return str(cluster.get("Node", "n1")["metadata"]["labels"]["colour"])


def test_what_another_undid_while_a_fault_was_planned_is_no_original(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cast(dict[str, str], FAULTS), "paint", f"{__name__}:Paint")
    target, store = node(cluster), receipts.store
    Paint._put(cluster, "white")
    first = begin(cluster, Paint("red"), target, run="a", seconds=60)

    def store_late(*arguments: Any) -> str:
        end(cluster, first)
        return store(*arguments)

    monkeypatch.setattr(receipts, "store", store_late)
    second = begin(cluster, Paint("blue"), target, run="b", seconds=60)
    assert (colour(cluster), second.facts) == ("blue", {"was": "white"})
    end(cluster, second)
    assert colour(cluster) == "white"


def test_two_faults_on_one_target_that_do_not_clash_are_both_held(cluster: Cluster) -> None:
    one, other = node(cluster, "n1"), node(cluster, "n2")
    with injected(cluster, Drain(), one, run="a"), injected(cluster, Drain(), other, run="b"):
        assert (cordoned(cluster, "n1"), cordoned(cluster, "n2")) == (True, True)


def test_a_lost_receipt_is_no_lost_limit(cluster: Cluster) -> None:
    with kubelet(cluster, "lost") as target:
        # its own runner still knows
        with injected(cluster, Throttle(millicores=10), target, run="r"):
            lose(cluster)
        assert limit(cluster, "lost") == "500m"
        # nobody does
        begin(cluster, Throttle(millicores=10), target, run="r", seconds=60)
        lose(cluster)
        assert limit(cluster, "lost") == "10m"
        with pytest.raises(Misuse, match="what stands there now is not its own"):
            begin(cluster, Throttle(millicores=20), target, run="s", seconds=60)
        assert undo_overdue(cluster, now=0, run="another", everything=True) == []
        assert [one.fault for one in undo_overdue(cluster, now=0, everything=True)] == ["throttle"]
        assert limit(cluster, "lost") == "500m"
        meta = cluster.get("Pod", "lost", "default")["metadata"]
        assert notes.LABEL_FAULTED not in meta["labels"]
        assert not meta.get("annotations")


def test_a_lost_receipt_is_no_lost_number_template_or_schedulability(cluster: Cluster) -> None:
    made = cluster.create(deployment("shop", "default", replicas=3))
    target = workload_target(made)
    for fault in (Scale(seconds=5), Upgrade(image="example:2", whole=False, seconds=5)):
        before = cluster.get("Deployment", "shop", "default")["spec"]
        receipt = begin(cluster, fault, target, run="r", seconds=60)
        assert cluster.get("Deployment", "shop", "default")["spec"] != before
        lose(cluster)
        others: tuple[Fault, ...] = (Scale(seconds=5), Recreate())
        for other in others:
            with pytest.raises(Misuse, match="not its own"):
                begin(cluster, other, target, run="s", seconds=60)
        # Without nodes no pod becomes ready: the value is back, and the undo says that the pods are not.
        hasty = json.loads(json.dumps({**receipt.to_json(), "settings": {**receipt.settings, "seconds": 0.1}}))
        with pytest.raises(ExperimentFailure):
            end(cluster, Receipt.from_json(hasty))
        assert cluster.get("Deployment", "shop", "default")["spec"] == before
        lose(cluster)
        assert notes.all_noted(cluster) == []
    where = node(cluster)
    begin(cluster, Drain(), where, run="r", seconds=60)
    lose(cluster)
    assert [one.fault for one in undo_overdue(cluster, now=0, everything=True)] == ["drain"]
    assert not cordoned(cluster)


FORGED: dict[str, dict[str, Any]] = {  # notes that a tenant writes on an object of its own
    "of-another-pod": {"target": {"kind": "pod", "name": "victim", "namespace": "default"}},
    "of-another-namespace": {"target": {"kind": "pod", "name": "forged", "namespace": "kube-system"}},
    "of-another-uid": {"target": {"kind": "pod", "name": "forged", "namespace": "default", "uid": "x"}},
    "of-a-node": {"target": {"kind": "node", "name": "forged"}, "fault": "drain"},
    "of-a-fault-that-notes-nothing": {
        "fault": "delete-pod",
        "target": {"kind": "pod", "name": "forged", "namespace": "default"},
    },
    "of-a-workload": {"target": {"kind": "workload", "name": "forged", "namespace": "default"}, "fault": "scale"},
}


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_note_moves_nobody_to_touch_another_object(cluster: Cluster, what: str) -> None:
    forged = {**RECEIPT, "fault": "throttle", **FORGED[what]}
    made = pod("forged", "default")
    made["metadata"]["annotations"] = {"sharedfate.io/fault-1-a": json.dumps(forged)}
    made["metadata"]["labels"] = {notes.LABEL_FAULTED: "true"}
    cluster.create(made)
    assert notes.all_noted(cluster) == []
    assert undo_overdue(cluster, now=0, everything=True) == []


def test_a_note_that_came_with_a_copy_is_no_note(cluster: Cluster) -> None:
    """A controller copies a Deployment's annotations, and a roll-back brings them back: without the label."""
    target = workload_target(cluster.create(deployment("copied", "default")))
    receipt = Receipt("1-a", "r", "scale", {}, target, 1, facts={"replicas": 7})
    noted = {"metadata": {"annotations": notes.patch_with(receipt)["annotations"]}}
    cluster.patch("Deployment", "copied", noted, "default")
    assert notes.all_noted(cluster) == []
    cluster.patch("Deployment", "copied", {"metadata": notes.patch_with(receipt)}, "default")
    assert notes.all_noted(cluster) == [receipt]


def test_an_unreadable_note_is_told_of_and_refuses_another_fault(cluster: Cluster) -> None:
    target = node(cluster)
    broken = {"annotations": {"sharedfate.io/fault-1-a": "{"}, "labels": {notes.LABEL_FAULTED: "true"}}
    cluster.patch("Node", "n1", {"metadata": broken})
    assert [type(one) for one in notes.all_noted(cluster)] == [UnreadableReceipt]
    with pytest.raises(Misuse, match="cannot be read"), inject_all(cluster, [(Drain(), target)], run="r"):
        pytest.fail("the block must not run")
    with pytest.raises(ExceptionGroup, match="1 receipts could not be read"):
        undo_overdue(cluster, now=0, everything=True)


def test_where_our_namespace_is_not_there_a_fault_is_refused_with_the_next_step(world: World) -> None:
    class Elsewhere:
        """The cluster, with receipts sent to a namespace that is not there."""

        def create(self, obj: Any, **options: Any) -> Any:
            return world.cluster.create({**obj, "metadata": {**obj["metadata"], "namespace": "nowhere"}}, **options)

    receipt = Receipt("1-a", "r", "drain", {}, Target("node", "n1"), FOREVER)
    with pytest.raises(
        EnvironmentUnfit, match=r"no namespace sharedfate-system .*nothing was changed.*sharedfate render"
    ):
        receipts.store(cast(Cluster, Elsewhere()), receipt)


def test_an_undo_that_takes_its_time_keeps_no_other_fault_standing(cluster: Cluster) -> None:
    """Without nodes no pod becomes ready again: the undo of a scaling waits as long as it may, and fails."""
    begin(cluster, Drain(), node(cluster), run="r", seconds=60)
    for name in ("one", "two", "three"):  # newer than the drain, and undone before it if one after the other
        made = cluster.create(deployment(name, "default", replicas=2))
        begin(cluster, Scale(seconds=3), workload_target(made), run="r", seconds=60)
    told: list[str] = []
    with pytest.raises(ExceptionGroup, match="1 faults were undone, and 3"):
        undo_overdue(cluster, now=0, everything=True, done=lambda receipt: told.append(receipt.fault))
    assert told == ["drain"]
    began = time.monotonic()
    with pytest.raises(ExceptionGroup):
        undo_overdue(cluster, now=0, everything=True)
    assert time.monotonic() - began < 3 * 3, "one after the other"
