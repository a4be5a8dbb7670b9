"""An upgrade changes something."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.errors import Misuse
from chaos.faults.upgrade import Upgrade, plan_template


def test_an_upgrade_that_changes_nothing_is_refused() -> None:
    template = {"spec": {"containers": [{"name": "a", "image": "x:1", "env": [{"name": "K", "value": "1"}]}]}}
    with pytest.raises(Misuse, match="already like that"):
        plan_template(template, Upgrade(env={"K": "1"}))
    with pytest.raises(Misuse, match="no container 'b'"):
        plan_template(template, Upgrade(container="b", image="x:2"))
    changed = plan_template(template, Upgrade(image="x:2", env={"L": "2"}))["spec"]["containers"][0]
    assert (changed["image"], len(changed["env"])) == ("x:2", 2)


def test_an_upgrade_reaches_init_containers_and_the_pods_annotations() -> None:
    template: dict[str, Any] = {
        "metadata": {"annotations": {"a": "1"}},
        "spec": {
            "containers": [{"name": "app", "image": "x:1"}],
            "initContainers": [{"name": "proxy", "image": "p:1"}],
        },
    }
    native = plan_template(template, Upgrade(container="proxy", image="p:2"))
    assert native["spec"]["initContainers"] == [{"name": "proxy", "image": "p:2"}]
    assert native["spec"]["containers"] == template["spec"]["containers"]
    marked = plan_template(template, Upgrade(annotations={"b": "2"}))
    assert marked["metadata"]["annotations"] == {"a": "1", "b": "2"}
    assert marked["spec"] == template["spec"]
    with pytest.raises(Misuse, match="already like that"):
        plan_template(template, Upgrade(annotations={"a": "1"}))
