"""The programs of a real Kubernetes, compiled from their public Go modules in one module of ours.

k8s.io/kubernetes names its staging modules by version v0.0.0, so each is replaced by its release. etcd has the version
that Kubernetes is tested with. CoreDNS, containerd and the CNI plugins share what is compiled already: libraries that
CoreDNS would raise are held at Kubernetes' versions. Half an hour of one core the first time, cached by Go.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from chaos.errors import EnvironmentUnfit

KUBERNETES: Final = "1.36.3"
REQUIRED: Final = {
    "k8s.io/kubernetes": f"v{KUBERNETES}",
    "github.com/containerd/containerd/v2": "v2.2.9",
    "github.com/containernetworking/plugins": "v1.9.1",
    "github.com/coredns/coredns": "v1.14.0",
}
# What CoreDNS asks for in later versions, and builds with as they are.
HELD: Final = tuple(f"golang.org/x/{name}" for name in ("crypto", "mod", "net", "sync", "sys", "term", "text", "tools"))
COMPONENTS: Final = ("kube-apiserver", "kubelet", "kube-controller-manager", "kube-scheduler", "kube-proxy")
CONTAINERD: Final = ("containerd", "containerd-shim-runc-v2", "ctr")
PLUGINS: Final = ("ipam/host-local", "main/loopback", "main/ptp", "meta/portmap")
PACKAGES: Final = (
    *(f"k8s.io/kubernetes/cmd/{name}" for name in COMPONENTS),
    *(f"github.com/containerd/containerd/v2/cmd/{name}" for name in CONTAINERD),
    *(f"github.com/containernetworking/plugins/plugins/{name}" for name in PLUGINS),
    "./etcd",
    "./coredns",
    "./pause",
)
MAINS: Final = {
    "etcd": """package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
""",
    "coredns": """package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
)

func main() {
	dnsserver.Directives = []string{"errors", "cache", "kubernetes"}
	coremain.Run()
}
""",
    # Holds a pod's namespaces; reaps nothing, for pods here do not share theirs of processes.
    "pause": """package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGINT, syscall.SIGTERM)
	<-end
}
""",
}


def module_file(staging: Sequence[str], held: Mapping[str, str]) -> str:
    """go.mod. Pure.

    Args:
        staging: modules that Kubernetes' own go.mod replaces by folders.
        held: module -> the version that Kubernetes requires.
    """
    release = f"v0.{KUBERNETES.partition('.')[2]}"
    lines = ["module sharedfate/real-kubernetes", "", "go 1.26.0", "", "godebug default=go1.26", "", "require ("]
    lines += [f"\t{module} {version}" for module, version in REQUIRED.items()]
    lines += [")", "", "replace ("]
    lines += [f"\t{module} => {module} {release}" for module in sorted(staging)]
    lines += [f"\t{module} => {module} {version}" for module, version in sorted(held.items())]
    return "\n".join([*lines, ")", ""])


def read_requirements(text: str) -> tuple[list[str], dict[str, str]]:
    """Of Kubernetes' go.mod: the staging modules, and the versions of what is held. Pure."""
    staging = sorted(set(re.findall(r"^\s*(k8s\.io/\S+) => \./staging/", text, re.MULTILINE)))
    required = dict(re.findall(r"^\s*(\S+) (v\S+)", text, re.MULTILINE))
    return staging, {module: required[module] for module in HELD if module in required}


def build(folder: Path) -> Path:
    """Compile what is not compiled yet; -> the folder of the programs. Raises EnvironmentUnfit where `run_go` does."""
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = json.loads(run_go(folder, "mod", "download", "-json", f"k8s.io/kubernetes@v{KUBERNETES}"))
    staging, held = read_requirements(Path(found["GoMod"]).read_text())
    module = module_file(staging, held)
    stamp = folder / "go.mod.ours"
    if not stamp.exists() or stamp.read_text() != module:
        (folder / "go.mod").write_text(module)
        (folder / "go.sum").unlink(missing_ok=True)
        stamp.write_text(module)
    for name, source in MAINS.items():
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "main.go").write_text(source)
    major, minor, _ = KUBERNETES.split(".")
    version = {"gitVersion": f"v{KUBERNETES}", "gitMajor": major, "gitMinor": minor}
    said = " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in version.items())
    programs = folder / "bin"
    run_go(folder, "build", "-ldflags", f"-s -w {said}", "-o", f"{programs}/", *PACKAGES)
    return programs


def run_go(folder: Path, *arguments: str) -> str:
    """A go command; what it says goes to the terminal, and its answer is returned. Raises EnvironmentUnfit without Go,
    or where it fails.
    """
    if shutil.which("go") is None:
        raise EnvironmentUnfit("Kubernetes' modules are compiled here: needs Go 1.26 or later, and the module proxy")
    environment = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOFLAGS": f"{os.environ.get('GOFLAGS', '')} -mod=mod -buildvcs=false",
    }
    done = subprocess.run(
        ["go", *arguments], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise EnvironmentUnfit(f"go {arguments[0]} failed ({done.returncode}) in {folder}: see above")
    return done.stdout
