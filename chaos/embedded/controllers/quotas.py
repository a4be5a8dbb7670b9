"""ResourceQuota status: used amounts, as Kubernetes' resourcequota controller computes them."""

from __future__ import annotations

from collections.abc import Sequence

from chaos.embedded.api.limits import form_of, used_of, written
from chaos.embedded.controllers.base import Controller, Keys, Source, itself
from chaos.embedded.resources import CONFIG_MAP, PERSISTENT_VOLUME_CLAIM, POD, RESOURCE_QUOTA, SECRET, SERVICE
from chaos.embedded.store import Key, WatchEvent

_SETTLE = 0.2  # seconds; a burst of pods is counted once


class QuotaUsage(Controller):
    name = "resourcequota-controller"

    def sources(self) -> Sequence[Source]:
        counted = (POD, SERVICE, CONFIG_MAP, SECRET, PERSISTENT_VOLUME_CLAIM)
        return [(RESOURCE_QUOTA, itself), *((resource, self._of_namespace) for resource in counted)]

    def _of_namespace(self, event: WatchEvent) -> Keys:
        namespace = event.object["metadata"].get("namespace", "")
        return [(namespace, quota["metadata"]["name"]) for quota in self.store.list(RESOURCE_QUOTA, namespace)]

    def enqueue(self, keys: Keys, event: WatchEvent) -> None:
        for key in keys:
            if event.object["kind"] == "ResourceQuota":
                self.queue.add(key)
            else:
                self.queue.add_after(key, _SETTLE)

    def reconcile(self, key: Key) -> float | None:
        quota = self.store.find(RESOURCE_QUOTA, *key)
        if quota is None:
            return None
        hard = (quota.get("spec") or {}).get("hard") or {}
        used = {name: written(value, form_of(name)) for name, value in used_of(self.store, quota).items()}
        status = {"hard": dict(hard), "used": used}
        if quota.get("status") != status:
            self.store.mutate(RESOURCE_QUOTA, *key, lambda new: new.update(status=status))
        return None
