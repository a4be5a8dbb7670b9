"""An upgrade changes something."""

from __future__ import annotations

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
