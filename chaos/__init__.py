"""sharedfate: who is hurt when a shared service-mesh proxy dies or drowns.

What users import is `__all__`, here or as `from sharedfate import ...`; docs/api.md lists it. Each name is loaded when
it is first asked for (PEP 562), and this module stays empty of imports otherwise: every reference app, loader and proxy
helper starts through it inside a container, and each millisecond of start-up counts there.
"""

TYPE_CHECKING = False  # as typing's, which is not imported
if TYPE_CHECKING:
    from chaos.cluster.providers import open_cluster as open_cluster
    from chaos.engine.designs import break_and_watch as break_and_watch
    from chaos.engine.designs import break_proxy as break_proxy
    from chaos.engine.scenario import Scenario as Scenario
    from chaos.engine.scenario import scenario as scenario
    from chaos.engine.targets import container_of as container_of
    from chaos.engine.trial import Trial as Trial
    from chaos.errors import AlreadyExists as AlreadyExists
    from chaos.errors import ApiError as ApiError
    from chaos.errors import Conflict as Conflict
    from chaos.errors import EnvironmentUnfit as EnvironmentUnfit
    from chaos.errors import ExperimentFailure as ExperimentFailure
    from chaos.errors import Forbidden as Forbidden
    from chaos.errors import GuardTripped as GuardTripped
    from chaos.errors import Misuse as Misuse
    from chaos.errors import NoEffect as NoEffect
    from chaos.errors import NoTargets as NoTargets
    from chaos.errors import NotFound as NotFound
    from chaos.errors import NotReady as NotReady
    from chaos.errors import RecoveryFailed as RecoveryFailed
    from chaos.errors import SharedfateError as SharedfateError
    from chaos.errors import Stopped as Stopped
    from chaos.errors import TargetVanished as TargetVanished
    from chaos.errors import UndoneEarly as UndoneEarly
    from chaos.errors import Unreachable as Unreachable
    from chaos.faults.api_trouble import ApiTrouble as ApiTrouble
    from chaos.faults.certificates import ExpireCertificates as ExpireCertificates
    from chaos.faults.control_plane import ControlPlane as ControlPlane
    from chaos.faults.crash_loop import CrashLoop as CrashLoop
    from chaos.faults.cut_node import CutNode as CutNode
    from chaos.faults.delete_pod import DeletePod as DeletePod
    from chaos.faults.drain import Drain as Drain
    from chaos.faults.full_files import FullFiles as FullFiles
    from chaos.faults.hog import Hog as Hog
    from chaos.faults.injection import inject_all as inject_all
    from chaos.faults.injection import injected as injected
    from chaos.faults.kill import Kill as Kill
    from chaos.faults.misanswer import Misanswer as Misanswer
    from chaos.faults.model import Evidence as Evidence
    from chaos.faults.model import Fault as Fault
    from chaos.faults.model import Receipt as Receipt
    from chaos.faults.model import Target as Target
    from chaos.faults.model import Witness as Witness
    from chaos.faults.needs import Need as Need
    from chaos.faults.network.degrade import Degrade as Degrade
    from chaos.faults.network.dns import Dns as Dns
    from chaos.faults.network.drop import Drop as Drop
    from chaos.faults.network.full_connections import FullConnections as FullConnections
    from chaos.faults.network.mute import Mute as Mute
    from chaos.faults.network.partition import Partition as Partition
    from chaos.faults.network.reset import Reset as Reset
    from chaos.faults.out_of_memory import OutOfMemory as OutOfMemory
    from chaos.faults.overload import Overload as Overload
    from chaos.faults.pause import Pause as Pause
    from chaos.faults.recreate import Recreate as Recreate
    from chaos.faults.restart import Restart as Restart
    from chaos.faults.scale import Scale as Scale
    from chaos.faults.selection import Part as Part
    from chaos.faults.selection import Pick as Pick
    from chaos.faults.selection import Selector as Selector
    from chaos.faults.selection import pick as pick
    from chaos.faults.selection import select as select
    from chaos.faults.session import Chaos as Chaos
    from chaos.faults.stop_kubelet import StopKubelet as StopKubelet
    from chaos.faults.stop_node import StopNode as StopNode
    from chaos.faults.throttle import Throttle as Throttle
    from chaos.faults.upgrade import Upgrade as Upgrade
    from chaos.faults.wrong_push import WrongPush as WrongPush
    from chaos.history.result import TrialResult as TrialResult
    from chaos.history.store import History as History
    from chaos.kube.client import Cluster as Cluster
    from chaos.mesh.handle import MeshHandle as MeshHandle
    from chaos.mesh.install import Mesh as Mesh
    from chaos.mesh.modes import mode_named as mode_named
    from chaos.model.fate import fate_group as fate_group
    from chaos.model.fate import flow_shares as flow_shares
    from chaos.model.fate import identities_held as identities_held
    from chaos.model.fate import path as path
    from chaos.model.faulting import FaultPhase as FaultPhase
    from chaos.model.faulting import FaultShape as FaultShape
    from chaos.model.flow import Flow as Flow
    from chaos.model.flow import Window as Window
    from chaos.model.flow import WindowKind as WindowKind
    from chaos.model.modes import MODES as MODES
    from chaos.model.modes import Layer as Layer
    from chaos.model.modes import ProxyMode as ProxyMode
    from chaos.model.modes import Scope as Scope
    from chaos.model.placement import Pair as Pair
    from chaos.model.placement import Placement as Placement
    from chaos.model.placement import Pod as Pod
    from chaos.model.placement import Proxy as Proxy
    from chaos.verdict import Effect as Effect
    from chaos.verdict import Expectation as Expectation
    from chaos.verdict import Finding as Finding
    from chaos.verdict import Harm as Harm
    from chaos.verdict import Judgement as Judgement
    from chaos.verdict import Measure as Measure
    from chaos.verdict import Thresholds as Thresholds
    from chaos.verdict import Verdict as Verdict
    from chaos.verdict import judge as judge
    from chaos.verdict import merge as merge
    from chaos.verdict.check import Check as Check
    from chaos.version import __version__ as __version__

__all__ = [
    "MODES",
    "AlreadyExists",
    "ApiError",
    "ApiTrouble",
    "Chaos",
    "Check",
    "Cluster",
    "Conflict",
    "ControlPlane",
    "CrashLoop",
    "CutNode",
    "Degrade",
    "DeletePod",
    "Dns",
    "Drain",
    "Drop",
    "Effect",
    "EnvironmentUnfit",
    "Evidence",
    "Expectation",
    "ExperimentFailure",
    "ExpireCertificates",
    "Fault",
    "FaultPhase",
    "FaultShape",
    "Finding",
    "Flow",
    "Forbidden",
    "FullConnections",
    "FullFiles",
    "GuardTripped",
    "Harm",
    "History",
    "Hog",
    "Judgement",
    "Kill",
    "Layer",
    "Measure",
    "Mesh",
    "MeshHandle",
    "Misanswer",
    "Misuse",
    "Mute",
    "Need",
    "NoEffect",
    "NoTargets",
    "NotFound",
    "NotReady",
    "OutOfMemory",
    "Overload",
    "Pair",
    "Part",
    "Partition",
    "Pause",
    "Pick",
    "Placement",
    "Pod",
    "Proxy",
    "ProxyMode",
    "Receipt",
    "RecoveryFailed",
    "Recreate",
    "Reset",
    "Restart",
    "Scale",
    "Scenario",
    "Scope",
    "Selector",
    "SharedfateError",
    "StopKubelet",
    "StopNode",
    "Stopped",
    "Target",
    "TargetVanished",
    "Thresholds",
    "Throttle",
    "Trial",
    "TrialResult",
    "UndoneEarly",
    "Unreachable",
    "Upgrade",
    "Verdict",
    "Window",
    "WindowKind",
    "Witness",
    "WrongPush",
    "__version__",
    "break_and_watch",
    "break_proxy",
    "container_of",
    "fate_group",
    "flow_shares",
    "identities_held",
    "inject_all",
    "injected",
    "judge",
    "merge",
    "mode_named",
    "open_cluster",
    "path",
    "pick",
    "scenario",
    "select",
]

# module: the public names that it defines
_HOMES = {
    "chaos.cluster.providers": "open_cluster",
    "chaos.engine.designs": "break_and_watch break_proxy",
    "chaos.engine.scenario": "Scenario scenario",
    "chaos.engine.targets": "container_of",
    "chaos.engine.trial": "Trial",
    "chaos.errors": "AlreadyExists "
    "ApiError Conflict EnvironmentUnfit ExperimentFailure Forbidden GuardTripped Misuse NoEffect "
    "NoTargets NotFound NotReady RecoveryFailed SharedfateError Stopped TargetVanished UndoneEarly Unreachable",
    "chaos.faults.api_trouble": "ApiTrouble",
    "chaos.faults.certificates": "ExpireCertificates",
    "chaos.faults.control_plane": "ControlPlane",
    "chaos.faults.crash_loop": "CrashLoop",
    "chaos.faults.cut_node": "CutNode",
    "chaos.faults.delete_pod": "DeletePod",
    "chaos.faults.drain": "Drain",
    "chaos.faults.full_files": "FullFiles",
    "chaos.faults.hog": "Hog",
    "chaos.faults.injection": "inject_all injected",
    "chaos.faults.kill": "Kill",
    "chaos.faults.model": "Evidence Fault Receipt Target Witness",
    "chaos.faults.needs": "Need",
    "chaos.faults.misanswer": "Misanswer",
    "chaos.faults.network.degrade": "Degrade",
    "chaos.faults.network.dns": "Dns",
    "chaos.faults.network.drop": "Drop",
    "chaos.faults.network.full_connections": "FullConnections",
    "chaos.faults.network.mute": "Mute",
    "chaos.faults.network.partition": "Partition",
    "chaos.faults.network.reset": "Reset",
    "chaos.faults.out_of_memory": "OutOfMemory",
    "chaos.faults.overload": "Overload",
    "chaos.faults.pause": "Pause",
    "chaos.faults.recreate": "Recreate",
    "chaos.faults.restart": "Restart",
    "chaos.faults.scale": "Scale",
    "chaos.faults.selection": "Part Pick Selector pick select",
    "chaos.faults.session": "Chaos",
    "chaos.faults.stop_kubelet": "StopKubelet",
    "chaos.faults.stop_node": "StopNode",
    "chaos.faults.throttle": "Throttle",
    "chaos.faults.upgrade": "Upgrade",
    "chaos.faults.wrong_push": "WrongPush",
    "chaos.history.result": "TrialResult",
    "chaos.history.store": "History",
    "chaos.kube.client": "Cluster",
    "chaos.mesh.handle": "MeshHandle",
    "chaos.mesh.install": "Mesh",
    "chaos.mesh.modes": "mode_named",
    "chaos.model.fate": "fate_group flow_shares identities_held path",
    "chaos.model.faulting": "FaultPhase FaultShape",
    "chaos.model.flow": "Flow Window WindowKind",
    "chaos.model.modes": "Layer MODES ProxyMode Scope",
    "chaos.model.placement": "Pair Placement Pod Proxy",
    "chaos.verdict": "Effect Expectation Finding Harm Judgement Measure Thresholds Verdict judge merge",
    "chaos.verdict.check": "Check",
    "chaos.version": "__version__",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}


beside = ""  # the file of a repository's own package or module of this name, where ours stands before it


def _theirs() -> object:
    """Import the repository's own under another name, so that what it defines is found behind ours."""
    import sys
    from importlib.util import module_from_spec, spec_from_file_location

    name = "chaos._beside"
    if name not in sys.modules:
        spec = spec_from_file_location(name, beside)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = made = module_from_spec(spec)
        try:
            spec.loader.exec_module(made)
        except Exception as error:
            del sys.modules[name]
            raise AttributeError(f"{beside}, which stands behind sharedfate's package, cannot be imported") from error
    return sys.modules[name]


def __getattr__(name: str) -> object:
    """A public name, loaded from the module that defines it."""
    from importlib import import_module

    if name not in _HOME:
        if beside and not name.startswith("__"):
            return getattr(_theirs(), name)
        raise AttributeError(f"module 'chaos' has no public name {name!r}: docs/api.md lists them")

    globals()[name] = found = getattr(import_module(_HOME[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def discover(discover_system: bool = True) -> dict:  # type: ignore[type-arg]  # as Chaos Toolkit writes it
    """The actions, probes, tolerances and controls of the Chaos Toolkit extension: what `chaos discover` calls.

    The system itself is not discovered: there is none before an experiment deploys it.
    """
    from chaos.toolkit.discovery import discover as found

    del discover_system
    return found()
