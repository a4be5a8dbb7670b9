"""The functions that Kubernetes adds to the Common Expression Language, for the CEL runtime: quantities, addresses,
URLs, regular expressions, semantic versions, lists and sets.

Documented at https://kubernetes.io/docs/reference/using-api/cel/ (k8s.io/apiserver/pkg/cel/library). Not here, and so
refused when an expression is compiled: `format.named` and comprehensions over two variables. Imported when the first
expression is compiled.
"""

from __future__ import annotations

import base64
import ipaddress
import re
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any, Final

import re2
from cel_expr_python import cel
from google.protobuf import descriptor_pb2, descriptor_pool, duration_pb2, message_factory, struct_pb2, timestamp_pb2

from chaos.embedded.api import cel_authorizer
from chaos.embedded.api.validation import names as names_of
from chaos.embedded.quantity import canonical_quantity, parse_quantity

PACKAGE: Final = "kubernetes"
_OPAQUE: Final = ("Quantity", "IP", "CIDR", "URL", "Semver", "Format")
AUTHORIZATION: Final = f"{PACKAGE}.authorization"
_TEXT: Final = 9  # descriptor_pb2.FieldDescriptorProto.TYPE_STRING
_MESSAGE: Final = 11  # TYPE_MESSAGE
_OPTIONAL: Final = 1  # LABEL_OPTIONAL
_INT64: Final = 1 << 63


@cache
def library_file() -> descriptor_pb2.FileDescriptorProto:
    """The opaque types as messages that hold their text: the runtime passes no other types through."""
    described = descriptor_pb2.FileDescriptorProto(name="kubernetes.proto", package=PACKAGE, syntax="proto3")
    for name in _OPAQUE:
        _add_opaque(described, name)
    return described


def _add_opaque(described: descriptor_pb2.FileDescriptorProto, name: str) -> descriptor_pb2.DescriptorProto:
    message = described.message_type.add(name=name)
    message.field.add(name="text", number=1, type=_TEXT, label=_OPTIONAL)
    return message


@cache
def authorizer_file() -> descriptor_pb2.FileDescriptorProto:
    """The types of an authorizer; the check of a request's own resource is a field of it."""
    described = descriptor_pb2.FileDescriptorProto(name="authorization.proto", package=AUTHORIZATION, syntax="proto3")
    for name in cel_authorizer.KINDS:
        message = _add_opaque(described, name)
        if name == "Authorizer":
            check = f".{AUTHORIZATION}.ResourceCheck"
            requested = cel_authorizer.REQUESTED
            message.field.add(name=requested, number=2, type=_MESSAGE, type_name=check, label=_OPTIONAL)
    return described


def new_pool() -> descriptor_pool.DescriptorPool:
    """Make a pool with the well-known types and the opaque ones."""
    pool = descriptor_pool.DescriptorPool()
    for module in (struct_pb2, duration_pb2, timestamp_pb2):
        described = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(described)
        pool.Add(described)
    pool.Add(library_file())
    pool.Add(authorizer_file())
    return pool


@cache
def shared_pool() -> descriptor_pool.DescriptorPool:
    """The pool of all evaluations, which use no other types."""
    return new_pool()


def _opaque(name: str, text: str, package: str = PACKAGE) -> Any:
    found = shared_pool().FindMessageTypeByName(f"{package}.{name}")
    return message_factory.GetMessageClass(found)(text=text)


def of_authorizer(kind: str, text: str) -> Any:
    """A message of an authorizer's types."""
    return _opaque(kind, text, AUTHORIZATION)


@dataclass(frozen=True, slots=True)
class _Signature:
    """One overload: the function's name, whether it is called on its first argument, types, implementation."""

    name: str
    member: bool
    takes: tuple[Any, ...]
    gives: Any
    does: Callable[..., Any]


def _types() -> dict[str, Any]:
    return {name: cel.Type(f"{PACKAGE}.{name}") for name in _OPAQUE}


@cache
def _signatures() -> dict[str, list[_Signature]]:
    kinds = _types()
    text, whole, truth, double, any_ = cel.Type.STRING, cel.Type.INT, cel.Type.BOOL, cel.Type.DOUBLE, cel.Type.DYN
    grouped: dict[str, list[_Signature]] = {}
    for one in (
        *_quantities(kinds["Quantity"], text, whole, truth, double),
        *_addresses(kinds["IP"], kinds["CIDR"], text, whole, truth),
        *_urls(kinds["URL"], text, truth),
        *_versions(kinds["Semver"], text, whole, truth),
        *_lists(cel.Type.List(any_), any_, text, whole, truth),
        *_formats(kinds["Format"], text),
        *_authorizers(),
    ):
        grouped.setdefault(one.name, []).append(one)
    return grouped


def names() -> frozenset[str]:
    """The names of all functions."""
    return frozenset(_signatures())


def functions(wanted: frozenset[str], *, evaluated: bool) -> list[Any]:
    """Declarations of the named functions: with types for the checker, with implementations for evaluation."""
    found = {name: each for name, each in _signatures().items() if name in wanted}
    if evaluated:
        found = {name: _merged(each) for name, each in found.items()}
    return [
        cel.FunctionDecl(
            name,
            [
                cel.Overload(
                    f"{name}_{number}",
                    return_type=cel.Type.DYN if evaluated and name == VALIDATE else one.gives,
                    parameters=list(one.takes),
                    is_member=one.member,
                    **({"impl": one.does} if evaluated else {}),
                )
                for number, one in enumerate(each)
            ],
        )
        for name, each in found.items()
    ]


def _merged(overloads: Sequence[_Signature]) -> list[_Signature]:
    """Merge overloads that differ in opaque messages alone, between which the runtime cannot choose."""
    grouped: dict[tuple[Any, ...], list[_Signature]] = {}
    for one in overloads:
        kinds = tuple("message" if _is_opaque(kind) else kind.name() for kind in one.takes)
        grouped.setdefault((one.member, kinds), []).append(one)
    return [each[0] if len(each) == 1 else replace(each[0], does=_chosen(each)) for each in grouped.values()]


def _is_opaque(kind: Any) -> bool:
    return str(kind.name()).startswith(f"{PACKAGE}.")


def _chosen(overloads: Sequence[_Signature]) -> Callable[..., Any]:
    def called(*given: Any) -> Any:
        names = [one.DESCRIPTOR.full_name if hasattr(one, "DESCRIPTOR") else None for one in given]
        for overload in overloads:
            if all(name in (None, kind.name()) for name, kind in zip(names, overload.takes, strict=True)):
                return overload.does(*given)
        raise ValueError("no such overload")

    return called


def _holds(check: Callable[..., object]) -> Callable[..., bool]:
    """A function of a text: whether it parses."""

    def tried(*given: Any) -> bool:
        try:
            check(*given)
        except ValueError:
            return False
        return True

    return tried


def _compared(key: Callable[[Any], Any], kind: Any, whole: Any, truth: Any) -> list[_Signature]:
    return [
        _Signature("isLessThan", True, (kind, kind), truth, lambda a, b: key(a) < key(b)),
        _Signature("isGreaterThan", True, (kind, kind), truth, lambda a, b: key(a) > key(b)),
        _Signature("compareTo", True, (kind, kind), whole, lambda a, b: (key(a) > key(b)) - (key(a) < key(b))),
    ]


# the authorizer


def _authorizers() -> Iterator[_Signature]:
    def kind(name: str) -> Any:
        return cel.Type(f"{AUTHORIZATION}.{name}") if name in cel_authorizer.KINDS else getattr(cel.Type, name)

    for (name, of), (takes, gives, does) in cel_authorizer.functions(of_authorizer).items():
        yield _Signature(name, True, tuple(kind(one) for one in (of, *takes)), kind(gives), does)


@cache
def names_of_authorizer() -> frozenset[str]:
    """The functions that can be called on what an authorizer gives alone."""
    return frozenset(one.name for one in _authorizers())


# quantities


def _quantities(kind: Any, text: Any, whole: Any, truth: Any, double: Any) -> list[_Signature]:
    def number(value: Any) -> Any:
        return parse_quantity(value.text) if hasattr(value, "text") else value

    def of_number(value: Any) -> Any:
        return _opaque("Quantity", canonical_quantity(f"{value.numerator * 10**9 // value.denominator}n"))

    def as_whole(value: Any) -> int:
        found = number(value)
        if found.denominator != 1 or not -_INT64 <= found.numerator < _INT64:
            raise ValueError("cannot convert value to integer")
        return int(found)

    return [
        _Signature("quantity", False, (text,), kind, lambda given: _opaque("Quantity", canonical_quantity(given))),
        _Signature("isQuantity", False, (text,), truth, _holds(canonical_quantity)),
        _Signature("isInteger", True, (kind,), truth, _holds(as_whole)),
        _Signature("asInteger", True, (kind,), whole, as_whole),
        _Signature("asApproximateFloat", True, (kind,), double, lambda one: float(number(one))),
        _Signature("sign", True, (kind,), whole, lambda one: (number(one) > 0) - (number(one) < 0)),
        *(
            _Signature(name, True, (kind, other), kind, does)
            for other in (kind, whole)
            for name, does in (
                ("add", lambda a, b: of_number(number(a) + number(b))),
                ("sub", lambda a, b: of_number(number(a) - number(b))),
            )
        ),
        *_compared(number, kind, whole, truth),
    ]


# addresses


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f'IP Address "{text}" parse error during conversion from string: unable to parse IP') from None
    if isinstance(found, ipaddress.IPv6Address):
        if found.scope_id is not None:
            raise ValueError(f'IP address "{text}" with zone value is not allowed')
        if found.ipv4_mapped is not None:
            raise ValueError(f'IPv4-mapped IPv6 address "{text}" is not allowed')
    return found


def _cidr(text: str) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface:
    address, slash, length = text.partition("/")
    if not slash or not length.isascii() or not length.isdigit() or (length[0] == "0" and length != "0"):
        raise ValueError(f'network address parse error during conversion from string: "{text}"')
    _ip(address)
    try:
        return ipaddress.ip_interface(text)
    except ValueError:
        raise ValueError(f'network address parse error during conversion from string: "{text}"') from None


def _addresses(ip: Any, cidr: Any, text: Any, whole: Any, truth: Any) -> list[_Signature]:
    def read(value: Any) -> Any:
        return _ip(value if isinstance(value, str) else value.text)

    def read_cidr(value: Any) -> Any:
        return _cidr(value if isinstance(value, str) else value.text)

    def within(held: Any, given: Any) -> bool:
        inner = read_cidr(given).network
        outer = read_cidr(held).network
        return bool(inner.version == outer.version and inner.subnet_of(outer))

    def is_global(one: Any) -> bool:
        found = read(one)
        broadcast = found == ipaddress.ip_address("255.255.255.255")
        plain = found.is_unspecified or found.is_loopback or found.is_multicast or found.is_link_local
        return not broadcast and not plain

    def local_multicast(one: Any) -> bool:
        local = "224.0.0.0/24" if read(one).version == 4 else "ff02::/16"
        return read(one) in ipaddress.ip_network(local)

    def masked(one: Any) -> Any:
        return _opaque("CIDR", str(read_cidr(one).network))

    return [
        _Signature("ip", False, (text,), ip, lambda given: _opaque("IP", str(_ip(given)))),
        _Signature("isIP", False, (text,), truth, _holds(_ip)),
        _Signature("ip.isCanonical", False, (text,), truth, lambda given: str(_ip(given)) == given),
        _Signature("string", False, (ip,), text, lambda one: one.text),
        _Signature("family", True, (ip,), whole, lambda one: read(one).version),
        _Signature("isUnspecified", True, (ip,), truth, lambda one: read(one).is_unspecified),
        _Signature("isLoopback", True, (ip,), truth, lambda one: read(one).is_loopback),
        _Signature("isLinkLocalUnicast", True, (ip,), truth, lambda one: read(one).is_link_local),
        _Signature("isLinkLocalMulticast", True, (ip,), truth, local_multicast),
        _Signature("isGlobalUnicast", True, (ip,), truth, is_global),
        _Signature("cidr", False, (text,), cidr, lambda given: _opaque("CIDR", str(_cidr(given)))),
        _Signature("isCIDR", False, (text,), truth, _holds(_cidr)),
        *(
            _Signature(
                "containsIP", True, (cidr, given), truth, lambda one, other: read(other) in read_cidr(one).network
            )
            for given in (ip, text)
        ),
        *(_Signature("containsCIDR", True, (cidr, given), truth, within) for given in (cidr, text)),
        _Signature("ip", True, (cidr,), ip, lambda one: _opaque("IP", str(read_cidr(one).ip))),
        _Signature("masked", True, (cidr,), cidr, masked),
        _Signature("prefixLength", True, (cidr,), whole, lambda one: read_cidr(one).network.prefixlen),
        _Signature("string", False, (cidr,), text, lambda one: one.text),
    ]


# URLs


def _url(text: str) -> urllib.parse.SplitResult:
    """Parse as Go's url.ParseRequestURI: an absolute URL, or an absolute path."""
    wrong = ValueError(f'URL parse error during conversion from string: parse "{text}": invalid URI for request')
    if not text or any(ord(char) < 0x20 or ord(char) == 0x7F for char in text):
        raise wrong
    found = urllib.parse.urlsplit(text)
    if not found.scheme and not text.startswith("/"):
        raise wrong
    if found.scheme and not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", found.scheme):
        raise wrong
    port = found.netloc.rpartition("@")[2].rpartition("]")[2]
    if port.count(":") > 1 or (":" in port and not re.fullmatch(r"[^:]*:[0-9]*", port)) or " " in found.netloc:
        raise wrong
    return found


def _urls(kind: Any, text: Any, truth: Any) -> list[_Signature]:
    def host(one: Any) -> str:
        return _url(one.text).netloc.rpartition("@")[2]

    def hostname(one: Any) -> str:
        found = host(one)
        if found.startswith("["):
            return found[1 : found.index("]")] if "]" in found else found
        return found.partition(":")[0]

    def port(one: Any) -> str:
        return host(one).rpartition("]")[2].partition(":")[2]

    def query(one: Any) -> dict[str, list[str]]:
        return urllib.parse.parse_qs(_url(one.text).query, keep_blank_values=True)

    lists = cel.Type.Map(text, cel.Type.List(text))
    return [
        _Signature("url", False, (text,), kind, lambda given: _opaque("URL", _url(given) and given)),
        _Signature("isURL", False, (text,), truth, _holds(_url)),
        _Signature("getScheme", True, (kind,), text, lambda one: _url(one.text).scheme),
        _Signature("getHost", True, (kind,), text, host),
        _Signature("getHostname", True, (kind,), text, hostname),
        _Signature("getPort", True, (kind,), text, port),
        _Signature(
            "getEscapedPath",
            True,
            (kind,),
            text,
            lambda one: urllib.parse.quote(_url(one.text).path, safe="/%:@!$&'()*+,;=~-._"),
        ),
        _Signature("getQuery", True, (kind,), lists, query),
    ]


# semantic versions

_SEMVER: Final = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(?:-((?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)(?:\.(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*))*))?"
    r"(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?",
    re.ASCII,
)


def _semver(text: str, normalize: bool = False) -> re.Match[str]:
    if normalize:
        plain = text.removeprefix("v")
        core = re.match(r"[0-9.]*", plain)
        assert core is not None  # it may be empty
        parts = [part.lstrip("0") or "0" for part in core[0].split(".")] if core[0] else []
        text = ".".join([*parts, *["0"] * (3 - len(parts))]) + plain[core.end() :]
    found = _SEMVER.fullmatch(text)
    if found is None:
        raise ValueError(f'"{text}" is not a semantic version')
    return found


def _versions(kind: Any, text: Any, whole: Any, truth: Any) -> list[_Signature]:
    def key(one: Any) -> Any:
        """Precedence as semver.org has it: a version before its release, numbers before names."""
        found = _semver(one.text)
        core = tuple(int(found[number]) for number in (1, 2, 3))
        before = tuple(
            (0, int(part), "") if part.isdigit() else (1, 0, part) for part in (found[4] or "").split(".") if part
        )
        return core, not before, before

    def part(number: int) -> Callable[[Any], int]:
        return lambda one: int(_semver(one.text)[number])

    made = [
        _Signature("semver", False, takes, kind, lambda *given: _opaque("Semver", _semver(*given)[0]))
        for takes in ((text,), (text, truth))
    ]
    asked = [_Signature("isSemver", False, takes, truth, _holds(_semver)) for takes in ((text,), (text, truth))]
    parts = [
        _Signature(name, True, (kind,), whole, part(number))
        for number, name in enumerate(("major", "minor", "patch"), start=1)
    ]
    return [*made, *asked, *parts, *_compared(key, kind, whole, truth)]


# named formats


def _no_uuid(text: str) -> list[str]:
    found = re.fullmatch(r"(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", text)
    return [] if found else ["does not match the UUID format"]


def _refused(check: Callable[[str], object], why: str | None = None) -> Callable[[str], list[str]]:
    def faults(text: str) -> list[str]:
        try:
            check(text)
        except ValueError as error:
            return [why or str(error)]
        return []

    return faults


def _prefix_of(rule: Callable[[str], list[str]]) -> Callable[[str], list[str]]:
    """Turn a rule for a name into one for a name's prefix."""
    return lambda text: rule(f"{text[:-1]}a" if text.endswith("-") else text)


FORMATS: Final[dict[str, Callable[[str], list[str]]]] = {
    "dns1123Label": names_of.dns_label,
    "dns1123Subdomain": names_of.dns_subdomain,
    "dns1035Label": names_of.dns_1035,
    "qualifiedName": names_of.qualified,
    "dns1123LabelPrefix": _prefix_of(names_of.dns_label),
    "dns1123SubdomainPrefix": _prefix_of(names_of.dns_subdomain),
    "dns1035LabelPrefix": _prefix_of(names_of.dns_1035),
    "labelValue": names_of.label_value,
    "uri": _refused(lambda text: _url(text)),
    "uuid": _no_uuid,
    "byte": _refused(lambda text: base64.b64decode(text, validate=True), "invalid base64"),
    "date": _refused(date.fromisoformat, "invalid date"),
    "datetime": _refused(datetime.fromisoformat, "invalid datetime"),
}
VALIDATE: Final = "validate"  # gives an optional list; the runtime's functions cannot, so cel wraps what it is given


def _formats(kind: Any, text: Any) -> list[_Signature]:
    faults = cel.Type.AbstractType("optional_type", [cel.Type.List(text)])

    def named(name: str) -> Callable[[], Any]:
        return lambda: _opaque("Format", name)

    made = [_Signature(f"format.{name}", False, (), kind, named(name)) for name in FORMATS]
    check = _Signature(VALIDATE, True, (kind, text), faults, lambda form, value: FORMATS[form.text](value))
    return [*made, check]


# lists, sets and regular expressions


def _lists(many: Any, any_: Any, text: Any, whole: Any, truth: Any) -> list[_Signature]:
    texts = cel.Type.List(text)
    return [
        _Signature("isSorted", True, (many,), truth, lambda held: all(a <= b for a, b in pairwise(held))),
        _Signature("sum", True, (many,), any_, sum),
        _Signature("min", True, (many,), any_, _first_of(min)),
        _Signature("max", True, (many,), any_, _first_of(max)),
        _Signature("indexOf", True, (many, any_), whole, lambda held, one: held.index(one) if one in held else -1),
        _Signature(
            "lastIndexOf",
            True,
            (many, any_),
            whole,
            lambda held, one: len(held) - 1 - held[::-1].index(one) if one in held else -1,
        ),
        _Signature("slice", True, (many, whole, whole), many, _sliced),
        _Signature("flatten", True, (many,), many, lambda held: _flat(held, 1)),
        _Signature("flatten", True, (many, whole), many, _flat),
        _Signature("distinct", True, (many,), many, _distinct),
        _Signature("reverse", True, (many,), many, lambda held: held[::-1]),
        _Signature("sort", True, (many,), many, sorted),
        _Signature("lists.range", False, (whole,), cel.Type.List(whole), lambda end: list(range(min(end, _LONGEST)))),
        _Signature("sets.contains", False, (many, many), truth, lambda held, some: all(one in held for one in some)),
        _Signature("sets.intersects", False, (many, many), truth, lambda held, some: any(one in held for one in some)),
        _Signature(
            "sets.equivalent",
            False,
            (many, many),
            truth,
            lambda held, some: all(one in held for one in some) and all(one in some for one in held),
        ),
        _Signature("find", True, (text, text), text, lambda held, rule: _matches(held, rule, 1)[0] or ""),
        _Signature("findAll", True, (text, text), texts, lambda held, rule: [*filter(None, _matches(held, rule, -1))]),
        _Signature("findAll", True, (text, text, whole), texts, _matches_up_to),
    ]


_LONGEST: Final = 10_000  # of a range: as many steps as an expression may take


def _first_of(choose: Callable[[Sequence[Any]], Any]) -> Callable[[Sequence[Any]], Any]:
    def chosen(held: Sequence[Any]) -> Any:
        if not held:
            raise ValueError(f"{choose.__name__} called on empty list")
        return choose(held)

    return chosen


def _sliced(held: Sequence[Any], begin: int, end: int) -> list[Any]:
    if not 0 <= begin <= end <= len(held):
        raise ValueError(f"cannot slice({begin}, {end}), list is length {len(held)}")
    return [*held[begin:end]]


def _flat(held: Sequence[Any], depth: int) -> list[Any]:
    if depth < 0:
        raise ValueError("level must be non-negative")
    found: list[Any] = []
    for one in held:
        found += _flat(one, depth - 1) if isinstance(one, list) and depth else [one]
    return found


def _distinct(held: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    for one in held:
        if one not in found:
            found.append(one)
    return found


@lru_cache(maxsize=256)
def _compiled(rule: str) -> Any:
    try:
        return re2.compile(rule)
    except re2.error as error:
        raise ValueError(f"Illegal regex: {error}") from None


def _matches(held: str, rule: str, limit: int) -> list[str | None]:
    found: list[str | None] = []
    for one in _compiled(rule).finditer(held):
        if 0 <= limit <= len(found):
            break
        found.append(one[0])
    return found or ([None] if limit == 1 else [])


def _matches_up_to(held: str, rule: str, limit: int) -> list[str]:
    return [*filter(None, _matches(held, rule, limit))]
