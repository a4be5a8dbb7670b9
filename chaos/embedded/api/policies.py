"""ValidatingAdmissionPolicies with their bindings: matching and evaluation.

After k8s.io/apiserver/pkg/admission/plugin/policy/validating (dispatcher.go, validator.go): the first denial, by the
names of policies and then of bindings, is the answer; warnings and audit annotations of the others still count.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from chaos.embedded.api import cel, cel_authorizer, conditions, matching
from chaos.embedded.api.asked import Asked
from chaos.embedded.api.auth import Authorizer
from chaos.embedded.api.errors import StatusError
from chaos.embedded.controllers.labels import matches as labels_match
from chaos.embedded.resources import POLICY_BINDING, VALIDATING_POLICY, Object, Resource
from chaos.embedded.store import Store

_CODES: Final = {"Unauthorized": 401, "Forbidden": 403, "RequestEntityTooLarge": 413, "Invalid": 422}
_LONGEST_MESSAGE: Final = 5 * 1024
_LONGEST_ANNOTATION: Final = 10 * 1024
_FAILURE: Final = "validation.policy.admission.k8s.io/validation_failure"

Kinds = Callable[[str, str], Resource | None]  # apiVersion and kind of params to the resource that is served


class Misconfigured(ValueError):
    """A policy or binding that cannot be evaluated."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One denial. `index` is the validation's; errors have no reason."""

    message: str
    reason: str = ""
    index: int = 0


@dataclass(frozen=True, slots=True)
class _Refusal:
    policy: str
    binding: str
    decision: Decision

    def __str__(self) -> str:
        by = f"ValidatingAdmissionPolicy '{self.policy}'" + (f" with binding '{self.binding}'" if self.binding else "")
        return f"{by} denied request: {self.decision.message}"


class Policies:
    """The policies of a store. `kinds` resolves a paramKind."""

    def __init__(self, store: Store, kinds: Kinds) -> None:
        self._store = store
        self._kinds = kinds
        self._authorizer = Authorizer(store)

    def concerns(self, asked: Asked) -> bool:
        """Whether a policy with a binding may match the request."""
        return not matching.is_exempt(asked) and any(
            matching.matched_resource(self._store, constraints, constraints.get("resourceRules") or [], asked)
            is not None
            for policy, _ in self._bound()
            for constraints in [policy["spec"].get("matchConstraints") or {}]
        )

    def _bound(self) -> Iterator[tuple[Object, list[Object]]]:
        bindings = self._store.list(POLICY_BINDING)
        for policy in self._store.list(VALIDATING_POLICY) if bindings else ():
            own = [one for one in bindings if one["spec"].get("policyName") == policy["metadata"]["name"]]
            if own:
                yield policy, own

    def validate(self, asked: Asked) -> None:
        """Return, or raise StatusError of the first denial."""
        if matching.is_exempt(asked):
            return
        refusals: list[_Refusal] = []
        with cel_authorizer.answering(self._authorizer):
            for policy, bindings in self._bound():
                refusals += self._of_policy(policy, bindings, asked)
        if refusals:
            first = refusals[0]
            reason = first.decision.reason or "Invalid"
            raise conditions.refused_by(asked, str(first), code=_CODES.get(reason, 422), reason=reason)

    def _of_policy(self, policy: Object, bindings: Sequence[Object], asked: Asked) -> Iterator[_Refusal]:
        name, spec = policy["metadata"]["name"], policy["spec"]
        ignore = spec.get("failurePolicy") == "Ignore"
        try:
            resource = self._meant(spec.get("matchConstraints") or {}, asked)
        except StatusError as error:
            if not ignore:
                yield _Refusal(name, "", Decision(f"failed to configure policy: {error.message}"))
            return
        if resource is None:
            return
        annotations: dict[str, list[str]] = {}
        for binding in bindings:
            bound = binding["metadata"]["name"]
            try:
                within = binding["spec"].get("matchResources")
                if within is not None and self._meant(within, asked) is None:
                    continue
                params = self._params(spec.get("paramKind"), binding["spec"].get("paramRef"), asked)
            except (Misconfigured, StatusError) as error:
                if not ignore:
                    yield _Refusal(name, bound, Decision(f"failed to configure binding: {error}"))
                continue
            for param in params:
                evaluation = _Evaluation(self._store, policy, asked, resource, param)
                for decision in evaluation.decisions():
                    yield from self._act(policy, binding, decision, asked)
                for key, value in evaluation.annotations():
                    if isinstance(value, Decision):
                        yield _Refusal(name, bound, value)
                    elif value not in annotations.setdefault(key, []):
                        annotations[key].append(value)
        for key, texts in annotations.items():
            asked.said.annotations[f"{name}/{key}"] = ", ".join(texts)

    def _act(self, policy: Object, binding: Object, decision: Decision, asked: Asked) -> Iterator[_Refusal]:
        name, bound = policy["metadata"]["name"], binding["metadata"]["name"]
        actions = binding["spec"].get("validationActions") or []
        for action in actions:
            if action == "Deny":
                yield _Refusal(name, bound, decision)
            elif action == "Warn":
                where = f"ValidatingAdmissionPolicy '{name}' with binding '{bound}'"
                asked.said.warn(f"Validation failed for {where}: {decision.message}")
            elif action == "Audit":
                told = {
                    "message": decision.message,
                    "policy": name,
                    "binding": bound,
                    "expressionIndex": decision.index,
                    "validationActions": actions,
                }
                asked.said.annotations.setdefault(_FAILURE, orjson.dumps([told]).decode())

    def _meant(self, match: Mapping[str, Any], asked: Asked) -> Resource | None:
        """The resource as which the request matches; a binding without rules uses its policy's."""
        if not matching.in_namespace(self._store, match.get("namespaceSelector") or {}, asked):
            return None
        if not matching.is_chosen(match.get("objectSelector") or {}, asked):
            return None
        excluded, rules = match.get("excludeResourceRules") or [], match.get("resourceRules") or []
        if excluded and matching.matched_resource(self._store, match, excluded, asked) is not None:
            return None
        return matching.matched_resource(self._store, match, rules, asked) if rules else asked.resource

    def _params(
        self, kind: Mapping[str, str] | None, reference: Mapping[str, Any] | None, asked: Asked
    ) -> Sequence[Object | None]:
        """The parameter objects to evaluate the policy with; raises Misconfigured where one is required."""
        if kind is None or reference is None:
            return [None]
        resource = self._kinds(kind["apiVersion"], kind["kind"])
        if resource is None:
            raise Misconfigured(f"paramKind kind `{kind['apiVersion']}, Kind={kind['kind']}` not known")
        namespace = reference.get("namespace") or asked.namespace
        if not resource.namespaced:
            if reference.get("namespace"):
                raise Misconfigured("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
            namespace = ""
        elif not namespace:
            what = "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
            raise Misconfigured(what)
        if name := reference.get("name"):
            one = self._store.find(resource, namespace, name)
            found = [] if one is None else [one]
        else:
            selector = reference.get("selector") or {}
            found = [
                one
                for one in self._store.list(resource, namespace)
                if labels_match(selector, one["metadata"].get("labels"))
            ]
        if not found and reference.get("parameterNotFoundAction") == "Deny":
            raise Misconfigured("no params found for policy binding with `Deny` parameterNotFoundAction")
        return found


class _Evaluation:
    """The evaluation of one policy for one request and one parameter object."""

    def __init__(self, store: Store, policy: Object, asked: Asked, resource: Resource, param: Object | None) -> None:
        self._spec = policy["spec"]
        self._ignore = self._spec.get("failurePolicy") == "Ignore"
        self._held = conditions.values(store, asked, resource)
        has_params = self._spec.get("paramKind") is not None
        if has_params:
            self._held["params"] = None if param is None else dict(param)
        variables = tuple((one["name"], one["expression"]) for one in self._spec.get("variables") or []) or None
        self._names = tuple(name for name, _ in variables or ())
        self._scope = conditions.scope(params=has_params, variables=variables)
        self._messages = conditions.scope(params=has_params, variables=variables, message=True)
        self._matched: bool | None = None
        self._trouble: Decision | None = None

    def _applies(self) -> bool:
        if self._matched is None:
            where = conditions.scope(params=self._spec.get("paramKind") is not None)
            asked = self._spec.get("matchConditions") or []
            try:
                self._matched = conditions.all_hold(asked, where, self._held, ignore=self._ignore)
            except cel.EvaluationFailed as error:
                self._matched, self._trouble = False, Decision(str(error))
        return self._matched

    def decisions(self) -> Iterator[Decision]:
        """A decision for every validation that fails."""
        if not self._applies():
            if self._trouble is not None:
                yield self._trouble
            return
        for index, validation in enumerate(self._spec.get("validations") or []):
            expression = validation["expression"]
            try:
                met = self._value(expression) is True
            except cel.EvaluationFailed as error:
                if not self._ignore:
                    yield Decision(str(error), index=index)
                continue
            if not met:
                yield Decision(self._message(validation), validation.get("reason") or "Invalid", index)

    def _message(self, validation: Mapping[str, Any]) -> str:
        text = ""
        if expression := validation.get("messageExpression"):
            try:
                text = str(self._value(expression, "string")).strip()
            except cel.EvaluationFailed:
                text = ""
            if "\n" in text or len(text.encode()) > _LONGEST_MESSAGE:
                text = ""
        return text or str(validation.get("message") or "").strip() or f"failed expression: {expression_of(validation)}"

    def annotations(self) -> Iterator[tuple[str, str | Decision]]:
        """Audit annotations by key; a Decision for one that cannot be evaluated."""
        for one in (self._spec.get("auditAnnotations") or []) if self._applies() else ():
            try:
                value = self._value(one["valueExpression"].strip(), "any")
            except cel.EvaluationFailed as error:
                if not self._ignore:
                    yield one["key"], Decision(str(error))
                continue
            if isinstance(value, str) and value.strip():
                yield one["key"], value.strip().encode()[:_LONGEST_ANNOTATION].decode(errors="ignore")

    def _value(self, expression: str, result: cel.Result = "bool") -> Any:
        """Evaluate an expression with its named variables, each evaluated once, on first use."""
        for name in _named(expression):
            if name in self._names and name not in self._held.get("variables", {}):
                self._define(name)
        if result == "string":
            held = {name: one for name, one in self._held.items() if name != "authorizer"}
            return conditions.evaluated(expression, self._messages, held, result)
        return conditions.evaluated(expression, self._scope, self._held, result)

    def _define(self, name: str) -> None:
        text = next(one["expression"] for one in self._spec["variables"] if one["name"] == name)
        for other in _named(text):
            if other in self._names[: self._names.index(name)] and other not in self._held.get("variables", {}):
                self._define(other)
        try:
            value = conditions.compiled(text, self._scope, "any").evaluate(self._held)
        except cel.EvaluationFailed as error:
            raise cel.EvaluationFailed(f'composited variable "{name}" fails to evaluate: {error}') from None
        self._held.setdefault("variables", {})[name] = value


def expression_of(validation: Mapping[str, Any]) -> str:
    return str(validation["expression"]).strip()


def _named(expression: str) -> list[str]:
    return re.findall(r"\bvariables\s*\.\s*(\w+)", expression)
