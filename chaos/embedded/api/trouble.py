"""Injected API failures: the API server answers some users late, with errors, or not at all, for a given time.

`POST /embedded/trouble/NAME` with
`{"user": "...", "share": 0.5, "code": 503, "delay": 0, "silent": false, "seconds": 30}`,
`POST /embedded/trouble/NAME/end`, `GET /embedded/trouble`. It ends by itself: its author may be among the users without
an answer. `/embedded/` itself is exempt, so that an undo always gets through.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from chaos.embedded.api.auth import User
from chaos.embedded.api.connections import abort
from chaos.embedded.api.errors import StatusError, bad_request, no_such_path
from chaos.fields import Fields

MOST_SECONDS: Final = 600.0
_FIELDS: Final = ("user", "share", "code", "delay", "silent", "seconds")


@dataclass(slots=True)
class Trouble:
    """The users that a failure affects, and its effect.

    Attributes:
        user: a user's name; "" for all.
        share: of their requests, 0 to 1.
        code: HTTP status instead of an answer; 0: the right answer.
        delay: seconds before the answer.
        silent: no answer until the trouble is over; then the connection is closed. Watches are cut when it begins.
        until: monotonic time.
        met: requests affected so far.
    """

    user: str
    share: float
    code: int
    delay: float
    silent: bool
    until: float
    met: int = 0
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def shown(self) -> dict[str, Any]:
        return {
            "user": self.user,
            "share": self.share,
            "code": self.code,
            "delay": self.delay,
            "silent": self.silent,
            "seconds_left": max(0.0, self.until - time.monotonic()),
            "met": self.met,
        }


def parse_trouble(data: Any) -> Trouble:
    """Parse a trouble from JSON; StatusError 400 with every problem."""
    problems: list[str] = []
    fields = Fields(data, "", problems, known=_FIELDS)
    code, delay = fields.number("code", default=0, low=0), fields.number("delay", default=0.0, low=0, high=60)
    if code and (code not in range(400, 600)):
        fields.wrong("code", f"is {code!r}, and should be 0 or from 400 to 599")
    trouble = Trouble(
        fields.text("user", default=""),
        fields.number("share", default=1.0, high=1),
        int(code),
        delay,
        fields.flag("silent"),
        time.monotonic() + fields.number("seconds", default=0.0, high=MOST_SECONDS),
    )
    if not problems and not (trouble.code or trouble.delay or trouble.silent):
        problems.append("nothing would happen: set code, delay or silent")
    if problems:
        raise bad_request("trouble: " + "; ".join(problems))
    return trouble


class Troubles:
    """The troubles in force, by name."""

    def __init__(self) -> None:
        self._found: dict[str, Trouble] = {}

    async def meet(self, user: User, request: web.BaseRequest) -> None:
        """Apply the first trouble that matches a request. Raises StatusError for an answer of its own."""
        if not self._found or request.path.startswith("/embedded/"):
            return
        now = time.monotonic()
        self._found = {name: one for name, one in self._found.items() if one.until > now}
        for one in self._found.values():
            if one.user in ("", user.name) and one.chance.random() < one.share:
                one.met += 1
                await self._suffer(one, request)
                return

    async def _suffer(self, one: Trouble, request: web.BaseRequest) -> None:
        wait = one.until - time.monotonic() if one.silent else min(one.delay, one.until - time.monotonic())
        try:
            async with asyncio.timeout(max(0.0, wait)):
                await one.over.wait()
        except TimeoutError:
            pass
        if one.silent:
            if request.transport is not None:
                abort(request.transport)
            raise StatusError(503, "injected trouble: no answer")  # for the audit log: nobody is there to read it
        if one.code:
            raise StatusError(one.code, f"injected trouble: code {one.code}")

    async def answer(self, request: web.BaseRequest, path: str, server: web.Server | None) -> Any:
        """Answer requests below /embedded/trouble."""
        parts = path.strip("/").split("/")[2:]
        if request.method == "GET" and not parts:
            return {name: one.shown() for name, one in self._found.items()}
        if request.method != "POST" or not 1 <= len(parts) <= 2 or parts[1:] not in ([], ["end"]):
            raise no_such_path()
        if parts[1:]:
            found = self._found.pop(parts[0], None)
            if found is not None:
                found.over.set()
            return found.shown() if found is not None else {}
        try:
            trouble = parse_trouble(json.loads(await request.read()))
        except ValueError as error:
            raise bad_request(f"trouble: not JSON: {error}") from error
        self._found[parts[0]] = trouble
        if trouble.silent and server is not None:
            for connection in server.connections:
                if connection.transport is not None and connection.transport is not request.transport:
                    abort(connection.transport)  # watches that stand would go on being fed
        return trouble.shown()
