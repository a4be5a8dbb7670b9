"""The most that an expression can cost within a schema's bounds, by which definitions with rules too dear are refused.

The model is the published one of cel-go (checker.Cost) with Kubernetes' library and sizes (k8s.io/apiserver/pkg/cel):
an access costs 1, a text a tenth for each character that is looked at, a comprehension its step for each element. Where
no bound is declared, what fits into a request bounds it. The numbers are a contract: who is told here to write
`maxItems` is told so by every cluster. Called when a definition is validated; pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from chaos.embedded.api import cel

Schema = Mapping[str, Any]
Path = tuple[str, ...]  # a variable, then names of fields, `@items`, `@keys`, `@values`
MOST: Final = 2**64 - 1  # where every sum and product ends
REQUEST: Final = 3 << 20  # bytes of the largest request

_TRAVERSAL: Final = 0.1  # a character
_PATTERN: Final = 0.25  # a character of a regular expression
_LIST, _MAP, _MESSAGE = 10, 30, 40  # making one
_CHECK: Final = 350_000  # an authorizer's: two for each expression
_FORMAT_PATTERN: Final = 128  # characters of the longest expression of a named format
_FORMAT: Final = 64  # characters of a format's name


# ---- numbers that end at MOST


def _sum(*costs: int) -> int:
    return min(sum(costs), MOST)


def _product(one: int, other: int) -> int:
    return min(one * other, MOST)


def _scaled(size: int, factor: float) -> int:
    """The product with a factor, rounded up, as 64-bit floats have it."""
    found = float(size) * factor
    return MOST if found >= float(MOST) else math.ceil(found)


class Size(NamedTuple):
    """Least and most characters, bytes, elements or entries."""

    least: int
    most: int

    def plus(self, other: Size) -> Size:
        return Size(_sum(self.least, other.least), _sum(self.most, other.most))

    def times(self, other: Size) -> Size:
        return Size(_product(self.least, other.least), _product(self.most, other.most))

    def union(self, other: Size) -> Size:
        return Size(min(self.least, other.least), max(self.most, other.most))


_UNKNOWN: Final = Size(0, MOST)
_ONE: Final = Size(1, 1)
_EMPTY: Final = Size(MOST, 0)  # of which the union with any size is that size


# ---- what a schema allows


@dataclass(frozen=True, slots=True)
class Bounds:
    """The values that a schema allows: how many elements at most, and their least bytes as JSON."""

    kind: str
    most: int = 0
    least_bytes: int = 2
    fields: Mapping[str, Bounds] = field(default_factory=dict)
    element: Bounds | None = None

    def at(self, path: Path) -> Bounds | None:
        """The bounds of what a path below names; None where the schema does not say."""
        here: Bounds | None = self
        for step in path:
            if here is None:
                return None
            if step in ("@items", "@values"):
                here = here.element
            elif step == "@keys":
                here = _KEY if here.kind == "map" else None
            else:
                here = here.fields.get(step)
        return here


_KEY: Final = Bounds("string")
_SCALARS: Final = {"boolean": Bounds("bool", 0, 4), "number": Bounds("double", 0, 1), "integer": Bounds("int", 0, 1)}
_TIMED: Final = {  # format: kind, most characters, least bytes
    "duration": ("duration", 32, 3),
    "date": ("timestamp", 12, 12),
    "date-time": ("timestamp", 32, 21),
}


def bounds(schema: Schema) -> Bounds | None:
    """The bounds of a schema (of a resource's root: as `cel.root` makes it); None where expressions have no access."""
    if schema.get("x-kubernetes-int-or-string"):
        return Bounds("dyn", _longest(schema), 1)
    if schema.get("x-kubernetes-embedded-resource"):
        schema = cel.root(schema)
    kind = schema.get("type")
    if kind == "array":
        return _of_elements(schema, schema.get("items"), "list", "maxItems", 1)
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return _of_elements(schema, schema["additionalProperties"], "map", "maxProperties", 6)
    if kind == "object":
        return _of_fields(schema)
    if kind == "string":
        return _of_text(schema)
    return _SCALARS.get(str(kind))


def _of_elements(schema: Schema, inner: Any, kind: str, limit: str, around: int) -> Bounds | None:
    """Of a list or map, each element of which has `around` bytes beside it."""
    element = bounds(inner) if isinstance(inner, Mapping) else None
    if element is None:
        return None
    declared = schema.get(limit)
    fits = (REQUEST - 2) // (element.least_bytes + around)
    return Bounds(kind, fits if declared is None else max(declared, 0), element=element)


def _of_fields(schema: Schema) -> Bounds:
    fields, least, needed = {}, 2, set(schema.get("required") or ())
    for name, one in (schema.get("properties") or {}).items():
        if (found := bounds(one)) is None:
            continue
        if (known := cel.escape(name)) is not None:
            fields[known] = found
        if name in needed and one.get("default") is None:
            least += len(name) + found.least_bytes + 4
    return Bounds("object", 0, least, fields)


def _of_text(schema: Schema) -> Bounds:
    form = schema.get("format", "")
    if form in _TIMED:
        return Bounds(*_TIMED[form])
    if form == "byte":
        declared = schema.get("maxLength")
        return Bounds("bytes", REQUEST - 2 if declared is None else max(declared, 0))
    if schema.get("maxLength") is None and schema.get("enum"):
        return Bounds("string", max((len(one.encode()) for one in schema["enum"] if isinstance(one, str)), default=0))
    return Bounds("string", _longest(schema))


def _longest(schema: Schema) -> int:
    """Most bytes of a text: a character has up to four."""
    declared = schema.get("maxLength")
    return REQUEST - 2 if declared is None else max(declared, 0) * 4


def repeats(schema: Schema) -> int | None:
    """How many of what lies below a schema there can be for each of it; None: any number."""
    if schema.get("type") == "array":
        declared = schema.get("maxItems")
    elif schema.get("type") == "object" and schema.get("additionalProperties"):
        declared = schema.get("maxProperties")
    else:
        return 1
    return None if declared is None else max(declared, 0)


def in_request(one: Bounds) -> int:
    """How many of what has these bounds fit into a request."""
    return REQUEST // (one.least_bytes + 1)


# ---- what an expression costs


class Entries(NamedTuple):
    """Sizes of a container's keys and values."""

    kind: str
    key: Size
    value: Size

    def union(self, other: Entries) -> Entries:
        return Entries(self.kind, self.key.union(other.key), self.value.union(other.value))


class _Local(NamedTuple):
    path: Path
    size: Size | None
    entries: Entries | None


class _Call(NamedTuple):
    """One call under one overload; `costs` are the arguments'."""

    estimate: _Estimate
    node: Any
    overload: str
    target: Any
    args: Sequence[Any]
    costs: Sequence[int]

    def size(self, node: Any) -> Size:
        return self.estimate.size(node)


Costed = tuple[int, Size | None]  # the call itself and, of a text, list or map, its size


def estimated(expression: bytes, root: Bounds) -> int:
    """The most that an expression, as the runtime serializes it, can cost on values within the bounds."""
    from cel.expr import checked_pb2, syntax_pb2
    from google.protobuf import any_pb2

    packed = any_pb2.Any.FromString(expression)
    if packed.Is(syntax_pb2.ParsedExpr.DESCRIPTOR):
        return _Estimate({}, {}, root).cost(syntax_pb2.ParsedExpr.FromString(packed.value).expr)
    checked = checked_pb2.CheckedExpr.FromString(packed.value)
    return _Estimate(checked.type_map, checked.reference_map, root).cost(checked.expr)


class _Estimate:
    """The walk over one expression, which notes where its parts come from and how large they are."""

    def __init__(self, types: Mapping[int, Any], references: Mapping[int, Any], root: Bounds) -> None:
        self._types, self._references, self._root = types, references, root
        self._paths: dict[int, Path] = {}
        self._sizes: dict[int, Size] = {}
        self._entries: dict[int, Entries] = {}
        self._locals: dict[str, list[_Local]] = {}

    def cost(self, node: Any) -> int:
        form = node.WhichOneof("expr_kind")
        return self._FORMS[form](self, node) if form in self._FORMS else 0

    # -- what is known of a part

    def _local(self, node: Any) -> _Local | None:
        stack = self._locals.get(node.ident_expr.name) if node.WhichOneof("expr_kind") == "ident_expr" else None
        return stack[-1] if stack else None

    def path(self, node: Any) -> Path:
        local = self._local(node)
        return local.path if local is not None else self._paths.get(node.id, ())

    def declared(self, path: Path) -> Bounds | None:
        """The bounds of what a path names; the variable, whichever it is, is the root."""
        return self._root.at(path[1:]) if path else None

    def kind(self, node: Any) -> str:
        """The kind of a part's type: by the schema where it is of there, else by the check."""
        found = self.declared(self.path(node))
        return found.kind if found is not None else _kind(self._types.get(node.id))

    def known_size(self, node: Any) -> Size | None:
        if node.id in self._sizes:
            return self._sizes[node.id]
        if (written := _written_size(node)) is not None:
            return written
        if (found := self.declared(self.path(node))) is not None:
            self._sizes[node.id] = Size(0, found.most)
            return self._sizes[node.id]
        if _is_scalar(self._types.get(node.id)):
            return _ONE
        local = self._local(node)
        return None if local is None else local.size

    def size(self, node: Any) -> Size:
        return self.known_size(node) or _UNKNOWN

    def entries(self, node: Any) -> Entries | None:
        if node.id in self._entries:
            return self._entries[node.id]
        local = self._local(node)
        return None if local is None else local.entries

    def element(self, node: Any) -> tuple[str, Size] | None:
        """The kind and size of a list's elements; None of what is no list."""
        path = self.path(node)
        if (found := self.declared((*path, "@items") if path else ())) is not None:
            return found.kind, Size(0, found.most)
        kind = self._types.get(node.id)
        if kind is None or kind.WhichOneof("type_kind") not in ("list_type", "map_type"):
            return None
        inner = kind.list_type.elem_type if kind.HasField("list_type") else kind.map_type.key_type
        return _kind(inner), _UNKNOWN

    def note(self, node: Any, size: Size | None, entries: Entries | None = None) -> None:
        if size is not None:
            self._sizes[node.id] = size
        if entries is not None:
            self._entries[node.id] = entries

    # -- the forms of an expression

    def _constant(self, node: Any) -> int:
        return 0

    def _name(self, node: Any) -> int:
        local = self._local(node)
        self._paths[node.id] = (node.ident_expr.name,) if local is None else local.path
        return 1

    def _select(self, node: Any) -> int:
        operand = node.select_expr.operand
        cost = self.cost(operand)
        if node.select_expr.test_only:
            return cost
        self._paths[node.id] = (*self.path(operand), node.select_expr.field)
        return _sum(cost, self.kind(operand) in ("map", "object"))

    def _list(self, node: Any) -> int:
        elements = node.list_expr.elements
        cost = _sum(_LIST, *(self.cost(one) for one in elements))
        self.note(node, None, Entries("list", _ONE, self._sizes_of(elements)))
        return cost

    def _struct(self, node: Any) -> int:
        made = node.struct_expr
        if made.message_name:
            return _sum(_MESSAGE, *(self.cost(entry.value) for entry in made.entries))
        costs = [self.cost(part) for entry in made.entries for part in (entry.map_key, entry.value)]
        keys = self._sizes_of([entry.map_key for entry in made.entries])
        self.note(node, None, Entries("map", keys, self._sizes_of([entry.value for entry in made.entries])))
        return _sum(_MAP, *costs)

    def _sizes_of(self, nodes: Iterable[Any]) -> Size:
        found = _EMPTY
        for one in nodes:
            found = found.union(self.size(one))
        return found if nodes else Size(0, 0)

    def _comprehension(self, node: Any) -> int:
        loop = node.comprehension_expr
        cost = _sum(self.cost(loop.iter_range), self.cost(loop.accu_init))
        accumulator = self._as_local(loop.accu_init)
        if _is_binding(loop):
            with_result = self._within({loop.accu_var: accumulator}, [loop.result])
            self.note(node, self.known_size(loop.result), self.entries(loop.result))
            return _sum(cost, *with_result)
        within = {loop.accu_var: accumulator, **self._iterated(loop)}
        step = self._within(within, [loop.loop_condition, loop.loop_step])
        result = self._within({loop.accu_var: accumulator}, [loop.result])
        count = self.size(loop.iter_range)
        self._accumulated(node, loop, count)
        return _sum(cost, *result, _product(count.most, _sum(*step)))

    def _as_local(self, node: Any) -> _Local:
        return _Local(self.path(node), self.known_size(node), self.entries(node))

    def _within(self, variables: Mapping[str, _Local], nodes: Iterable[Any]) -> list[int]:
        """Costs of parts in which the variables are declared."""
        for name, one in variables.items():
            self._locals.setdefault(name, []).append(one)
        costs = [self.cost(node) for node in nodes]
        for name in variables:
            self._locals[name].pop()
        return costs

    def _iterated(self, loop: Any) -> dict[str, _Local]:
        entries, path = self.entries(loop.iter_range), self.path(loop.iter_range)
        of_list = (entries.kind if entries is not None else self.kind(loop.iter_range)) == "list"
        keys = _Local((*path, "@indices" if of_list else "@keys"), entries and entries.key, None)
        values = _Local((*path, "@items" if of_list else "@values"), entries and entries.value, None)
        if loop.iter_var2:
            return {loop.iter_var: keys, loop.iter_var2: values}
        return {loop.iter_var: values if of_list else keys}

    def _accumulated(self, node: Any, loop: Any, count: Size) -> None:
        """Note how large a comprehension's result is."""
        begun = loop.accu_init.WhichOneof("expr_kind")
        if begun == "const_expr":
            self.note(node, self.known_size(loop.accu_init))
        elif begun in ("list_expr", "struct_expr"):
            self.note(node, count, self.entries(loop.loop_step))

    def _call(self, node: Any) -> int:
        call = node.call_expr
        if call.function == "dyn" and call.args:
            cost = self.cost(call.args[0])
            self.note(node, self.known_size(call.args[0]), self.entries(call.args[0]))
            return _sum(1, cost)
        costs = [self.cost(one) for one in call.args]
        target = call.target if call.HasField("target") else None
        of_target = 0 if target is None else self.cost(target)
        reference = self._references.get(node.id)
        overloads = list(reference.overload_id) if reference is not None else [_UNTYPED.get(call.function, "")]
        most, size = 0, None
        for overload in overloads:
            cost, given = self._overload(_Call(self, node, overload, target, call.args, costs))
            most = max(most, cost)
            size = given if size is None else size.union(given or size)
            if overload in _INDEXED and call.args:
                within = self.entries(call.args[0])
                size = None if within is None else within.value
                self._paths[node.id] = (*self.path(call.args[0]), _INDEXED[overload])
            size = size or self.known_size(node)
        self.note(node, size)
        return _sum(of_target, most)

    def _overload(self, call: _Call) -> Costed:
        """The cost of a call with its arguments, by Kubernetes' library, else by the language."""
        library = _LIBRARY.get(call.node.call_expr.function)
        found = None if library is None else library(call)
        if found is None and (rule := _OVERLOADS.get(call.overload)) is not None:
            if call.overload in _WITH_ARGUMENTS:
                return rule(call) or (1, None)
            found = rule(call)
        cost, size = found or (1, None)
        return _sum(cost, *call.costs), size

    _FORMS: Final[Mapping[str, Callable[[Any, Any], int]]] = {
        "const_expr": _constant,
        "ident_expr": _name,
        "select_expr": _select,
        "call_expr": _call,
        "list_expr": _list,
        "struct_expr": _struct,
        "comprehension_expr": _comprehension,
    }


def _kind(type_: Any) -> str:
    """The kind of a checked type."""
    if type_ is None:
        return "dyn"
    form = type_.WhichOneof("type_kind")
    if form == "primitive":
        return {1: "bool", 2: "int", 3: "uint", 4: "double", 5: "string", 6: "bytes"}.get(type_.primitive, "dyn")
    if form == "message_type":
        return str(type_.message_type) if type_.message_type.startswith("kubernetes.") else "object"
    return {"list_type": "list", "map_type": "map"}.get(form or "", "dyn")


def _is_scalar(type_: Any) -> bool:
    if type_ is None:
        return False
    form = type_.WhichOneof("type_kind")
    if form == "abstract_type" and type_.abstract_type.name == "optional_type":
        return _is_scalar(type_.abstract_type.parameter_types[0])
    well_known = form == "well_known" and type_.well_known in (2, 3)  # Timestamp, Duration
    return well_known or (form == "primitive" and type_.primitive in (1, 2, 3, 4))


def _written_size(node: Any) -> Size | None:
    """The size of a value that the expression writes out."""
    form = node.WhichOneof("expr_kind")
    if form == "const_expr":
        kind = node.const_expr.WhichOneof("constant_kind")
        value = getattr(node.const_expr, kind)
        return Size(len(value), len(value)) if kind in ("string_value", "bytes_value") else _ONE
    if form == "list_expr":
        return Size(len(node.list_expr.elements), len(node.list_expr.elements))
    if form == "struct_expr" and not node.struct_expr.message_name:
        return Size(len(node.struct_expr.entries), len(node.struct_expr.entries))
    return None


def _is_binding(loop: Any) -> bool:
    """Whether a comprehension only names a value: over nothing, never entered."""
    return (
        loop.iter_range.WhichOneof("expr_kind") == "list_expr"
        and not loop.iter_range.list_expr.elements
        and loop.loop_condition.WhichOneof("expr_kind") == "const_expr"
        and loop.loop_condition.const_expr.WhichOneof("constant_kind") == "bool_value"
        and not loop.loop_condition.const_expr.bool_value
        and loop.accu_var != "__result__"
    )


# ---- functions of the language, by overload


_INDEXED: Final = {"index_list": "@items", "index_map": "@values"}
_UNTYPED: Final = {  # of an expression that the check cannot take: the overloads that cost more than 1
    "_&&_": "logical_and",
    "_||_": "logical_or",
    "_?_:_": "conditional",
    "_==_": "equals",
    "_!=_": "not_equals",
}


def _of_text_alone(call: _Call) -> Costed | None:
    node = call.args[0] if call.args else None
    return None if node is None else (_scaled(call.size(node).most, _TRAVERSAL), None)


def _format(call: _Call) -> Costed | None:
    return None if call.target is None else (_scaled(call.size(call.target).most, _TRAVERSAL), None)


def _converted(least: Callable[[int], int], most: Callable[[int], int]) -> Callable[[_Call], Costed | None]:
    def rule(call: _Call) -> Costed | None:
        if len(call.args) != 1:
            return None
        size = call.size(call.args[0])
        return _scaled(size.most, _TRAVERSAL), Size(least(size.least), min(most(size.most), MOST))

    return rule


def _in_list(call: _Call) -> Costed:
    return call.size(call.args[1]).most, None


def _matches(call: _Call) -> Costed | None:
    if call.target is None:
        return None
    text = _scaled(_sum(call.size(call.target).most, 1), _TRAVERSAL)
    return _product(text, _scaled(call.size(call.args[0]).most, _PATTERN)), None


def _contains(call: _Call) -> Costed | None:
    if call.target is None:
        return None
    text, part = (_scaled(call.size(one).most, _TRAVERSAL) for one in (call.target, call.args[0]))
    return _product(text, part), None


def _either(call: _Call) -> Costed:
    return _sum(*call.costs), None


def _choice(call: _Call) -> Costed:
    estimate, (_, one, other) = call.estimate, call.args
    entries = [estimate.entries(part) for part in (one, other)]
    if entries[0] is not None and entries[1] is not None:
        estimate.note(call.node, None, entries[0].union(entries[1]))
    return _sum(call.costs[0], max(call.costs[1:])), call.size(one).union(call.size(other))


def _joined(call: _Call) -> Costed:
    estimate, (one, other) = call.estimate, call.args
    entries = [estimate.entries(part) for part in (one, other)]
    if entries[0] is not None and entries[1] is not None:
        estimate.note(call.node, None, entries[0].union(entries[1]))
    size = call.size(one).plus(call.size(other))
    return (1 if call.overload == "add_list" else _scaled(size.most, _TRAVERSAL)), size


def _compared(call: _Call) -> Costed:
    return _scaled(min(call.size(one).most for one in call.args), _TRAVERSAL), None


Rule = Callable[[_Call], Costed | None]
_COMPARED: Final = ("less", "greater", "less_equals", "greater_equals")
_OVERLOADS: Final[Mapping[str, Rule]] = {
    "string_format": _format,
    "string_to_bytes": _converted(lambda least: least, lambda most: most * 4),
    "bytes_to_string": _converted(lambda least: least // 4, lambda most: most),
    "strings_quote": _converted(lambda least: least + 2, lambda most: most * 2 + 2),
    "starts_with_string": _of_text_alone,
    "ends_with_string": _of_text_alone,
    "in_list": _in_list,
    "matches_string": _matches,
    "contains_string": _contains,
    "logical_and": _either,
    "logical_or": _either,
    "conditional": _choice,
    "add_string": _joined,
    "add_bytes": _joined,
    "add_list": _joined,
    "equals": _compared,
    "not_equals": _compared,
    **{f"{name}_{kind}": _compared for name in _COMPARED for kind in ("string", "bytes")},
}
_WITH_ARGUMENTS: Final = frozenset({"logical_and", "logical_or", "conditional"})  # whose rules count these themselves


# ---- functions of Kubernetes' library, by name


def _fixed(cost: int) -> Rule:
    return lambda call: (cost, None)


def _read(factor: float = 1, *, kept: bool = False) -> Rule:
    """Of a function that reads its first argument, and gives a text as long where `kept`."""

    def rule(call: _Call) -> Costed | None:
        if not call.args or (kept and len(call.args) != 1):
            return None
        size = call.size(call.args[0])
        return _scaled(size.most, factor * _TRAVERSAL), size if kept else None

    return rule


def _rewritten(call: _Call) -> Costed | None:
    if call.target is None:
        return None
    size = call.size(call.target)
    return _scaled(size.most, _TRAVERSAL), size


def _selector(call: _Call) -> Costed | None:
    if len(call.args) != 1:
        return None
    size = call.size(call.args[0]).most
    return _sum(_LIST, _scaled(size, _TRAVERSAL), _scaled(_scaled(size, 0.5), float(_LIST + _MESSAGE))), None


def _all_elements(call: _Call) -> Costed | None:
    if call.target is None:
        return None
    size, element = call.size(call.target).most, call.estimate.element(call.target)
    if element is None:  # a text, of `indexOf`
        return _scaled(size, _TRAVERSAL), None
    each = _scaled(element[1].most, _TRAVERSAL) if element[0] in ("string", "bytes") else 0
    return _product(size, _sum(1, each)), None


def _replace(call: _Call) -> Costed | None:
    if call.target is None or len(call.args) < 2:
        return None
    size, old, new = call.size(call.target), call.size(call.args[0]), call.size(call.args[1])
    if old.least == 0:  # the new text is put around every character
        most = _sum(_product(_sum(size.most, 1), new.most), size.most)
    elif new.most <= old.least:
        most = size.most
    else:
        most = _product(math.ceil(size.most / old.least), new.most)
    if old.most == 0:
        least = _sum(_product(_sum(size.least, 1), new.least), size.least)
    elif old.most <= new.least:
        least = size.least
    else:
        least = _product(math.ceil(size.least / old.most), new.least)
    return _scaled(size.most, 2 * _TRAVERSAL), Size(least, most)


def _split(call: _Call) -> Costed | None:
    if call.target is None:
        return None
    size = call.size(call.target)
    most = size.most
    if len(call.args) > 1 and call.args[1].const_expr.WhichOneof("constant_kind") == "int64_value":
        most = call.args[1].const_expr.int64_value % (MOST + 1)
    return _scaled(size.most, 2 * _TRAVERSAL), Size(0, most)


def _join(call: _Call) -> Costed | None:
    if call.target is None:
        return None
    count, element = call.size(call.target), call.estimate.element(call.target)
    size = Size(0, 0) if element is None else count.times(element[1])
    if call.args:
        between = Size(max(count.least - 1, 0), max(count.most - 1, 0))
        size = size.plus(call.size(call.args[0]).times(between))
    return _scaled(size.most, _TRAVERSAL), size


def _found(call: _Call) -> Costed | None:
    if call.target is None or not call.args:
        return None
    size = call.size(call.target)
    text = _scaled(_sum(size.most, 1), _TRAVERSAL)
    return _product(text, _scaled(call.size(call.args[0]).most, _PATTERN)), Size(0, size.most)


def _address(call: _Call) -> Costed | None:
    return (1, None) if call.target is not None else _read()(call)  # of a block, else of a text


def _in_block(call: _Call, more: int) -> Costed | None:
    """Two addresses of up to 16 bytes are compared; a text is read first."""
    if not call.args:
        return None
    cost = _sum(_scaled(2 * 16, _TRAVERSAL), more)
    if call.estimate.kind(call.args[0]) in ("string", "dyn"):
        cost = _sum(cost, _scaled(call.size(call.args[0]).most, _TRAVERSAL))
    return cost, None


def _format_checked(call: _Call) -> Costed | None:
    if not call.args:
        return None
    text = _scaled(call.size(call.args[0]).most, _TRAVERSAL)
    return _scaled(text, _FORMAT_PATTERN * _PATTERN), None


def _pairs(factor: int) -> Rule:
    """Of two lists, each element of one being compared with each of the other."""

    def rule(call: _Call) -> Costed:
        sizes = [call.size(one).most for one in call.args]
        return _sum(_scaled(_product(*sizes), float(factor)), 1), None

    return rule


def _same(call: _Call) -> Costed | None:
    """Equality of the library's own types."""
    one, other = (call.estimate.kind(part) for part in call.args)
    if one != other or not one.startswith("kubernetes."):
        return None
    if one == "kubernetes.Format":
        return _scaled(_FORMAT, _TRAVERSAL), None
    if one == "kubernetes.URL":
        return _scaled(max((call.estimate.known_size(call.args[1]) or _ONE).most, 1), _TRAVERSAL), None
    return 1, None


_NOMINAL: Final = (
    "serviceAccount path group resource subresource namespace name allowed reason error errored masked prefixLength "
    "family isUnspecified isLoopback isLinkLocalMulticast isLinkLocalUnicast isGlobalUnicast format.named sign "
    "asInteger isInteger asApproximateFloat isGreaterThan isLessThan compareTo add sub major minor patch getScheme "
    "getHostname getHost getPort getEscapedPath getQuery"
)
_LIBRARY: Final[Mapping[str, Rule]] = {
    **dict.fromkeys(_NOMINAL.split(), _fixed(1)),
    "check": _fixed(_CHECK),
    **dict.fromkeys(("fieldSelector", "labelSelector"), _selector),
    **dict.fromkeys(("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"), _all_elements),
    **dict.fromkeys(("cidr", "isIP", "isCIDR", "quantity", "isQuantity", "semver", "isSemver"), _read()),
    **dict.fromkeys(("url", "jsonpatch.escapeKey"), _read(kept=True)),
    **dict.fromkeys(("lowerAscii", "upperAscii", "substring", "trim"), _rewritten),
    "replace": _replace,
    "split": _split,
    "join": _join,
    **dict.fromkeys(("find", "findAll"), _found),
    "ip": _address,
    "ip.isCanonical": _read(2),
    "containsIP": lambda call: _in_block(call, 0),
    "containsCIDR": lambda call: _in_block(call, _scaled(16, _TRAVERSAL) + 1),
    "validate": _format_checked,
    **dict.fromkeys(("sets.contains", "sets.intersects"), _pairs(1)),
    "sets.equivalent": _pairs(2),
    "_==_": _same,
}
