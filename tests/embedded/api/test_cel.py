"""Expressions as Kubernetes evaluates them: the examples of its documentation, its compiler's words, its types."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from chaos.embedded.api import cel

EXAMPLES = [
    # expression, values
    ("quantity('200M').compareTo(quantity('0.2G')) == 0", True),
    ("quantity('50M').isLessThan(quantity('50Mi'))", True),
    ("quantity('50k').add(20) == quantity('50020')", True),
    ("quantity('50k').sub(quantity('20k')) == quantity('30k')", True),
    ("quantity('50k').asInteger() == 50000", True),
    ("quantity('1500m').isInteger()", False),
    ("quantity('-1').sign() == -1", True),
    ("isQuantity('1.3Gi') && !isQuantity('200K') && !isQuantity('Mi')", True),
    ("ip('127.0.0.1').family() == 4 && ip('::1').family() == 6", True),
    ("isIP('127.0.0.256') || isIP(':::1') || isIP('::ffff:1.2.3.4') || isIP('fe80::1%eth0')", False),
    ("ip.isCanonical('2001:db8::abcd') && !ip.isCanonical('2001:DB8::ABCD')", True),
    ("ip('224.0.0.1').isLinkLocalMulticast() && !ip('224.0.1.1').isLinkLocalMulticast()", True),
    ("ip('192.168.0.1').isGlobalUnicast() && !ip('255.255.255.255').isGlobalUnicast()", True),
    ("string(ip('192.168.0.1')) == '192.168.0.1'", True),
    ("cidr('192.168.0.0/24').containsIP('192.168.0.1')", True),
    ("cidr('192.168.0.0/24').containsIP(ip('192.168.1.1'))", False),
    ("cidr('192.168.0.0/16').containsCIDR('192.168.10.0/24')", True),
    ("cidr('192.168.0.1/24').masked() == cidr('192.168.0.0/24')", True),
    ("cidr('::1/128').prefixLength() == 128 && cidr('::1/128').ip() == ip('::1')", True),
    ("isCIDR('192.168.0.0/33') || isCIDR('::1/129')", False),
    ("url('https://example.com:80/').getHost() == 'example.com:80'", True),
    ("url('https://[::1]:80/').getHostname() == '::1' && url('https://[::1]:80/').getPort() == '80'", True),
    ("url('https://example.com/path with spaces/').getEscapedPath() == '/path%20with%20spaces/'", True),
    ("url('https://example.com/path?k1=a&k2=b&k2=c').getQuery() == {'k1': ['a'], 'k2': ['b', 'c']}", True),
    ("isURL('/absolute-path') && !isURL('../relative-path') && !isURL('https://a:b:c/')", True),
    ("url('/path').getScheme() == ''", True),
    ("'abc 123'.find('[0-9]+') == '123' && 'abc'.find('[0-9]+') == ''", True),
    ("'123 abc 456'.findAll('[0-9]+') == ['123', '456']", True),
    ("'123 abc 456'.findAll('[0-9]+', 1) == ['123']", True),
    ("semver('1.2.3').isLessThan(semver('2.0.0')) && semver('1.0.0-alpha').isLessThan(semver('1.0.0'))", True),
    ("isSemver('v1.0') || isSemver('01.0.0')", False),
    ("semver('v1.0', true).major() == 1 && isSemver('01.01.01', true)", True),
    ("[1, 2, 3].isSorted() && !['b', 'a'].isSorted()", True),
    ("[1, 3].sum() == 4 && [1, 3].min() == 1 && [1, 3].max() == 3", True),
    ("[1, 2, 2, 3].indexOf(2) == 1 && ['a', 'b', 'b'].lastIndexOf('b') == 2 && [1].indexOf(5) == -1", True),
    ("'tea'.indexOf('a') == 2", True),
    ("[3, 1].sort() == [1, 3] && [1, 1, 2].distinct() == [1, 2] && [1, 2].reverse() == [2, 1]", True),
    ("sets.contains([1, 2], [2]) && !sets.intersects([1], [2]) && sets.equivalent([1, 2], [2, 1, 1])", True),
    ("'a,b'.split(',').join('-') == 'a-b' && 'AB'.lowerAscii() == 'ab' && 'abc'.substring(1, 2) == 'b'", True),
    ("duration('90s') > duration('1m') && timestamp('2020-01-01T00:00:00Z').getFullYear() == 2020", True),
    ("format.dns1123Label().validate('a-b').hasValue()", False),
    ("format.dns1123Label().validate('A_b').value().size() == 1", True),
    ("format.uuid().validate('123e4567-e89b-12d3-a456-426614174000') == optional.none()", True),
    ("format.dns1123LabelPrefix().validate('a-').hasValue() || format.date().validate('2021-13-01').hasValue()", True),
    ("format.dns1123Label().validate('a-b') == null", False),  # an optional without a value is not null
    ("1 < 1.5 && 2.5 >= 1", True),  # an int and a double may be compared for order
    ("self.?missing.orValue(3) == 3", True),
    ("self.items.exists_one(x, x.name == 'a')", True),
    ("self.items.map(x, x.name) == ['a', 'b']", True),
]
ITEMS = {"items": [{"name": "a"}, {"name": "b"}]}


@pytest.mark.parametrize(("text", "expected"), EXAMPLES)
def test_an_expression_of_the_documentation_has_its_value(text: str, expected: bool) -> None:
    assert cel.compile(text, {"self": None}).evaluate({"self": ITEMS}) is expected


OBJECT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "namespace": {"type": "string"},
        "a-b/c.d": {"type": "string"},
        "replicas": {"type": "integer", "format": "int32"},
        "ratio": {"type": "number"},
        "port": {"x-kubernetes-int-or-string": True},
        "wait": {"type": "string", "format": "duration"},
        "since": {"type": "string", "format": "date-time"},
        "day": {"type": "string", "format": "date"},
        "data": {"type": "string", "format": "byte"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "lists": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}},
        "foo_bar": {"type": "object", "additionalProperties": {"type": "string"}},
        "fooBar": {"type": "object", "additionalProperties": {"type": "string"}},
        "rows": {"type": "array", "items": {"type": "object", "properties": {"key": {"type": "string"}}}},
        "hidden": {"x-kubernetes-preserve-unknown-fields": True},
        "embedded": {"type": "object", "x-kubernetes-embedded-resource": True},
    },
}
REFUSED = [
    ("self.nope == 1", "ERROR: <input>:1:5: undefined field 'nope'\n | self.nope == 1\n | ....^"),
    ("self.rows.all(r, r.kay == '')", "undefined field 'kay'"),
    ("self.hidden == 1", "undefined field 'hidden'"),
    ("self.name == 1", "found no matching overload for '_==_' applied to '(string, int)'"),
    ("self.name > self.replicas", "found no matching overload for '_>_' applied to '(string, int)'"),
    ("self.wait > 5", "found no matching overload for '_>_' applied to '(google.protobuf.Duration, int)'"),
    ("quantity(self.replicas).sign() == 1", "found no matching overload for 'quantity' applied to '(int)'"),
    ("other == 1", "undeclared reference to 'other' (in container '')"),
    ("nosuch(self.name)", "undeclared reference to 'nosuch' (in container '')"),
    ("self.name ==", "Syntax error: mismatched input '<EOF>'"),
    ("self.name", "cel expression must evaluate to a bool"),
    ("self.replicas", "cel expression must evaluate to a bool"),
    ("[1, 2].all(i, v, i < v)", "undeclared reference to 'i'"),  # comprehensions over two variables
]


@pytest.mark.parametrize(("text", "why"), REFUSED)
def test_what_does_not_fit_the_schema_is_refused_when_it_is_compiled(text: str, why: str) -> None:
    with pytest.raises(cel.Uncompilable) as refused:
        cel.compile(text, {"self": OBJECT})
    assert why in str(refused.value)


VALUE = {
    "name": "n",
    "namespace": "s",
    "a-b/c.d": "x",
    "replicas": 2,
    "ratio": 2,
    "port": "50%",
    "wait": "1m30s",
    "since": "2026-01-02T03:04:05Z",
    "day": "2026-01-02",
    "data": "aGk=",
    "labels": {"a-b": "c"},
    "lists": {"l": ["v"]},
    "foo_bar": {"k": "v"},
    "rows": [{"key": "k"}],
    "embedded": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}},
}
TYPED = [
    "self.__namespace__ == 's' && self.a__dash__b__slash__c__dot__d == 'x'",
    "self.ratio / 4.0 == 0.5",
    "type(self.port) == string && self.port.endsWith('%')",
    "self.wait == duration('90s') && self.since > timestamp('2026-01-02T00:00:00Z')",
    "self.day.getDayOfMonth() == 1",  # from nought
    "self.data == b'hi'",
    "self.labels['a-b'] == 'c' && self.labels.all(k, k.size() > 1) && self.lists['l'][0] == 'v'",
    "has(self.foo_bar) && !has(self.fooBar) && self.foo_bar.k == 'v'",
    "self.rows[0].key == 'k' && self.replicas * 2 == 4",
    "self.embedded.metadata.name == 'p' && self.embedded.kind == 'Pod'",
    "self == oldSelf",
]


@pytest.mark.parametrize("text", TYPED)
def test_a_value_is_read_by_its_schema(text: str) -> None:
    found = cel.as_cel(VALUE, OBJECT)
    expression = cel.compile(text, {"self": OBJECT, "oldSelf": OBJECT})
    assert expression.evaluate({"self": found, "oldSelf": found}) is True
    assert expression.uses == {"self", *(["oldSelf"] if "oldSelf" in text else [])}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("self.nope == 1", "no such key: nope"),
        ("1 / self.zero == 1", "division by zero"),
        ("self.zero > 'a'", "no such overload"),
        ("self.rows[7] == 1", "index out of bounds: 7"),
        ("quantity(self.text).sign() == 1", "quantities must match the regular expression"),
        ("[].min() == 1", "min called on empty list"),
        ("self.long.all(x, self.long.all(y, self.long.all(z, x + y + z > 0)))", "actual cost limit exceeded"),
    ],
)
def test_an_evaluation_that_fails_says_why(text: str, why: str) -> None:
    values = {"self": {"zero": 0, "rows": [1], "text": "x", "long": list(range(1, 200))}}
    with pytest.raises(cel.EvaluationFailed, match=why):
        cel.compile(text, {"self": None}).evaluate(values)


def test_the_roots_name_is_always_there() -> None:
    schema = {"type": "object", "properties": {"spec": {"type": "object"}}}
    seen = cel.root(schema)
    value = cel.as_cel({"apiVersion": "a/v1", "kind": "A", "metadata": {"name": "n", "labels": {}}, "spec": {}}, seen)
    assert cel.compile("self.metadata.name == 'n' && self.kind == 'A'", {"self": seen}).evaluate({"self": value})
    with pytest.raises(cel.Uncompilable, match="undefined field 'labels'"):
        cel.compile("has(self.metadata.labels)", {"self": seen})


def test_a_message_is_text() -> None:
    assert (
        cel.compile("'got ' + string(self.n)", {"self": None}, result="string").evaluate({"self": {"n": 3}}) == "got 3"
    )
    with pytest.raises(cel.Uncompilable, match="messageExpression must evaluate to a string"):
        cel.compile("1 + 1", {}, result="string")


@pytest.mark.parametrize("text", ["1h30m", "-1.5s", "0", "300ms", "1us"])
def test_a_duration_is_read_as_go_does(text: str) -> None:
    expected = {"1h30m": 5400 * 10**9, "-1.5s": -1_500_000_000, "0": 0, "300ms": 300_000_000, "1us": 1000}
    assert cel.duration_nanoseconds(text) == expected[text]


def test_the_runtime_is_imported_with_the_first_expression() -> None:
    said = (
        "import sys; import chaos.embedded.api.server; "
        "print([name for name in sys.modules if 'cel_expr' in name or name == 're2'])"
    )
    assert subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True).stdout == "[]\n"
