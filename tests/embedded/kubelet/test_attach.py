"""Attaching to a container's own process: input, output, terminal, and who waits for whom."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from chaos.embedded.node_api import ExecSession
from tests.embedded.kubelet.nodes import World, in_world, pod, shell

pytestmark = pytest.mark.privileged

MANY = 5_000_000  # bytes, far above what the pipes between hold


async def attached(world: World, container: str = "app", *, stdin: bool = True) -> ExecSession:
    return await world.nodes["node-1"].attach("default", "p", container, stdin=stdin)


async def say(session: ExecSession, text: bytes) -> None:
    assert session.stdin is not None
    session.stdin.write(text)
    await session.stdin.drain()


def test_the_input_of_a_container_that_takes_it_once_ends_with_the_first_clients_and_its_output_goes_on() -> None:
    async def body(world: World) -> None:
        script = "while read line; do echo got $line; echo err $line >&2; done; echo over; exit 3"
        world.create(pod("p", shell("app", script, stdin=True, stdinOnce=True), restartPolicy="Never"))
        await world.ready("p")
        session = await attached(world)
        assert session.stderr is not None
        await say(session, b"one\ntwo\n")
        session.close_stdin()
        assert await session.stdout.read() == b"got one\ngot two\nover\n"
        assert await session.stderr.read() == b"err one\nerr two\n"
        assert await session.wait() == 0
        await world.phase("p", "Failed")
        assert "got two\n" in await world.logs("p", "app")
        with pytest.raises(LookupError):
            await attached(world)

    in_world(body)


def test_a_client_that_goes_leaves_the_container_its_input_and_others_their_output() -> None:
    async def body(world: World) -> None:
        script = "while read line; do echo got $line; done; echo over; exec sleep 600"
        world.create(pod("p", shell("app", script, stdin=True)))
        await world.ready("p")
        first, second = await attached(world), await attached(world)
        await say(first, b"one\n")
        assert await second.stdout.readline() == b"got one\n"
        first.kill()
        await asyncio.wait_for(first.wait(), 5)
        await say(second, b"two\n")
        assert await second.stdout.readline() == b"got two\n"
        second.close_stdin()  # detached: its container is not told
        await asyncio.wait_for(second.wait(), 5)
        third = await attached(world)
        await say(third, b"three\n")
        assert await third.stdout.readline() == b"got three\n"
        third.kill()
        assert "over" not in await world.logs("p", "app")

    in_world(body)


def test_whoever_writes_faster_than_a_client_reads_waits_and_nothing_is_lost() -> None:
    async def body(world: World) -> None:
        make = f"head -c {MANY} /dev/urandom > /tmp/all; sha256sum < /tmp/all > /tmp/sum"
        world.create(pod("p", shell("app", f"{make}; read go; cat /tmp/all; touch /tmp/done; sleep 600", stdin=True)))
        await world.ready("p")
        session = await attached(world)
        await say(session, b"go\n")
        await asyncio.sleep(0.5)
        assert (await world.run("p", "app", "ls", "/tmp/done"))[0] != 0
        got = hashlib.sha256(await session.stdout.readexactly(MANY)).hexdigest()
        assert (await world.run("p", "app", "cat", "/tmp/sum"))[1].startswith(got)
        session.kill()
        gone = await attached(world)  # one that never reads, and goes
        gone.kill()
        await world.until(lambda: world.conditions("p").get("Ready") == "True")

    in_world(body)


def test_a_client_that_goes_without_having_read_holds_nobody_up() -> None:
    async def body(world: World) -> None:
        script = f"read go; head -c {MANY} /dev/zero; echo; echo written; exec sleep 600"
        world.create(pod("p", shell("app", script, stdin=True)))
        await world.ready("p")
        session = await attached(world)
        await say(session, b"go\n")
        await asyncio.sleep(0.3)
        session.kill()
        await world.says("p", "app", "written")

    in_world(body)


def test_a_terminal_has_one_stream_a_size_and_its_own_environment() -> None:
    async def body(world: World) -> None:
        script = "echo $TERM; tty; read go; stty size; echo err >&2; read end; exit 4"
        world.create(pod("p", shell("app", script, stdin=True, stdinOnce=True, tty=True), restartPolicy="Never"))
        await world.ready("p")
        await world.says("p", "app", "/dev/pts/0")
        session = await attached(world)
        assert session.stderr is None
        session.resize(132, 43)
        await say(session, b"go\n")
        out = b""
        async with asyncio.timeout(10):
            while b"err" not in out:
                out += await session.stdout.read(1000)
        assert b"43 132\r\n" in out
        session.kill()  # a terminal stays when its client goes
        again = await attached(world)
        await say(again, b"end\n")
        await asyncio.wait_for(again.wait(), 10)
        again.kill()
        await world.phase("p", "Failed")
        assert (await world.logs("p", "app")).startswith("xterm\r\n/dev/pts/0\r\n")

    in_world(body)


def test_a_container_without_input_is_only_listened_to() -> None:
    async def body(world: World) -> None:
        world.create(pod("p", shell("app", "cat; while sleep 0.1; do echo still; done")))
        await world.ready("p")
        session = await attached(world)
        assert session.stdin is None
        assert await session.stdout.readline() == b"still\n"
        session.kill()
        with pytest.raises(LookupError):
            await attached(world, "other")

    in_world(body)
