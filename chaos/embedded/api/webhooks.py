"""Call webhooks: mutating ones one after another, validating ones all at once.

Configurations are ordered by name, webhooks by their order in them. When a webhook changed the object, the built-in
plugins run again, and then, once, each webhook with `reinvocationPolicy: IfNeeded` that ran before the change
(k8s.io/apiserver/pkg/admission/plugin/webhook/{mutating,validating}/dispatcher.go).
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import orjson

from chaos.embedded.api import decode, matching
from chaos.embedded.api.asked import Again, Asked, Json
from chaos.embedded.api.defaults import apply_defaults
from chaos.embedded.api.errors import StatusError, bad_request
from chaos.embedded.api.json_patch import DoesNotApply, apply_json_patch
from chaos.embedded.api.webhook_review import (
    Answer,
    BadAnswer,
    denial,
    failure,
    internal,
    read_answer,
    review,
    version_of,
)
from chaos.embedded.resources import MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS, Resource
from chaos.embedded.store import Store, copy

_MUTATION: Final = "mutation.webhook.admission.k8s.io/"
_VALIDATION: Final = "validating.webhook.admission.k8s.io/"

log = logging.getLogger(__name__)


class NotCalled(Exception):
    """The webhook could not be called; the text says why, in the words of Kubernetes' client."""


class Caller(Protocol):
    """Sends a review to a webhook and returns the response's body."""

    async def call(self, client: Mapping[str, Any], body: bytes, seconds: int) -> bytes:
        """Call a webhook; raises NotCalled."""
        ...


@dataclass(frozen=True, slots=True)
class Hook:
    """One webhook of one configuration. `index` is its place among all of its kind."""

    configuration: str
    index: int
    spec: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def key(self) -> tuple[str, str]:
        return self.configuration, self.name

    @property
    def ignores_failure(self) -> bool:
        return bool(self.spec.get("failurePolicy") == "Ignore")


@dataclass(frozen=True, slots=True)
class Invocation:
    """A webhook to call, and the resource as which the request matched."""

    hook: Hook
    resource: Resource


Conditions = Callable[
    [Mapping[str, Any], Asked, Resource], bool
]  # a webhook's matchConditions hold; raises StatusError


class Webhooks:
    """The webhooks of a store's configurations."""

    def __init__(self, store: Store, caller: Caller, conditions: Conditions) -> None:
        self._store = store
        self._caller = caller
        self._conditions = conditions

    def _hooks(self, resource: Resource) -> Iterator[Hook]:
        index = 0
        for configuration in self._store.list(resource):
            for spec in configuration.get("webhooks") or []:
                yield Hook(configuration["metadata"]["name"], index, spec)
                index += 1

    def concerns(self, asked: Asked) -> bool:
        """Whether a rule of any webhook matches; selectors and conditions may change and are not evaluated."""
        return not matching.is_exempt(asked) and any(
            matching.matched_resource(self._store, hook.spec, hook.spec.get("rules") or [], asked) is not None
            for kind in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS)
            for hook in self._hooks(kind)
        )

    def _invocation(self, hook: Hook, asked: Asked) -> Invocation | None:
        """The invocation of a webhook; None when it does not match. StatusError where that is undecidable."""
        spec, missing = hook.spec, None
        try:
            if not matching.in_namespace(self._store, spec.get("namespaceSelector") or {}, asked):
                return None
        except StatusError as error:  # a webhook that does not apply must not make the request fail
            missing = error
        if not matching.is_chosen(spec.get("objectSelector") or {}, asked):
            return None
        resource = matching.matched_resource(self._store, spec, spec.get("rules") or [], asked)
        if resource is None:
            return None
        if missing is not None:
            raise missing
        return Invocation(hook, resource) if self._conditions(spec, asked, resource) else None

    # ---- mutating

    async def mutate(self, asked: Asked, again: Again) -> Json | None:
        """Call mutating webhooks; the changed object. Raises StatusError when one denies or fails closed."""
        if matching.is_exempt(asked):
            return asked.object
        spoke: set[tuple[str, str]] = set()  # may be asked again, and have spoken before the last change
        due: set[tuple[str, str]] = set()  # to be asked again
        changed = False
        for turn in (0, 1):
            for hook in tuple(self._hooks(MUTATING_WEBHOOKS)):
                if turn and hook.key not in due:
                    continue
                invocation = self._invocation(hook, asked)
                if invocation is None:
                    continue
                new = await self._mutated(invocation, asked, turn)
                if new != asked.object:
                    asked, changed = replace(asked, object=new), True
                    due |= spoke
                    spoke = set()
                if hook.spec.get("reinvocationPolicy") == "IfNeeded":
                    spoke.add(hook.key)
            if not changed or turn or asked.object is None:
                break
            seen = copy(asked.object)
            again(seen)
            if seen != asked.object:
                asked = replace(asked, object=seen)
                due |= spoke
        return asked.object

    async def _mutated(self, invocation: Invocation, asked: Asked, turn: int) -> Json | None:
        hook, notes = invocation.hook, asked.said.annotations
        place = f"round_{turn}_index_{hook.index}"
        new = asked.object
        try:
            answer = await self._ask(invocation, asked, mutating=True)
            new = _patched(invocation, asked, answer)
        except (NotCalled, BadAnswer) as error:
            if not hook.ignores_failure:
                raise failure(hook.name, str(error)) from None
            log.warning("Failed calling webhook, failing open %s: %s", hook.name, error)
            notes[f"failed-open.{_MUTATION}{place}"] = hook.name
        about = {"configuration": hook.configuration, "webhook": hook.name}
        notes[f"{_MUTATION}{place}"] = orjson.dumps(about | {"mutated": new != asked.object}).decode()
        return new

    # ---- validating

    async def validate(self, asked: Asked) -> None:
        """Call all validating webhooks at once; raises StatusError of the first that denies or fails closed."""
        if matching.is_exempt(asked):
            return
        invocations = [
            found for hook in self._hooks(VALIDATING_WEBHOOKS) if (found := self._invocation(hook, asked)) is not None
        ]
        if not invocations:
            return
        calls = [self._validated(one, asked, index) for index, one in enumerate(invocations)]
        refusals = [one for one in await asyncio.gather(*calls) if one is not None]
        if refusals:
            raise refusals[0]

    async def _validated(self, invocation: Invocation, asked: Asked, index: int) -> StatusError | None:
        hook = invocation.hook
        try:
            await self._ask(invocation, asked, mutating=False)
        except StatusError as error:
            return error
        except (NotCalled, BadAnswer) as error:
            if not hook.ignores_failure:
                return failure(hook.name, str(error))
            log.warning("Failed calling webhook, failing open %s: %s", hook.name, error)
            asked.said.annotations[f"failed-open.{_VALIDATION}round_0_index_{index}"] = hook.name
        return None

    # ---- one call

    async def _ask(self, invocation: Invocation, asked: Asked, *, mutating: bool) -> Answer:
        """A webhook's allowing answer. Raises StatusError for a denial; NotCalled, BadAnswer for no valid answer."""
        hook = invocation.hook
        if asked.dry and hook.spec.get("sideEffects") not in ("None", "NoneOnDryRun"):
            raise bad_request(f'admission webhook "{hook.name}" does not support dry run')
        version, uid = version_of(hook.spec["admissionReviewVersions"]), str(uuid.uuid4())
        resource = invocation.resource
        as_matched = replace(asked, object=in_version(resource, asked.object), old=in_version(resource, asked.old))
        body = orjson.dumps(review(as_matched, resource, uid, version))
        got = await self._caller.call(hook.spec["clientConfig"], body, int(hook.spec["timeoutSeconds"]))
        answer = read_answer(got, uid=uid, version=version, mutating=mutating)
        for key, value in answer.annotations.items():
            asked.said.annotations[f"{hook.name}/{key}"] = value
        for text in answer.warnings:
            asked.said.warn(text)
        if not answer.allowed:
            raise denial(hook.name, answer.result)
        return answer


def _patched(invocation: Invocation, asked: Asked, answer: Answer) -> Json | None:
    """Apply the answer's patch; raises StatusError 500 when it does not apply, whatever the failurePolicy."""
    if not answer.patch:
        return asked.object
    if asked.object is None:
        why = f'admission webhook "{invocation.hook.name}" attempted to modify the object'
        raise internal(f"{why}, which is not supported for this operation")
    try:
        new = apply_json_patch(in_version(invocation.resource, asked.object), answer.patch)
    except DoesNotApply as error:
        raise internal(str(error)) from None
    return _typed(asked, in_version(asked.resource, new))


def in_version(resource: Resource, obj: Any) -> Any:
    """A custom object in that version: conversion changes only apiVersion."""
    if resource.custom is None or not isinstance(obj, Mapping):
        return obj
    return {**obj, "apiVersion": resource.api_version}


def _typed(asked: Asked, new: Any) -> Json:
    """A patch's result as an object of its kind, pruned and defaulted; raises StatusError 500 for an invalid one."""
    group, version, kind = asked.object_kind
    resource = asked.resource if kind == asked.resource.kind else Resource(group, version, kind, f"{kind.lower()}s")
    try:
        found, _ = decode.decoded(resource, new)
    except StatusError as error:
        raise internal(error.message.partition(f"cannot be handled as a {kind}: ")[2] or error.message) from None
    if resource.custom is None:
        apply_defaults(kind, found)
    return found
