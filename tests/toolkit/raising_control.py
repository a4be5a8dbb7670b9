"""A control that raises where Chaos Toolkit swallows it."""

from typing import Any


def before_method_control(context: Any, **_: Any) -> None:
    raise ValueError("the safeguard did not work")
