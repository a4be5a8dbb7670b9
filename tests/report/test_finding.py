"""The finding in sentences: who was hurt, and of whom that is not known."""

from __future__ import annotations

from chaos.history.result import TrialResult
from chaos.report.finding import headline


def killed(mode: str, *, hurt: str = "", unhurt: str = "", open_: str = "") -> TrialResult:
    flows = {
        name: [f"tenant-{one}/client -> tenant-{one}/server" for one in letters]
        for name, letters in (("hurt", hurt), ("unhurt", unhurt), ("inconclusive", open_))
    }
    verdict = "inconclusive" if open_ else "pass"
    return TrialResult(mode, "proxy-killed", "p", 1, 1.0, {"hurt": [], "unhurt": []}, flows, {}, verdict, "")


def test_a_tenant_of_whom_nothing_is_known_is_not_counted_as_spared_in_silence() -> None:
    paused = TrialResult("node", "proxy-paused", "p", 1, 1.0, {}, killed("node").observed, {}, "pass", "")
    said = headline([killed("sidecar", hurt="a", unhurt="b", open_="c"), killed("node", hurt="ab", unhurt="c"), paused])
    assert "1 of 3 tenants in mode sidecar (1 cannot be told), 2 of 3 in node." in said
    assert "cannot be told" not in headline([killed("sidecar", hurt="a", unhurt="bc"), paused])
