"""What our pods ask for, over every manifest and every pod that code plans."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import chaos
from chaos.mesh import manifests
from chaos.resources import shipped

CODE = Path(chaos.__file__).parent


def contexts(node: Any) -> list[dict[str, Any]]:
    """Every container's securityContext in an object."""
    if isinstance(node, list):
        return [one for item in node for one in contexts(item)]
    if not isinstance(node, dict):
        return []
    own = [node["securityContext"]] if "image" in node and "securityContext" in node else []
    return own + [one for item in node.values() for one in contexts(item)]


def planned_in(source: Path) -> list[tuple[int, set[str]]]:
    """(line, keys) of each dict in the source that sets `privileged` to something that may be true."""
    return [
        (node.lineno, {key.value for key in node.keys if isinstance(key, ast.Constant)})
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Dict)
        and any(
            isinstance(key, ast.Constant)
            and key.value == "privileged"
            and not (isinstance(value, ast.Constant) and value.value is False)
            for key, value in zip(node.keys, node.values, strict=True)
        )
    ]


@pytest.mark.parametrize("file", sorted(shipped("manifests").rglob("*.yaml")), ids=str)
def test_a_privileged_container_of_a_manifest_says_that_it_is_root(file: Path) -> None:
    for context in contexts(manifests.read(file)):
        if context.get("privileged") or (context.get("capabilities") or {}).get("add"):
            assert context.get("runAsUser") == 0, f"{file}: of another user no capability is effective"


def test_every_privileged_container_that_code_plans_says_that_it_is_root() -> None:
    found = {
        f"{source.relative_to(CODE)}:{line}": keys
        for source in CODE.rglob("*.py")
        if "embedded" not in source.parts
        for line, keys in planned_in(source)
    }
    assert found
    assert {place: keys for place, keys in found.items() if "runAsUser" not in keys} == {}
