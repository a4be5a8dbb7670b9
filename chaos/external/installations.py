"""Detects which meshes are installed in a cluster, which version, and names the official command for each that is not;
in clusters of our own alone, runs that command.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import urllib3

from chaos.errors import EnvironmentUnfit, Misuse, NotFound, NotReady, SharedfateError
from chaos.external.description import MeshDescription, Prerequisite, labels_of
from chaos.external.parsing import descriptions
from chaos.kube.access import list_readable
from chaos.kube.client import Cluster

Object = Mapping[str, Any]
VERSION: Final = re.compile(r"v?\d+\.\d+[-.\w]*")
_SECONDS: Final = 600.0  # an installation with its pulls


@dataclass(frozen=True, slots=True)
class Installed:
    """The observed state of one mesh.

    Attributes:
        version: by its control plane's label, else by its image's tag; "" without one.
        missing: parts of its control plane that are not there, or not ready.
    """

    mesh: MeshDescription
    where: tuple[str, ...] = ()
    version: str = ""
    missing: tuple[str, ...] = ()

    @property
    def there(self) -> bool:
        return bool(self.where)

    def __str__(self) -> str:
        modes = ", ".join(mode.name for mode in self.mesh.modes)
        if not self.there:
            one = self.mesh.installation
            return f"{self.mesh.name}: not installed ({modes}): {one.whole_command} ({one.docs})"
        lacks = f"; not ready: {', '.join(self.missing)}" if self.missing else ""
        version = f" {self.version}" if self.version else ""
        return f"{self.mesh.name}{version}: installed in {', '.join(self.where)}, for {modes}{lacks}"


def detect_installed(deployments: Sequence[Object]) -> list[Installed]:
    """Return the state of each described mesh's control plane among the Deployments of a cluster. Pure."""
    return [detect_one(mesh, deployments) for mesh in descriptions().values() if not mesh.ours]


def detect_one(mesh: MeshDescription, deployments: Sequence[Object]) -> Installed:
    """Return the state of one mesh's control plane among them; all its parts are missing where there is none. Pure."""
    there, missing = [], []
    for part in mesh.installation.parts:
        wanted = part.labels.items()
        of_part = [obj for obj in deployments if all(labels_of(obj).get(key) == value for key, value in wanted)]
        there += of_part
        if not any((obj.get("status") or {}).get("readyReplicas") for obj in of_part):
            missing.append(part.name)
    where = tuple(sorted({obj["metadata"]["namespace"] for obj in there}))
    return Installed(mesh, where, version_of(there, mesh.installation.version_label), tuple(missing))


def version_of(deployments: Sequence[Object], label: str) -> str:
    """The version that a control plane's Deployments say: their label's, else their first image's tag."""
    for obj in deployments:
        image = obj["spec"]["template"]["spec"]["containers"][0].get("image", "").rpartition("/")[2].partition("@")[0]
        if said := labels_of(obj).get(label) or image.partition(":")[2]:
            return said
    return ""


def read_installed(cluster: Cluster) -> list[Installed]:
    """What is installed there, by the Deployments that this user may list; its version by its own word, where it gives
    one.
    """
    return [
        replace(one, version=said) if one.there and (said := _own_word(cluster, one)) else one
        for one in detect_installed(cluster.list("Deployment"))
    ]


def _own_word(cluster: Cluster, one: Installed) -> str:
    """The version that the control plane's pods answer with; "" when they are not asked, or do not say."""
    if one.mesh.installation.version_read is None:
        return ""
    port, path = one.mesh.installation.version_read
    labels = ",".join(f"{key}={value}" for key, value in one.mesh.installation.parts[0].labels.items())
    for pod in list_readable(cluster, "Pod", labels=labels):
        meta = pod["metadata"]
        try:
            body = cluster.pod_http(meta["namespace"], meta["name"], port, path, timeout=5)
        except (SharedfateError, urllib3.exceptions.HTTPError):
            continue
        if found := VERSION.match(body.decode(errors="replace").strip()):
            return found[0]
    return ""


@contextmanager
def mesh_installed(cluster: Cluster, mesh: MeshDescription, *, seconds: float = _SECONDS) -> Iterator[None]:
    """Install the mesh in a cluster of our own, by its own program and pinned values, until the block is left; one that
    is there stays. The block is entered when every part of its control plane is ready: a webhook that is not, and whose
    failures are ignored, would let pods in without a proxy.

    Raises Misuse for somebody else's cluster, EnvironmentUnfit when the program is missing or fails, NotReady when the
    control plane is not ready in time.
    """
    if not cluster.owned:
        raise Misuse(f"{cluster.name} is not ours: a mesh is installed only in clusters that we made")
    if _state(cluster, mesh).there:
        yield
        return
    how = mesh.installation
    if not how.install:
        raise EnvironmentUnfit(
            f"{mesh.name}: there is no way to install it from here: {how.whole_command} ({how.docs})"
        )
    for program in dict.fromkeys([how.cli, *(words[0] for one in how.needs for words in one.install)]):
        if shutil.which(program) is None:
            raise EnvironmentUnfit(
                f"{program} is not on PATH: {how.docs} says how to get it: no {mesh.name} was installed"
            )
    needed = [one for one in how.needs if not is_served(cluster, one)]
    with ExitStack() as stack:
        for one in needed:
            stack.push(_undoing(cluster, one.uninstall))
            _call(cluster, one.install)
        stack.push(_undoing(cluster, how.uninstall))
        _call(cluster, how.install)
        _await_ready(cluster, mesh, seconds)
        yield


def is_served(cluster: Cluster, need: Prerequisite) -> bool:
    """Whether the cluster has the definition."""
    try:
        cluster.request("GET", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{need.definition}")
    except NotFound:
        return False
    return True


def _state(cluster: Cluster, mesh: MeshDescription) -> Installed:
    return detect_one(mesh, cluster.list("Deployment"))


def _await_ready(cluster: Cluster, mesh: MeshDescription, seconds: float) -> None:
    """Wait for every part of the control plane. Raises NotReady naming those that are not."""
    missing: tuple[str, ...] = ()

    def ready() -> bool:
        nonlocal missing
        missing = _state(cluster, mesh).missing
        return not missing

    try:
        cluster.wait(f"{mesh.name}, which was just installed, is ready", ready, seconds=seconds)
    except NotReady as error:
        raise NotReady(f"{error}: not ready: {', '.join(missing)}") from error


def _undoing(cluster: Cluster, commands: Sequence[Sequence[str]]) -> Callable[[Any, BaseException | None, Any], bool]:
    """Run the commands when a block is left; when it is left by an error, their own failure is a note on that."""

    def leave(_kind: Any, error: BaseException | None, _trace: Any) -> bool:
        try:
            _call(cluster, commands)
        except EnvironmentUnfit as failure:
            if error is None:
                raise
            error.add_note(f"it was not taken away either: {failure}")
        return False

    return leave


def _call(cluster: Cluster, commands: Sequence[Sequence[str]]) -> None:
    """Run the commands with the cluster's kubeconfig; raises EnvironmentUnfit with the last words of one that fails."""
    for command in commands:
        try:
            done = subprocess.run(
                command,
                env={**os.environ, "KUBECONFIG": str(cluster.kubeconfig)},
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise EnvironmentUnfit(f"{' '.join(command)}: not done after {_SECONDS:g} s") from error
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:] or ["it said nothing"]
            raise EnvironmentUnfit(f"{' '.join(command)}: ended with {done.returncode}: {said[0]}")
