"""Who holds a socket of a network namespace: real sockets, real processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.inpod.socket_holders import cookie_of, holders

PROGRAM = "import socket; s = socket.socket(); print(flush=True); input()"


@pytest.mark.live
@pytest.mark.privileged
def test_a_process_with_a_socket_of_the_namespace_holds_it_and_one_without_does_not() -> None:
    with socket.socket() as mine:
        cookie = cookie_of(mine)
    programs = [
        subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for text in (PROGRAM, PROGRAM.replace("socket.socket()", "0"))
    ]
    try:
        for one in programs:
            assert one.stdout is not None
            one.stdout.readline()
        found = set(holders(cookie))
        assert programs[0].pid in found
        assert programs[1].pid not in found
        assert os.getpid() not in found
        assert set(holders(cookie + 1_000_000)).isdisjoint(one.pid for one in programs)
    finally:
        for one in programs:
            one.communicate(b"\n", timeout=10)


def test_what_is_no_process_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "99999999").mkdir()
    assert holders(1, tmp_path) == []
