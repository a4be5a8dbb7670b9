"""The kubelet as the API server sees it: logs, exec, and connections into a pod. Protocols only.

`kubelet/` implements them and `api/` calls them, so that either can be read and tested alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LogOptions:
    """Query of a pod's `log` subresource."""

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    since_seconds: float | None = None
    limit_bytes: int | None = None


class ExecSession(Protocol):
    """A process started in a container, or a container's own that somebody is attached to."""

    stdin: asyncio.StreamWriter | None
    stdout: asyncio.StreamReader
    stderr: asyncio.StreamReader | None  # None with a terminal: both go to stdout

    def resize(self, columns: int, rows: int) -> None: ...
    def close_stdin(self) -> None:
        """The client has no more to say."""
        ...

    async def wait(self) -> int:
        """The exit code; 128 + the signal's number when it was killed by one. Of an attachment 0, once it is over."""
        ...

    def kill(self) -> None:
        """End it: the process, or the attachment."""
        ...


@dataclass(frozen=True, slots=True)
class ContainerUsage:
    """One container's resource use, from its cgroup."""

    namespace: str
    pod: str
    container: str
    cpu_seconds: float  # cumulative
    cpu_nanocores: int  # over the last sampling interval
    memory_bytes: int  # working set
    at: str  # RFC 3339 with fraction


class Kubelet(Protocol):
    """One node's kubelet, as the API server sees it."""

    def logs(self, namespace: str, pod: str, container: str, options: LogOptions) -> AsyncIterator[bytes]:
        """Read a container's log as chunks of whole lines. Raises LookupError when there is no log (yet)."""
        ...

    def runs(self, namespace: str, pod: str, container: str) -> bool:
        """Whether the container runs."""
        ...

    async def exec(
        self, namespace: str, pod: str, container: str, command: Sequence[str], *, stdin: bool, tty: bool
    ) -> ExecSession:
        """Start a process in a running container; raises LookupError when it does not run."""
        ...

    async def attach(self, namespace: str, pod: str, container: str, *, stdin: bool) -> ExecSession:
        """Attach to the process of a running container; raises LookupError when it does not run."""
        ...

    async def connect(self, namespace: str, pod: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a TCP connection to 127.0.0.1:`port` from inside the pod's network namespace (portforward, proxy)."""
        ...

    def usage(self) -> list[ContainerUsage]:
        """Latest usage of all containers of the node."""
        ...
