"""The base of all controllers: watches feed a keyed queue, and one task reconciles the keys.

A controller declares which changes concern which keys (`sources`) and what to do with a key (`reconcile`).
Reconciling is one synchronous call on the store, which is always current, so neither caches nor expectations are
needed: a pass reads, plans, writes and returns. It may return a delay after which to run again. The queue holds a key
once however many changes asked for it; failures are retried with growing delay, as client-go's rate limiter does.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final

from chaos.embedded.api.asked import Asked, Gate, OpenGate
from chaos.embedded.api.auth import User
from chaos.embedded.api.errors import StatusError
from chaos.embedded.clock import Clock
from chaos.embedded.deletion import delete
from chaos.embedded.events import EventRecorder
from chaos.embedded.objects import condition, is_true, turned_at
from chaos.embedded.resources import POD, Object, Resource
from chaos.embedded.store import Conflict, Key, NotFound, Store, WatchEvent

Keys = Iterable[Key]
Source = tuple[Resource, Callable[[WatchEvent], Keys]]
BURST: Final = 8  # objects that one pass creates or deletes before it lets others run
_RETRY_FIRST, _RETRY_MOST = 0.005, 30.0

log = logging.getLogger(__name__)


class WorkQueue:
    """Keys in order of arrival, each once; a key may also be delayed (the earliest request counts)."""

    def __init__(self) -> None:
        self._ready: dict[Key, None] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._arrived = asyncio.Event()

    def add(self, key: Key) -> None:
        self._ready[key] = None
        self._arrived.set()

    def add_after(self, key: Key, seconds: float) -> None:
        if seconds <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        pending = self._timers.get(key)
        if pending is not None:
            if pending.when() <= due:
                return
            pending.cancel()
        self._timers[key] = loop.call_at(due, self._fire, key)

    def _fire(self, key: Key) -> None:
        del self._timers[key]
        self.add(key)

    async def get(self) -> Key:
        while not self._ready:
            self._arrived.clear()
            await self._arrived.wait()
        key = next(iter(self._ready))
        del self._ready[key]
        return key

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()


class Unasked(Exception):
    """A pass is about to create an object that webhooks must review first; the pass runs again afterwards."""

    def __init__(self, asked: Asked) -> None:
        super().__init__(f"webhooks must review the {asked.resource.kind} first")
        self.asked = asked


@dataclass(frozen=True, slots=True)
class _Answered:
    """The result of a webhook review: the admitted object, or the refusal."""

    resource: Resource
    wanted: Mapping[str, Any]
    outcome: dict[str, Any] | StatusError


class Controller(ABC):
    """Base of the controllers; a subclass defines `name`, `sources` and `reconcile`.

    A pass is synchronous and webhooks are not: a pass that would create an object which webhooks review ends there, the
    key waits until they have answered, and the next pass, which plans afresh, finds the answer for the same object.
    """

    name: ClassVar[str]
    account: ClassVar[str] = ""  # its service account, where that is not called by its name
    event_instance: ClassVar[str | None] = None

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.recorder = EventRecorder(store, self.name, instance=self.event_instance, clock=clock)
        self.queue = WorkQueue()
        self.gate: Gate = OpenGate()
        self._key: Key = ("", "")  # of the pass
        self._asking: dict[Key, asyncio.Task[None]] = {}
        self._answers: dict[Key, _Answered] = {}

    @abstractmethod
    def sources(self) -> Sequence[Source]:
        """The watched kinds, each with the keys that one of its changes concerns."""

    def source_of(self, resource: Resource) -> Source | None:
        """The source for a custom kind; overridden by controllers of all kinds."""
        return None

    @abstractmethod
    def reconcile(self, key: Key) -> float | None:
        """Bring one object closer to its desired state; seconds until the next pass, or None."""

    def enqueue(self, keys: Keys, event: WatchEvent) -> None:
        """Queue keys for a change; overridden where changes are batched."""
        for key in keys:
            self.queue.add(key)

    async def run(self) -> None:
        """Watch and reconcile until cancelled."""
        pumps = {
            (resource.group, resource.plural): self._pumping(resource, concerned)
            for resource, concerned in self.sources()
        }
        arrivals = asyncio.create_task(self._arrivals(pumps), name=f"{self.name}:kinds")
        try:
            await self._work()
        finally:
            for pump in (arrivals, *pumps.values()):
                pump.cancel()
            for asking in self._asking.values():
                asking.cancel()
            self.queue.close()

    def _pumping(self, resource: Resource, concerned: Callable[[WatchEvent], Keys]) -> asyncio.Task[None]:
        return asyncio.create_task(self._pump(resource, concerned), name=f"{self.name}:{resource.plural}")

    async def _arrivals(self, pumps: dict[tuple[str, str], asyncio.Task[None]]) -> None:
        """Watch custom kinds as they are defined."""
        async for resource in self.store.kinds.arrivals():
            source = self.source_of(resource)
            if source is not None and (resource.group, resource.plural) not in pumps:
                pumps[resource.group, resource.plural] = self._pumping(*source)

    async def _pump(self, resource: Resource, concerned: Callable[[WatchEvent], Keys]) -> None:
        while True:  # a watch that is too far behind is closed: what it missed is listed
            with self.store.watch(resource) as watch:
                for obj in self.store.list(resource):
                    self._feed(concerned, WatchEvent("ADDED", obj, int(obj["metadata"]["resourceVersion"])))
                async for event in watch:
                    self._feed(concerned, event)

    def _feed(self, concerned: Callable[[WatchEvent], Keys], event: WatchEvent) -> None:
        try:
            self.enqueue(concerned(event), event)
        except Exception:  # as in `_work`: one odd object must not make the controller deaf
            log.exception("%s: cannot tell which objects a change of %s/%s affects", self.name, *key_of(event.object))

    async def _work(self) -> None:
        failures: dict[Key, int] = {}
        while True:
            key = await self.queue.get()
            if key in self._asking:  # it comes again with the answer
                continue
            self._key = key
            try:
                again = self.reconcile(key)
            except Unasked as error:
                again = None
                self._asking[key] = asyncio.create_task(self._ask(key, error.asked), name=f"{self.name}: asking")
            except (Conflict, NotFound, StatusError) as error:
                again = self._retry(failures, key, error, logging.DEBUG)
            except Exception as error:  # whatever an object provokes must not stop the work on the others
                again = self._retry(failures, key, error, logging.ERROR)
            else:
                failures.pop(key, None)
            self._answers.pop(key, None)  # the pass did not want it any more
            if again is not None:
                self.queue.add_after(key, again)
            await asyncio.sleep(0)

    def _retry(self, failures: dict[Key, int], key: Key, error: Exception, level: int) -> float:
        count = failures[key] = failures.get(key, 0) + 1
        log.log(level, "%s: %s/%s failed %d times: %r", self.name, *key, count, error, exc_info=level > logging.INFO)
        return float(min(_RETRY_MOST, _RETRY_FIRST * 2 ** min(count, 20)))

    # ---- what most reconcilers need

    def create(self, resource: Resource, obj: Mapping[str, Any]) -> Object:
        """Create through admission, as a client of the API server would.

        Raises StatusError when refused, and Unasked (never to be caught) when webhooks must review the object first.
        """
        from chaos.embedded.api.admission import admit_create, check_quota

        asked = self._asked_of(resource, obj)
        if not self.gate.concerns(asked):
            return self.store.create(resource, admit_create(self.store, resource, obj))
        held = self._answers.pop(self._key, None)
        if held is None or (held.resource, held.wanted) != (resource, obj):
            raise Unasked(asked)
        if isinstance(held.outcome, StatusError):
            raise held.outcome
        check_quota(self.store, resource, held.outcome)
        return self.store.create(resource, held.outcome)

    def _asked_of(self, resource: Resource, obj: Mapping[str, Any]) -> Asked:
        accounts = "system:serviceaccounts"
        user = User(
            f"system:serviceaccount:kube-system:{self.account or self.name}",
            (accounts, f"{accounts}:kube-system", "system:authenticated"),
        )
        meta = obj["metadata"]
        options = {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"}
        return Asked(
            "CREATE", resource, user, meta.get("namespace", ""), meta.get("name", ""), object=dict(obj), options=options
        )

    async def _ask(self, key: Key, asked: Asked) -> None:
        from chaos.embedded.api.admission import admit_create_asking

        wanted: dict[str, Any] = asked.object or {}
        outcome: dict[str, Any] | StatusError
        try:
            outcome = await admit_create_asking(self.store, self.gate, asked)
        except StatusError as error:
            outcome = error
        finally:
            del self._asking[key]
            self.queue.add(key)  # also after a fault of ours: the pass is made again
        self._answers[key] = _Answered(asked.resource, wanted, outcome)

    def delete(self, resource: Resource, obj: Object, **options: Any) -> None:
        """Delete this very object; no error when it is gone."""
        meta = obj["metadata"]
        try:
            delete(
                self.store,
                resource,
                meta.get("namespace", ""),
                meta["name"],
                uid=meta["uid"],
                clock=self.clock,
                **options,
            )
        except (NotFound, Conflict):
            return

    def set_status(self, resource: Resource, obj: Object, status: Mapping[str, Any]) -> Object:
        """Store a new status if it differs."""
        if obj.get("status") == status:
            return obj
        meta = obj["metadata"]
        return self.store.mutate(
            resource,
            meta.get("namespace", ""),
            meta["name"],
            lambda new: new.__setitem__("status", dict(status)),
            uid=meta["uid"],
        )

    def claim(self, owner_resource: Resource, owner: Object, resource: Resource = POD) -> list[Object]:
        """The objects that `owner` controls: adopt matching orphans, release what no longer matches."""
        from chaos.embedded.controllers.labels import matches

        meta = owner["metadata"]
        claimed = []
        for obj in self.store.list(resource, meta["namespace"]):
            held = controller_of(obj)
            fits = matches(owner["spec"]["selector"], obj["metadata"].get("labels"))
            if held is not None:
                if held["uid"] != meta["uid"]:
                    continue
                if fits or "deletionTimestamp" in meta:
                    claimed.append(obj)
                else:
                    self._patch(resource, obj, lambda new: _release(new, meta["uid"]))
            elif fits and "deletionTimestamp" not in meta and "deletionTimestamp" not in obj["metadata"]:
                claimed.append(self._patch(resource, obj, lambda new: _adopt(new, owner_resource, owner)))
        return claimed

    def _patch(self, resource: Resource, obj: Object, change: Callable[[dict[str, Any]], None]) -> Object:
        meta = obj["metadata"]
        return self.store.mutate(resource, meta.get("namespace", ""), meta["name"], change, uid=meta["uid"])


def _release(obj: dict[str, Any], uid: str) -> None:
    kept = [ref for ref in obj["metadata"]["ownerReferences"] if ref["uid"] != uid]
    if kept:
        obj["metadata"]["ownerReferences"] = kept
    else:
        del obj["metadata"]["ownerReferences"]


def _adopt(obj: dict[str, Any], owner_resource: Resource, owner: Object) -> None:
    obj["metadata"].setdefault("ownerReferences", []).append(owner_reference(owner_resource, owner))


def owner_reference(resource: Resource, owner: Object) -> dict[str, Any]:
    """The reference of a controlled object to its controller."""
    meta = owner["metadata"]
    return {
        "apiVersion": resource.api_version,
        "blockOwnerDeletion": True,
        "controller": True,
        "kind": resource.kind,
        "name": meta["name"],
        "uid": meta["uid"],
    }


def controller_of(obj: Object) -> Mapping[str, Any] | None:
    """The owner reference with `controller: true`."""
    for ref in obj["metadata"].get("ownerReferences", ()):
        if ref.get("controller"):
            return ref  # type: ignore[no-any-return]
    return None


def key_of(obj: Object) -> Key:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def itself(event: WatchEvent) -> Keys:
    """Map a change to the changed object."""
    return [key_of(event.object)]


def its_controller(kind: str) -> Callable[[WatchEvent], Keys]:
    """Map a change to the object's controller of this kind, before and after the change."""

    def keys(event: WatchEvent) -> Iterator[Key]:
        for obj in (event.object, event.before):
            ref = controller_of(obj) if obj is not None else None
            if ref is not None and ref["kind"] == kind:
                yield event.object["metadata"]["namespace"], ref["name"]

    return keys


def its_controller_or_adopter(store: Store, resource: Resource) -> Callable[[WatchEvent], Keys]:
    """As `its_controller`; maps an orphan to every owner of this kind whose selector matches it."""
    from chaos.embedded.controllers.labels import matches

    known = its_controller(resource.kind)

    def keys(event: WatchEvent) -> Iterator[Key]:
        yield from known(event)
        meta = event.object["metadata"]
        if controller_of(event.object) is None and meta.get("labels") and event.type != "DELETED":
            for owner in store.list(resource, meta["namespace"]):
                if matches(owner["spec"].get("selector"), meta["labels"]):
                    yield key_of(owner)

    return keys


# ---- pods as controllers see them


def is_ready(pod: Object) -> bool:
    return is_true(pod, "Ready")


def is_terminating(obj: Object) -> bool:
    return "deletionTimestamp" in obj["metadata"]


def phase(pod: Object) -> str:
    return str(pod.get("status", {}).get("phase", "Pending"))


def is_finished(pod: Object) -> bool:
    return phase(pod) in ("Succeeded", "Failed")


def is_active(pod: Object) -> bool:
    """Whether the pod is neither finished nor being deleted."""
    return not is_finished(pod) and not is_terminating(pod)


def available_in(pod: Object, min_ready_seconds: int, now: datetime) -> float | None:
    """Seconds until a ready pod counts as available (0: it does); None when it is not ready, or its transition is
    unknown and matters (IsPodAvailable: a zero time never counts).
    """
    ready = condition(pod, "Ready")
    if ready is None or ready["status"] != "True":
        return None
    if not min_ready_seconds:
        return 0.0
    since = turned_at(ready)
    return max(0.0, min_ready_seconds - (now - since).total_seconds()) if since is not None else None


def pod_from_template(template: Mapping[str, Any], *, owner_resource: Resource, owner: Object) -> dict[str, Any]:
    """A new pod of a workload, named by the API server."""
    from chaos.embedded.store import copy

    pod = copy(template)
    old = pod.get("metadata", {})
    meta: dict[str, Any] = {
        "generateName": owner["metadata"]["name"] + "-",
        "namespace": owner["metadata"]["namespace"],
        "ownerReferences": [owner_reference(owner_resource, owner)],
    }
    for field in ("labels", "annotations", "finalizers"):
        if old.get(field):
            meta[field] = old[field]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod["spec"], "status": {"phase": "Pending"}}


def fnv32(data: bytes) -> int:
    """FNV-1a, with which Kubernetes hashes templates (it hashes another serialisation, so the values differ)."""
    value = 0x811C9DC5
    for byte in data:
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


_SAFE: Final = "bcdfghjklmnpqrstvwxz2456789"


def safe_hash(value: Any, collisions: int | None = None) -> str:
    """A short name-safe hash of JSON (k8s.io/apimachinery rand.SafeEncodeString of the decimal FNV)."""
    import orjson

    data = orjson.dumps(value, option=orjson.OPT_SORT_KEYS) + (str(collisions).encode() if collisions else b"")
    return "".join(_SAFE[ord(digit) % len(_SAFE)] for digit in str(fnv32(data)))
