"""The batch Job: `python -m chaos.apps.job` makes some requests to a service and ends, 0 when all went well, 1
otherwise.

It knows nothing of a mesh; `WAIT_FOR_PROXY` stands for the workaround that teams put into their Jobs: ask a health
address until it answers. One line of JSON on standard output tells what happened. Environment:
`TARGET` (http://host[:port][/path]), `REQUESTS` (default 10), `INTERVAL` (seconds between them, 0), `TIMEOUT` (seconds
of each, 2), `TRIES` (of each request, 1), `WAIT_FOR_PROXY` (an http address; empty: start at once), `WAIT_SECONDS`
(30). SIGTERM ends it with 143, as of an application that handles none: the first process of a pod would ignore it.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
import urllib.parse
from dataclasses import asdict, dataclass, field

from chaos.interrupts import on_termination


@dataclass(slots=True)
class Report:
    """The Job's outcome."""

    ok: int = 0
    failed: int = 0
    retried: int = 0
    first: str = ""  # how the first request of all ended: "ok" or its error
    waited: float = 0.0  # seconds for the proxy
    seconds: float = 0.0
    errors: dict[str, int] = field(default_factory=dict)


def fetch(url: str, timeout: float) -> str:
    """Send one GET on its own connection; return "ok", or what went wrong."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout)
    try:
        connection.request("GET", parts.path or "/")
        answer = connection.getresponse()
        answer.read()
        return "ok" if answer.status == 200 else f"status {answer.status}"
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()


def wait_for(url: str, seconds: float) -> float:
    """Poll until the address answers 200; return the seconds that took. Raises TimeoutError."""
    begin = time.monotonic()
    while fetch(url, 1.0) != "ok":
        if time.monotonic() - begin >= seconds:
            raise TimeoutError(f"{url}: did not answer within {seconds:g} s")
        time.sleep(0.1)
    return time.monotonic() - begin


def run(
    target: str, *, requests: int, interval: float, timeout: float, tries: int, wait: str, wait_seconds: float
) -> Report:
    """Send all requests, one after the other."""
    report, begin = Report(), time.monotonic()
    if wait:
        report.waited = wait_for(wait, wait_seconds)
    for number in range(requests):
        result = ""
        for attempt in range(tries):
            result = fetch(target, timeout)
            report.first = report.first or result
            if result == "ok":
                break
            report.errors[result] = report.errors.get(result, 0) + 1
            if attempt + 1 < tries:
                report.retried += 1
                time.sleep(min(0.1 * 2**attempt, 2.0))
        if result == "ok":
            report.ok += 1
        else:
            report.failed += 1
        if interval and number + 1 < requests:
            time.sleep(interval)
    report.seconds = time.monotonic() - begin
    return report


def main() -> None:
    env = os.environ
    on_termination(lambda: os._exit(128 + signal.SIGTERM))
    try:
        report = run(
            env["TARGET"],
            requests=int(env.get("REQUESTS", "10")),
            interval=float(env.get("INTERVAL", "0")),
            timeout=float(env.get("TIMEOUT", "2")),
            tries=int(env.get("TRIES", "1")),
            wait=env.get("WAIT_FOR_PROXY", ""),
            wait_seconds=float(env.get("WAIT_SECONDS", "30")),
        )
    except KeyError as error:
        raise SystemExit(f"job: the environment lacks {error}") from error
    except TimeoutError as error:
        raise SystemExit(f"job: {error}") from error
    print(json.dumps(asdict(report)), flush=True)
    raise SystemExit(1 if report.failed or not report.ok else 0)


if __name__ == "__main__":
    main()
