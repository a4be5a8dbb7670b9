"""What rules of a definition can cost at most: numbers of a Kubernetes 1.36.3 (cel-go 0.26), to the last digit."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.embedded.api import cel_costs
from chaos.embedded.api.custom import rules, structural

TEXT: dict[str, Any] = {"type": "string"}
SHORT: dict[str, Any] = {"type": "string", "maxLength": 10}
WHOLE: dict[str, Any] = {"type": "integer"}


def _list(items: dict[str, Any], most: int | None = None) -> dict[str, Any]:
    return {"type": "array", "items": items} | ({} if most is None else {"maxItems": most})


def _map(values: dict[str, Any], most: int | None = None) -> dict[str, Any]:
    found = {"type": "object", "additionalProperties": values}
    return found | ({} if most is None else {"maxProperties": most})


def _object(required: tuple[str, ...] = (), /, **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties} | ({"required": list(required)} if required else {})


SCHEMA = _object(
    ("n",),
    s=TEXT,
    t=SHORT,
    e={"type": "string", "enum": ["a", "bcd", "é"]},
    n=WHOLE,
    x={"type": "number"},
    b={"type": "boolean"},
    d={"type": "string", "format": "duration"},
    w={"type": "string", "format": "date-time"},
    y={"type": "string", "format": "byte", "maxLength": 30},
    i={"x-kubernetes-int-or-string": True},
    j={"x-kubernetes-int-or-string": True, "maxLength": 5},
    l=_list(TEXT),
    l5=_list(SHORT, 5),
    ln=_list(WHOLE, 7),
    ll=_list(_list(SHORT, 4), 3),
    m=_map(TEXT),
    m5=_map(SHORT, 5),
    ml=_map(_list(SHORT, 3), 2),
    o=_object(a=SHORT, k=WHOLE),
    lo=_list(_object(("name",), name=SHORT, v=WHOLE, tags=_list(SHORT, 3)), 6),
    big=_list(_object(("name",), name=TEXT)),
)
COSTS: list[tuple[int, str]] = [
    (0, "true"),
    (3, "self.n > 5"),
    (4, "self.n == self.n"),
    (3, "self.s == 'abc'"),
    (8, "self.s == self.t"),
    (8, "self.t != oldSelf.t"),
    (3, "self.e == 'a'"),
    (5, "self.x < 2.0 && self.b"),
    (3, "has(self.s) || has(self.o.a)"),
    (6, "!has(self.o) || self.o.a == 'x'"),
    (8, "self.s.startsWith(self.t)"),
    (3, "self.s.endsWith('x')"),
    (6, "self.t.contains('abc')"),
    (1258296, "self.s.contains(self.t)"),
    (12, "self.t.matches('^[a-z]+$')"),
    (629148, "self.s.matches('^[a-z]+$')"),
    (4, "size(self.s) > 3"),
    (4, "self.l.size() < 9"),
    (5242878, "self.l.all(x, x == 'a')"),
    (28, "self.l5.all(x, x == 'a')"),
    (33, "self.l5.exists(x, x.startsWith('ab'))"),
    (49, "self.l5.exists_one(x, x == self.t)"),
    (38, "self.ln.all(x, x > 3)"),
    (105, "self.l5.map(x, x + 'b').size() > 1"),
    (90, "self.l5.filter(x, x != 'c').size() > 1"),
    (134, "self.l5.map(x, x.startsWith('a'), x + 'b').all(y, y == 'ab')"),
    (78, "self.ll.all(x, x.all(y, y == 'z'))"),
    (21, "self.ll.all(x, x.size() > 1)"),
    (5, "self.ll[0][1] == 'a'"),
    (4, "self.m['a'] == 'b'"),
    (43, "self.m5.all(k, k == self.m5[k])"),
    (33, "self.m5.exists(k, k.startsWith('x'))"),
    (49, "self.ml.all(k, self.ml[k].all(v, v == k))"),
    (7, "'a' in self.l5"),
    (3, "'a' in self.m5"),
    (15, "self.t in ['a', 'b', 'c']"),
    (57, "self.lo.all(x, x.v > 3 && x.name == 'a')"),
    (201, "self.lo.all(x, x.tags.all(t, t.matches('a')))"),
    (75, "self.lo.exists(x, x.name == oldSelf.t)"),
    (867, "self.lo.all(x, self.lo.filter(y, y.name == x.name).size() == 1)"),
    (1451871, "self.big.all(x, x.name == 'a')"),
    (18419772179221075, "self.big.all(x, self.big.exists(y, y.name == x.name))"),
    (345881509131242703, "self.l.all(x, self.l.all(y, x == y))"),
    (3, "self.i == 5"),
    (3, "self.i == '5'"),
    (314576, "string(self.i) == '5'"),
    (3, "self.j == 'a'"),
    (4, "string(self.n) == '1'"),
    (1844674407370955273, "string(self.n) + 'a' == self.t"),
    (22, "self.t + self.t == self.s"),
    (8, "(self.t + 'a').startsWith('b')"),
    (21, "[self.t, 'b'].all(x, x == 'c')"),
    (26, "[1, 2, 3].all(x, x < 4)"),
    (41, "{'a': self.t, 'b': 'c'}.all(k, k == 'a')"),
    (5, "self.b ? self.t == 'a' : self.s == 'b'"),
    (5, "(self.b ? self.t : self.e) == 'a'"),
    (25, "(self.b ? self.l5 : self.l5).all(x, x == 'a')"),
    (5, "duration(self.t) > duration('1s')"),
    (4, "self.d > duration('1s')"),
    (4, "self.w < timestamp('2020-01-01T00:00:00Z')"),
    (3, "self.y == b'abc'"),
    (7, "self.t.lowerAscii() == 'a'"),
    (314576, "self.s.upperAscii() == 'A'"),
    (11, "self.t.trim().substring(1) == 'a'"),
    (12, "self.t.split(',').size() > 1"),
    (19, "self.t.split(',', 2).all(x, x == 'a')"),
    (24, "self.l5.join(',') == 'a'"),
    (24, "self.l5.join().size() > 2"),
    (1844674407370955280, "['a'].join(',') == self.t"),
    (11, "self.t.replace('a', 'bb') == 'c'"),
    (11, "self.t.replace('', 'bb') == 'c'"),
    (629151, "self.s.replace(self.t, 'x') == 'c'"),
    (8, "self.t.find('a+') == 'a'"),
    (9, "self.t.findAll('a+').size() > 0"),
    (7, "self.t.indexOf('a') > 1"),
    (28, "self.l5.indexOf('a') > 1"),
    (10, "self.ln.sum() > 3"),
    (10, "self.ln.max() > 3"),
    (28, "self.l5.max() == 'a'"),
    (27, "self.l5.isSorted()"),
    (3, "isURL(self.t)"),
    (8, "url(self.t).getHost() == 'a'"),
    (629154, "url(self.t) == url(self.s)"),
    (6, "isIP(self.t)"),
    (8, "ip(self.t).family() == 4"),
    (10, "ip.isCanonical(self.t)"),
    (8, "ip(self.t) == ip('1.2.3.4')"),
    (16, "cidr(self.t).containsIP(self.t)"),
    (16, "cidr(self.t).containsIP(ip(self.t))"),
    (19, "cidr(self.t).containsCIDR(self.t)"),
    (314588, "cidr(self.t).containsCIDR(cidr(self.s))"),
    (9, "cidr(self.t).ip().family() == 4"),
    (8, "cidr(self.t).prefixLength() == 4"),
    (6, "isQuantity(self.t)"),
    (8, "quantity(self.t).isGreaterThan(quantity('1'))"),
    (314582, "quantity(self.t) == quantity(self.s)"),
    (10, "quantity(self.t).add(3).compareTo(quantity('1')) > 0"),
    (8, "semver(self.t).major() > 1"),
    (314575, "isSemver(self.s)"),
    (133, "!format.dns1123Label().validate(self.t).hasValue()"),
    (4, "self.?s.orValue('a') == 'b'"),
    (4, "self.?o.?a.hasValue()"),
    (5, "optional.of(self.t).value() == 'a'"),
    (4, "self.o == oldSelf.o"),
    (2, "self == oldSelf"),
    (5, "self.l5 == oldSelf.l5"),
    (104862, "self.l == oldSelf.l"),
    (7, "type(self.i) == int ? self.i > 3 : self.i == 'a'"),
    (4, "dyn(self.t) == 'a'"),
    (24, "dyn(self.l5).all(x, x == 'a')"),
    (8, "self.l5 + self.l5 == self.l5"),
    (50, "(self.l5 + ['x']).all(x, x == self.t)"),
    (259, "self.l5.map(x, {'a': x}).all(y, y.a == 'b')"),
    (122, "self.lo.map(x, x.name).all(y, y == 'b')"),
    (128, "self.lo.map(x, x.tags).all(y, y.all(z, z == 'b'))"),
    (18, "sets.contains(self.l5, ['a'])"),
    (14, "'%s'.format([self.t]) == 'a'"),
    (7, "strings.quote(self.t) == 'a'"),
    (7, "bytes(self.t) == b'a'"),
    (6, "string(self.y) == 'a'"),
    (11, "self.t < 'b' && self.s >= self.t"),
    (4, "-self.n < 3"),
    (3, "!self.b"),
    (11, "self.n in self.ln"),
    (8, "self.ln[0] + self.ln[1] > 3"),
    (6, "self.lo[0].tags[0] == 'a'"),
    (6, "self.lo[0].name.size() > 1"),
    (4, "self.m5.size() > 1"),
    (5, "self.m5 == oldSelf.m5"),
    (183, "self.l5.all(x, self.m5.exists(k, k == x))"),
]


@pytest.mark.parametrize(("cost", "rule"), COSTS, ids=[rule for _, rule in COSTS])
def test_a_rule_costs_at_most_what_it_does_in_kubernetes(cost: int, rule: str) -> None:
    limits = cel_costs.bounds(SCHEMA)
    scope = rules.scope_of(SCHEMA, root=False)
    assert limits is not None
    assert cel_costs.estimated(scope.compile(rule).serialized, limits) == cost


OTHERS: list[tuple[dict[str, Any], str, int, int]] = [
    (
        {"type": "array", "items": {"type": "array", "maxItems": 2, "items": SHORT}},
        "self.all(x, x.all(y, y == 'a'))",
        15728627,
        1048576,
    ),
    (
        {"type": "object", "additionalProperties": {"type": "object", "properties": {"a": SHORT}}},
        "self.all(k, self[k].a == k)",
        3145722,
        1048576,
    ),
    ({"type": "string"}, "self == oldSelf", 314575, 1048576),
    ({"type": "string", "maxLength": 7}, "self.startsWith('a')", 2, 1048576),
    ({"type": "integer"}, "self > 3 && self < oldSelf", 5, 1572864),
    (
        {
            "type": "array",
            "items": {"type": "object", "properties": {"a": {"type": "object", "additionalProperties": SHORT}}},
        },
        "self.all(x, x.a.all(k, k == 'z'))",
        1649267965952,
        1048576,
    ),
    ({"x-kubernetes-int-or-string": True}, "self == 'a' || self == 3", 4, 1572864),
    ({"type": "array", "maxItems": 0, "items": SHORT}, "self.all(x, x == 'a')", 2, 1048576),
    ({"type": "string", "format": "byte"}, "self.size() > 3", 3, 1048576),
]


@pytest.mark.parametrize(("schema", "rule", "cost", "times"), OTHERS)
def test_a_rule_of_any_type_costs_what_its_values_may_hold(
    schema: dict[str, Any], rule: str, cost: int, times: int
) -> None:
    limits = cel_costs.bounds(schema)
    scope = rules.scope_of(schema, root=False)
    assert limits is not None
    assert (cel_costs.estimated(scope.compile(rule).serialized, limits), cel_costs.in_request(limits)) == (cost, times)


AT = "s.properties"
DEAR = "self.all(x, x == 'a')"


def _ruled(schema: dict[str, Any], rule: str, **more: Any) -> dict[str, Any]:
    return schema | {"x-kubernetes-validations": [{"rule": rule} | more]}


REFUSED: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    (_object(a=_ruled(_list(TEXT), DEAR)), []),
    (
        _object(a=_ruled(_list(TEXT), "self.all(x, self.all(y, x == y))")),
        [
            (
                f"{AT}[a].x-kubernetes-validations[0].rule",
                "estimated rule cost exceeds budget by factor of more than 100x",
            ),
            (f"{AT}[a].x-kubernetes-validations[0].rule", "contributed to estimated rule cost total"),
            ("s", "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget"),
        ],
    ),
    (  # bounded above and below: a product of the bounds
        _object(a=_list(_ruled(SHORT, "self.matches('a')"), 1000)),
        [],
    ),
    (
        _object(a=_list(_ruled(SHORT, "self.matches('^a{1,3}b*c+d?$')"))),
        [(f"{AT}[a].items.x-kubernetes-validations[0].rule", "estimated rule cost exceeds budget by factor of 2.")],
    ),
    (
        _object(a=_ruled(SHORT, "self == 'a'", messageExpression="'no ' + string(size(self))")),
        [
            (
                f"{AT}[a].x-kubernetes-validations[0].messageExpression",
                "estimated messageExpression cost exceeds budget by factor of more than 100x",
            ),
            (f"{AT}[a].x-kubernetes-validations[0].messageExpression", "contributed to estimated rule cost total"),
            ("s", "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget"),
        ],
    ),
]


@pytest.mark.parametrize(("schema", "causes"), REFUSED)
def test_a_definition_whose_rules_could_cost_too_much_is_refused(
    schema: dict[str, Any], causes: list[tuple[str, str]]
) -> None:
    found = structural.faults(schema, "s", status=False)
    assert [one.field for one in found] == [field for field, _ in causes]
    for one, (_, words) in zip(found, causes, strict=True):
        assert one.message.startswith(f"Forbidden: {words}"), one.message
