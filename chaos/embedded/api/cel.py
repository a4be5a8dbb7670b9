"""The Common Expression Language with Kubernetes' extensions: rules of custom resources, webhook conditions, policies.

An expression is compiled against the types of its variables (structural schemas; None: any), so that a misspelt field
is refused when the rule is written; it is evaluated on plain JSON. Problem: the runtime (Google's own,
cel-expr-python) types variables by protobuf messages alone. Choice: the check declares a schema as a message, and
evaluation takes the same text with untyped variables, which accept dictionaries. Price: two compilations, of half a
millisecond each.

An evaluation ends after 10,000 steps of its comprehensions (the runtime's bound); regular expressions take linear time
(RE2). Called by the validation of custom resources and by admission; the runtime is imported with the first expression,
so that a cluster without expressions does not pay for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from google.protobuf import descriptor_pb2

Schema = Mapping[str, Any]
Names = Mapping[str, Schema | None]
Result = Literal["bool", "string", "any"]


class Uncompilable(ValueError):
    """The expression does not compile; the text is the compiler's, as Kubernetes prints it."""


class OtherResult(Uncompilable):
    """An expression whose result is of another type; `given` names it."""

    def __init__(self, message: str, given: str) -> None:
        super().__init__(message)
        self.given = given


class EvaluationFailed(ValueError):
    """The evaluation failed, for example with `no such key: a`."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression: its text, the type that it gives, the variables of its scope that it names, and the
    runtime's form of it, which has the types of its parts where the check knows them.
    """

    text: str
    gives: str
    uses: frozenset[str]
    serialized: bytes
    _scope: Scope

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """Evaluate to JSON (a bool, a string...). `values` are JSON, converted by `as_cel` where the schema has times,
        one for each named variable. Raises EvaluationFailed.
        """
        return self._scope.run(self.text, values)


class Scope:
    """Variables and functions under which expressions are compiled."""

    def __init__(self, names: Names, *, functions: Callable[[], Sequence[Any]] = tuple) -> None:
        """`functions` makes cel.FunctionDecl beside Kubernetes' own library, such as an authorizer's."""
        self._names = dict(names)
        self._functions = functions
        self._declared: _Declarations | None = None
        self._checkers: dict[frozenset[str], Any] = {}
        self._compiled: dict[tuple[str, Result], Expression] = {}
        self._runtime: _Runtime | None = None

    def compile(self, text: str, *, result: Result = "bool") -> Expression:
        """Compile an expression, once per text; raises Uncompilable."""
        known = self._compiled.get((text, result))
        if known is None:
            known = self._compiled[text, result] = self._compile(text, result)
        return known

    def _compile(self, text: str, result: Result) -> Expression:
        try:
            checked = self._checker(text).compile(text)
        except RuntimeError as error:
            message = _compiler_words(str(error))
            if all(_CROSSING.search(line) for line in message.splitlines() if line.startswith("ERROR: ")):
                return self._unchecked(text)
            raise Uncompilable(f"compilation failed: {message}") from None
        given = checked.return_type().name()
        if result != "any" and given != result.upper():
            raise OtherResult(_OTHER_RESULT[result], _type_name(given))
        serialized = bytes(checked.serialize())
        named = _references(serialized) & self._names.keys()
        return Expression(text, _type_name(given), named, serialized, self)

    def _unchecked(self, text: str) -> Expression:
        """Compile without the check: the runtime compares int with double, its checker refuses to."""
        parsed = bytes(self._evaluator().program(text).serialize())
        named = frozenset(name for name in self._names if re.search(rf"\b{name}\b", text))
        return Expression(text, "bool", named, parsed, self)  # a comparison that the check refuses

    def _checker(self, text: str) -> Any:
        """A checking environment with the functions that the text may call: a millisecond, ten with all functions."""
        words = frozenset(_WORD.findall(text)) | ({"optional"} if _OPTIONAL.search(text) else set())
        if "format" in words:
            words |= {"optional"}  # what a format finds
        wanted = frozenset(name for name in _library_names() if words.issuperset(name.split(".")))
        if not words & {
            "authorizer",
            "variables",
        }:  # from which alone they can be called: their names are frequent words
            wanted -= _authorizer_names()
        if wanted not in self._checkers:
            if self._declared is None:
                self._declared = _Declarations(self._names)
            self._checkers[wanted] = _environment(self._declared, wanted, self._functions(), evaluated=False)
        return self._checkers[wanted]

    def _evaluator(self) -> _Runtime:
        if self._runtime is None:
            if self._functions is tuple:
                self._runtime = _shared_runtime(frozenset(self._names))
            else:
                self._runtime = _Runtime(frozenset(self._names), self._functions())
        return self._runtime

    def run(self, text: str, values: Mapping[str, Any]) -> Any:
        """Evaluate a text that `compile` has accepted; raises EvaluationFailed."""
        program = self._evaluator().program(text)
        try:
            found = program.eval(data=values)
            if found.type().name() == "ERROR":
                raise EvaluationFailed(_evaluator_words(str(found.value())))
            return found.plain_value()
        except (RuntimeError, TypeError) as error:
            raise EvaluationFailed(_evaluator_words(str(error))) from None


class _Runtime:
    """Compiled programs with untyped variables, the last few thousand."""

    def __init__(self, names: frozenset[str], functions: Sequence[Any]) -> None:
        declared = _Declarations(dict.fromkeys(names))
        self._environment = _environment(declared, _library_names(), functions, evaluated=True)
        self.program = lru_cache(maxsize=2048)(self._program)

    def _program(self, text: str) -> Any:
        try:
            parsed = self._environment.compile(text, disable_check=True)
        except RuntimeError as error:
            raise Uncompilable(f"compilation failed: {_compiler_words(str(error))}") from None
        if "format." in text:
            return self._environment.deserialize(_with_optional_faults(parsed.serialize()))
        return parsed


def _with_optional_faults(serialized: bytes) -> bytes:
    """Rewrite a parsed expression so that `validate` returns an optional, which a Python function cannot."""
    from cel.expr import syntax_pb2
    from google.protobuf import any_pb2

    from chaos.embedded.api import cel_library

    packed = any_pb2.Any.FromString(serialized)
    parsed = syntax_pb2.ParsedExpr.FromString(packed.value)
    numbers = count(1_000_000)

    def walk(node: Any) -> None:
        for _, value in node.ListFields():
            for one in value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]:
                if hasattr(one, "ListFields"):
                    walk(one)
        if node.DESCRIPTOR.name == "Expr" and node.call_expr.function == cel_library.VALIDATE:
            inner = syntax_pb2.Expr()
            inner.CopyFrom(node)
            inner.id = next(numbers)
            wrapped = node.call_expr
            wrapped.Clear()
            wrapped.function = "ofNonZeroValue"
            wrapped.target.id = next(numbers)
            wrapped.target.ident_expr.name = "optional"
            wrapped.args.append(inner)

    walk(parsed.expr)
    packed.Pack(parsed)
    return bytes(packed.SerializeToString())


@cache
def _shared_runtime(names: frozenset[str]) -> _Runtime:
    return _Runtime(names, ())


def compile(text: str, names: Names, *, result: Result = "bool") -> Expression:
    """Compile one expression in a scope of its own; raises Uncompilable."""
    return Scope(names).compile(text, result=result)


_CROSSING: Final = re.compile(
    r"no matching overload for '_(<|<=|>|>=)_' applied to '\((int|uint|double), (int|uint|double)\)'"
)
_OTHER_RESULT: Final = {
    "bool": "cel expression must evaluate to a bool",
    "string": "messageExpression must evaluate to a string",
}
_WORD: Final = re.compile(r"\w+", re.ASCII)
_OPTIONAL: Final = re.compile(r"\.\?|\[\?|\boptional\b|\bopt(Map|FlatMap)\b|\?[\w\"']+\s*:")
_CODE: Final = re.compile(r"^[A-Z_]+: ")


def _compiler_words(error: str) -> str:
    """The compiler's message, without the runtime's codes and the names of generated messages."""
    plain = _CODE.sub("", error)
    plain = re.sub(r" \[[A-Z_]+\]$", "", plain)
    plain = re.sub(r"(undefined field '[^']*') not found in struct '[^']*'", r"\1", plain)
    plain = re.sub(r"(type '[^']*') cannot be the range of", r"\1 cannot be range of", plain)
    plain = re.sub(r"expression of (type '[^']*') cannot be the operand of a select operation", _UNSELECTABLE, plain)
    plain = re.sub(_QUALIFIED, _at_its_root, plain)
    plain = re.sub(_MEMBER, _as_member, plain)
    return re.sub(rf"\b{_ROOT}\.\w+", "object", plain)


_UNSELECTABLE: Final = r"\1 does not support field selection"
_PLACE: Final = r"ERROR: <input>:(?P<line>\d+):(?P<column>\d+): "
_QUALIFIED: Final = re.compile(
    rf"{_PLACE}undeclared reference to '(?P<root>\w+)(?P<more>(?:\.\w+)+)'(?P<end>[^\n]*)\n(?P<text>[^\n]*)\n \| \.*\^"
)
_MEMBER: Final = re.compile(
    rf"(?P<head>{_PLACE}found no matching overload for '(?P<name>\w+)' applied to ')"
    r"\((?P<first>[^(),]+(?:\([^()]*\))?)(?:, )?(?P<rest>[^\n]*)\)'(?P<end>\n \| (?P<text>[^\n]*))"
)


def _at_its_root(found: re.Match[str]) -> str:
    """An undeclared name where it begins, without what is selected of it."""
    column = int(found["column"]) - len(found["more"].rpartition(".")[0]) - len(found["root"])
    where = f"ERROR: <input>:{found['line']}:{column}: undeclared reference to '{found['root']}'{found['end']}"
    return f"{where}\n{found['text']}\n | {'.' * (column - 1)}^"


def _as_member(found: re.Match[str]) -> str:
    """The arguments of a call on its first one, as cel-go shows them: `string.(int)`."""
    before = found["text"][: int(found["column"]) - 1]
    if not before.endswith(f".{found['name']}") or re.search(rf"\b(ip|sets|strings|format)\.{found['name']}$", before):
        return found[0]
    return f"{found['head']}{found['first']}.({found['rest']})'{found['end']}"


def _evaluator_words(error: str) -> str:
    """The evaluator's message, in cel-go's words."""
    plain = re.sub(r" \[[A-Z_]+\]$", "", _CODE.sub("", error))
    for pattern, said in _EVALUATOR:
        if (found := re.match(pattern, plain)) is not None:
            return found.expand(said)
    return plain


_EVALUATOR: Final = (
    (r'Key not found in map : "(.*)"', r"no such key: \1"),
    (r"No matching overloads found.*|Applying SELECT to non-message type", "no such overload"),
    (r"divide by zero", "division by zero"),
    (r"modulus by zero", "modulus by zero"),
    (r"Index error: index=(-?\d+).*", r"index out of bounds: \1"),
    (r"Iteration budget exceeded", "operation cancelled: actual cost limit exceeded"),
)


def _type_name(name: str) -> str:
    """A type as cel-go prints it."""
    if name.startswith(f"{_ROOT}."):
        return "object"
    plain = name if "." in name else name.lower()
    return {"null": "null_type"}.get(plain, plain.replace("<", "(").replace(">", ")"))


def _references(serialized: bytes) -> frozenset[str]:
    from cel.expr import checked_pb2
    from google.protobuf import any_pb2

    checked = checked_pb2.CheckedExpr.FromString(any_pb2.Any.FromString(serialized).value)
    return frozenset(one.name for one in checked.reference_map.values())


# ---- types


_ROOT: Final = "selfType"  # package of the messages that stand for schemas
_RESERVED: Final = frozenset(
    re.findall(
        r"\w+",
        "true false null in as break const continue else for function if import let loop package namespace return var "
        "void while",
    )
)
_ESCAPES: Final = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}


@lru_cache(maxsize=4096)
def escape(name: str) -> str | None:
    """A property's name in expressions (`namespace` becomes `__namespace__`); None where they cannot reach it."""
    if name in _RESERVED:
        return f"__{name}__"
    if not re.fullmatch(r"[A-Za-z_./-][A-Za-z0-9_./-]*", name):
        return None
    return re.sub(r"__|[-./]", lambda found: _ESCAPES[found[0]], name)


AUTHORIZER: Final[Schema] = {}  # the type of the variable `authorizer`, which has no schema
AS_NAMED: Final = "x-as-named"  # of a schema of our own: its fields are reached by their names, reserved words too


def _reached(schema: Schema, key: str) -> str | None:
    return key if schema.get(AS_NAMED) else escape(key)


_OBJECT_META: Final[Schema] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "generateName": {"type": "string"}},
}


def root(schema: Schema) -> Schema:
    """A resource's schema for expressions: apiVersion, kind, metadata.name and generateName are always present."""
    text = {"type": "string"}
    head = {"apiVersion": text, "kind": text, "metadata": _OBJECT_META}
    return {**schema, "properties": {**schema.get("properties", {}), **head}}


_SIMPLE: Final = {"boolean": "BOOL", "number": "DOUBLE", "integer": "INT"}
_TEXTS: Final = {"byte": "BYTES", "duration": "DURATION", "date": "TIMESTAMP", "date-time": "TIMESTAMP"}
Kind = tuple[Any, ...]  # ("INT",), ("LIST", kind), ("MAP", kind), ("MESSAGE", name): the type of a schema


class _Declarations:
    """Schemas as protobuf messages, for the checker."""

    def __init__(self, names: Names) -> None:
        from google.protobuf import descriptor_pb2

        self.file: descriptor_pb2.FileDescriptorProto = descriptor_pb2.FileDescriptorProto(
            name="schema.proto",
            package=_ROOT,
            syntax="proto2",
            dependency=[f"google/protobuf/{name}.proto" for name in ("struct", "duration", "timestamp")],
        )
        self.variables: dict[str, Kind] = {}
        known: dict[int, Kind | None] = {}  # variables of one schema are of one type, so that they can be compared
        for name, schema in names.items():
            if id(schema) not in known:
                known[id(schema)] = self.kind(schema)
            kind = known[id(schema)]
            if kind is None:
                raise Uncompilable("failed to convert to declType for CEL validation rules")
            self.variables[name] = kind

    def kind(self, schema: Schema | None) -> Kind | None:
        """The type of a schema; None where expressions have no access (apiserver/pkg/cel/common.SchemaDeclType)."""
        if schema is None or schema.get("x-kubernetes-int-or-string"):
            return ("DYN",)
        if schema is AUTHORIZER:
            return ("TYPE", "kubernetes.authorization.Authorizer")
        if schema.get("x-kubernetes-embedded-resource"):
            schema = root(schema)
        declared = schema.get("type")
        if declared == "array":
            item = self.kind(schema["items"]) if isinstance(schema.get("items"), Mapping) else None
            return None if item is None else ("LIST", item)
        if declared == "object":
            more = schema.get("additionalProperties")
            if isinstance(more, Mapping):
                value = self.kind(more)
                return None if value is None else ("MAP", value)
            return ("MESSAGE", self._message(schema))
        if declared == "string":
            return (_TEXTS.get(schema.get("format", ""), "STRING"),)
        return (_SIMPLE[declared],) if declared in _SIMPLE else None

    def _message(self, schema: Schema) -> str:
        name = f"Object{len(self.file.message_type)}"
        message = self.file.message_type.add(name=name)
        message.options.deprecated_legacy_json_field_conflicts = True  # `foo_bar` beside `fooBar` is no conflict here
        for key, one in schema.get("properties", {}).items():
            known, kind = _reached(schema, key), self.kind(one)
            if known is not None and kind is not None:
                self._field(message, known, kind)
        return name

    def _field(self, message: descriptor_pb2.DescriptorProto, name: str, kind: Kind) -> None:
        number = len(message.field) + 1
        repeated = kind[0] in ("LIST", "MAP")
        label = 3 if repeated else 1
        entry_name = "".join(part[:1].upper() + part[1:] for part in name.split("_")) + "Entry"  # protobuf's rule
        if kind[0] == "MAP" and any(entry_name == one.name for one in message.nested_type):
            label, form = 1, {"type": 11, "type_name": ".google.protobuf.Struct"}
        elif kind[0] == "MAP":
            entry = message.nested_type.add(name=entry_name)
            entry.options.map_entry = True
            entry.field.add(name="key", number=1, type=9, label=1)
            entry.field.add(name="value", number=2, label=1, **_scalar(kind[1]))
            form = {"type": 11, "type_name": f".{_ROOT}.{message.name}.{entry.name}"}
        else:
            form = _scalar(kind[1] if repeated else kind)
        message.field.add(name=name, number=number, label=label, json_name=f"field{number}", **form)


_SCALARS: Final = {"DOUBLE": 1, "INT": 3, "BOOL": 8, "STRING": 9, "BYTES": 12}  # FieldDescriptorProto.Type
_WELL_KNOWN: Final = {"DURATION": "Duration", "TIMESTAMP": "Timestamp"}


def _scalar(kind: Kind) -> dict[str, Any]:
    """A field's type; a type that protobuf cannot nest (a list of lists) stays untyped."""
    if kind[0] in _SCALARS:
        return {"type": _SCALARS[kind[0]]}
    if kind[0] == "MESSAGE":
        return {"type": 11, "type_name": f".{_ROOT}.{kind[1]}"}
    return {"type": 11, "type_name": f".google.protobuf.{_WELL_KNOWN.get(kind[0], 'Value')}"}


def _type_of(kind: Kind) -> Any:
    from cel_expr_python import cel

    if kind[0] == "LIST":
        return cel.Type.List(_type_of(kind[1]))
    if kind[0] == "MAP":
        return cel.Type.Map(cel.Type.STRING, _type_of(kind[1]))
    if kind[0] in ("MESSAGE", "TYPE"):
        return cel.Type(f"{_ROOT}.{kind[1]}" if kind[0] == "MESSAGE" else kind[1])
    return getattr(cel.Type, kind[0])


_STRINGS: Final = frozenset(
    re.findall(
        r"\w+",
        "charAt format indexOf join lastIndexOf lowerAscii quote replace reverse split strings substring trim "
        "upperAscii",
    )
)  # what the runtime's own extension for strings brings


@cache
def _library_names() -> frozenset[str]:
    from chaos.embedded.api import cel_library

    return cel_library.names() | _STRINGS | {"optional"}


@cache
def _authorizer_names() -> frozenset[str]:
    from chaos.embedded.api import cel_library

    return cel_library.names_of_authorizer()


def _environment(declared: _Declarations, wanted: frozenset[str], more: Sequence[Any], *, evaluated: bool) -> Any:
    """An environment of declared variables and functions; extensions are made anew, as each can be used once only."""
    from cel_expr_python import cel
    from cel_expr_python.ext import ext_optional, ext_strings

    from chaos.embedded.api import cel_library

    pool = cel_library.shared_pool()
    if declared.file.message_type:
        pool = cel_library.new_pool()
        pool.Add(declared.file)
    extensions: list[Any] = []
    if wanted & _STRINGS:
        extensions.append(ext_strings.ExtStrings(2))
    if "optional" in wanted:
        extensions.append(ext_optional.ExtOptional())
    if own := cel_library.functions(wanted, evaluated=evaluated):
        extensions.append(cel.CelExtension("kubernetes", own))  # after strings, whose `indexOf` it adds to
    variables = {name: _type_of(kind) for name, kind in declared.variables.items()}
    return cel.NewEnv(descriptor_pool=pool, variables=variables, functions=list(more), extensions=extensions)


# ---- values


def as_cel(value: Any, schema: Schema | None) -> Any:
    """Convert JSON for expressions of its schema: names escaped, numbers as doubles, times and durations as their
    types.

    Values that do not match the schema stay as they are: validation reports them.
    """
    if schema is None or schema.get("x-kubernetes-int-or-string") or value is None:
        return value
    if isinstance(value, dict):
        more = schema.get("additionalProperties")
        if isinstance(more, Mapping):
            return {key: as_cel(one, more) for key, one in value.items()}
        if schema.get("x-kubernetes-embedded-resource"):
            schema = root(schema)
        properties = schema.get("properties", {})
        return {
            known: as_cel(one, properties[key])
            for key, one in value.items()
            if key in properties and (known := _reached(schema, key)) is not None
        }
    if isinstance(value, list):
        items = schema.get("items")
        return [as_cel(one, items if isinstance(items, Mapping) else None) for one in value]
    if isinstance(value, str) and (form := schema.get("format")) in _TEXTS:
        return _as_typed(value, str(form))
    if schema.get("type") == "number" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def _as_typed(text: str, form: str) -> Any:
    from google.protobuf import duration_pb2, timestamp_pb2

    try:
        if form == "byte":
            import base64

            return base64.b64decode(text, validate=True)
        if form == "duration":
            nanoseconds = duration_nanoseconds(text)
            whole, rest = divmod(abs(nanoseconds), 10**9)
            sign = -1 if nanoseconds < 0 else 1
            return duration_pb2.Duration(seconds=sign * whole, nanos=sign * rest)
        moment = datetime.fromisoformat(text if form == "date-time" else f"{text}T00:00:00+00:00")
        stamp = timestamp_pb2.Timestamp()
        stamp.FromDatetime(moment.astimezone(UTC).replace(tzinfo=None))
        return stamp
    except ValueError:
        return text


_UNITS: Final = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_DURATION: Final = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)


def duration_nanoseconds(text: str) -> int:
    """Parse a Go duration (`1h30m`, `-1.5s`) into nanoseconds; raises ValueError."""
    plain = text.lstrip("+-") if text[:1] in ("+", "-") else text
    if plain == "0":
        return 0
    parts = list(_DURATION.finditer(plain))
    if not parts or "".join(part[0] for part in parts) != plain:
        raise ValueError(f'time: invalid duration "{text}"')
    from fractions import Fraction

    total = sum(Fraction(part[1].rstrip(".") or "0") * _UNITS[part[2]] for part in parts)
    return int(-total if text.startswith("-") else total)
