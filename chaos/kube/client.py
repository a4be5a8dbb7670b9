"""`Cluster`: the one client through which sharedfate uses Kubernetes, whichever cluster it is.

Objects are plain JSON dictionaries, because the same manifests are rendered, applied, read back and recorded.
Transport, TLS and authentication are the official `kubernetes` client's; what is safe to retry is retried with jitter
(tenacity). Thread-safe: collectors, waits and faults call it from several threads.
"""

from __future__ import annotations

import builtins
import json
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import urllib3

from chaos.errors import AlreadyExists, ApiError, EnvironmentUnfit, Misuse, NotFound, NotReady, Unreachable
from chaos.kube.api_errors import api_error, kind_of
from chaos.kube.credentials import Token, configured, in_pod
from chaos.kube.kubeconfig import one_line, within
from chaos.kube.reach import unreachable
from chaos.kube.retrying import PATIENCE, Backoff, is_transient, retrying
from chaos.kube.ways import PodConnections, Stream, Way
from chaos.kube.write_guard import WriteGuard
from chaos.names import IMAGE

Object = dict[str, Any]
Objects = list[Object]
_STREAM_SECONDS: Final = 10.0  # for a WebSocket into a pod to open
PatchType = Literal["merge", "strategic", "json"]

_PATCH_TYPES: Final = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
}

# key -> (path prefix, plural, namespaced), of kinds that definitions add: the key is the kind, with its group where
# several have one of that name
_CUSTOM: Final[dict[str, tuple[str, str, bool]]] = {
    "Gateway": ("/apis/gateway.networking.k8s.io/v1", "gateways", True),  # of a mesh that makes its waypoints from it
    "CiliumNetworkPolicy": ("/apis/cilium.io/v2", "ciliumnetworkpolicies", True),
    "AuthorizationPolicy.security.istio.io": ("/apis/security.istio.io/v1", "authorizationpolicies", True),
    "VirtualService": ("/apis/networking.istio.io/v1", "virtualservices", True),
    "AuthorizationPolicy.policy.linkerd.io": ("/apis/policy.linkerd.io/v1alpha1", "authorizationpolicies", True),
    "MeshTLSAuthentication": ("/apis/policy.linkerd.io/v1alpha1", "meshtlsauthentications", True),
    "Server": ("/apis/policy.linkerd.io/v1beta3", "servers", True),
    "HTTPRoute.policy.linkerd.io": ("/apis/policy.linkerd.io/v1beta3", "httproutes", True),
}
# key -> (path prefix, plural, namespaced); the kinds that sharedfate itself uses, and others of applications
KINDS: Final[dict[str, tuple[str, str, bool]]] = {
    "Namespace": ("/api/v1", "namespaces", False),
    "Node": ("/api/v1", "nodes", False),
    "Pod": ("/api/v1", "pods", True),
    "Service": ("/api/v1", "services", True),
    "Endpoints": ("/api/v1", "endpoints", True),
    "ConfigMap": ("/api/v1", "configmaps", True),
    "Secret": ("/api/v1", "secrets", True),
    "ServiceAccount": ("/api/v1", "serviceaccounts", True),
    "Event": ("/api/v1", "events", True),
    "Lease": ("/apis/coordination.k8s.io/v1", "leases", True),
    "Deployment": ("/apis/apps/v1", "deployments", True),
    "ReplicaSet": ("/apis/apps/v1", "replicasets", True),
    "DaemonSet": ("/apis/apps/v1", "daemonsets", True),
    "StatefulSet": ("/apis/apps/v1", "statefulsets", True),
    "Job": ("/apis/batch/v1", "jobs", True),
    "CronJob": ("/apis/batch/v1", "cronjobs", True),
    "EndpointSlice": ("/apis/discovery.k8s.io/v1", "endpointslices", True),
    "PersistentVolumeClaim": ("/api/v1", "persistentvolumeclaims", True),
    "LimitRange": ("/api/v1", "limitranges", True),
    "ResourceQuota": ("/api/v1", "resourcequotas", True),
    "HorizontalPodAutoscaler": ("/apis/autoscaling/v2", "horizontalpodautoscalers", True),
    "Ingress": ("/apis/networking.k8s.io/v1", "ingresses", True),
    "PodDisruptionBudget": ("/apis/policy/v1", "poddisruptionbudgets", True),
    "NetworkPolicy": ("/apis/networking.k8s.io/v1", "networkpolicies", True),
    "Role": ("/apis/rbac.authorization.k8s.io/v1", "roles", True),
    "RoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "rolebindings", True),
    "ClusterRole": ("/apis/rbac.authorization.k8s.io/v1", "clusterroles", False),
    "ClusterRoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "clusterrolebindings", False),
    "TokenReview": ("/apis/authentication.k8s.io/v1", "tokenreviews", False),
    "SubjectAccessReview": ("/apis/authorization.k8s.io/v1", "subjectaccessreviews", False),
    "SelfSubjectAccessReview": ("/apis/authorization.k8s.io/v1", "selfsubjectaccessreviews", False),
    "PodMetrics": ("/apis/metrics.k8s.io/v1beta1", "pods", True),
    "NodeMetrics": ("/apis/metrics.k8s.io/v1beta1", "nodes", False),
    **_CUSTOM,
}


def exit_code(path: str, status: str) -> int:
    """Return the exit code in the Status that ends an exec (`k8s.io/apimachinery`, NonZeroExitCodeReason). Pure. Raises
    ApiError where there is none: the command did not run, or the stream broke off before its end.
    """
    try:
        said = json.loads(status)
        if said["status"] == "Success":
            return 0
        causes = (said.get("details") or {}).get("causes") or []
        return next(int(one["message"]) for one in causes if one.get("reason") == "ExitCode")
    except (ValueError, TypeError, KeyError, AttributeError):
        raise api_error(
            "GET", path, 500, (status or "the stream ended before the command's exit code").encode()
        ) from None
    except StopIteration:
        raise api_error("GET", path, int(said.get("code") or 500), status.encode()) from None


@dataclass(frozen=True, slots=True)
class ExecResult:
    """Output and exit code of a command in a container."""

    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One event of a watch: ADDED, MODIFIED, DELETED."""

    type: str
    object: Object


def object_path(
    kind: str, namespace: str | None = None, name: str | None = None, subresource: str | None = None
) -> str:
    """The API path of a collection, an object or a subresource."""
    try:
        prefix, plural, namespaced = KINDS[kind]
    except KeyError:
        raise Misuse(f"kind {kind!r} is not one that sharedfate uses: {', '.join(sorted(KINDS))}") from None
    parts = [prefix]
    if namespaced and namespace is not None:
        parts += ["namespaces", namespace]
    parts.append(plural)
    if name is not None:
        parts.append(urllib.parse.quote(name, safe=""))
    if subresource is not None:
        parts.append(subresource)
    return "/".join(parts)


def kind_key(obj: Mapping[str, Any]) -> str:
    """Return an object's key in `KINDS`: its kind, with its group where there are several of that name."""
    group = str(obj.get("apiVersion", "")).rpartition("/")[0]
    with_group = f"{obj['kind']}.{group}"
    return with_group if with_group in KINDS else str(obj["kind"])


def path_of(obj: Mapping[str, Any], subresource: str | None = None) -> str:
    """Return the API path of an object from its manifest."""
    meta = obj["metadata"]
    key = kind_key(obj)
    namespaced = KINDS[key][2]
    return object_path(key, meta.get("namespace", "default") if namespaced else None, meta["name"], subresource)


class Cluster:
    """A Kubernetes cluster, reached through a kubeconfig (or a pod's service account).

    Args:
        kubeconfig: path; None reads the pod's own service account.
        context: context of the kubeconfig; None for its current one.
        kind: `embedded`, `kind` or `context`; reported, never branched on above this package.
        name: the cluster's name, for people.
        patience: seconds for which a call that may be done again is done again.
        ours: whether we made it, so that what an earlier run left there may be removed unasked.
        failures: what went wrong with a run, for whoever takes the cluster down (kind: takes its logs first).

    Attributes:
        way: how `pod_http` reaches a pod's port; the preflight changes it where the API server cannot.
        transient: it is deleted when its user leaves it, with all that is in it.
    """

    def __init__(
        self,
        kubeconfig: Path | None,
        *,
        context: str | None = None,
        kind: str = "context",
        name: str = "",
        patience: float = PATIENCE,
        owned: bool = False,
        failures: builtins.list[str] | None = None,
    ) -> None:
        self.kubeconfig = kubeconfig
        self.context = context
        self.kind = kind
        self.name = name or context or "cluster"
        self.patience = patience
        self.owned = owned
        self.transient = False
        self.failures = failures if failures is not None else []
        self.notices: tuple[str, ...] = ()  # what people should read before anything is changed
        self.gone: Callable[[], str] = lambda: ""  # why nothing answers any more and never will; "" while it may
        self.guard: WriteGuard | None = None
        self.way = Way.PROXY
        self._streams = {Way.FORWARD: PodConnections(self._open_forward), Way.EXEC: PodConnections(self._open_relay)}
        self._configuration: Any = None
        self._token: Token | None = None
        self._pool: urllib3.PoolManager
        self._renewing = threading.Lock()
        self._renewals = 0
        self._connect()

    def _connect(self) -> None:
        if self.kubeconfig is None:
            self.host, self._pool, self._token = in_pod()
        else:
            self._configuration = configured(self.kubeconfig, self.context)
            from kubernetes import client as k8s

            self.host = self._configuration.host
            try:
                self._pool = k8s.ApiClient(self._configuration).rest_client.pool_manager
            except (
                OSError,
                ValueError,
                ImportError,
                urllib3.exceptions.HTTPError,
            ) as error:  # certificates, keys, a proxy's scheme
                raise EnvironmentUnfit(f"cannot use kubeconfig {self.kubeconfig}: {one_line(error)}") from error

    def _renew(self, seen: int) -> None:
        """Read the credentials again, once for all threads that saw them refused: tokens and certificates are rotated
        in place.
        """
        with self._renewing:
            if self._renewals == seen:
                self._connect()
                self._renewals += 1

    @property
    def configuration(self) -> Any:
        """The official client's Configuration of this cluster."""
        if self._configuration is None:
            self._configuration = configured(None, None)
        return self._configuration

    # ---- transport

    def _headers(self) -> dict[str, str]:
        headers = {"User-Agent": "sharedfate", "Accept": "application/json"}
        if self._token is not None:
            return {**headers, "Authorization": f"Bearer {self._token.read()}"}
        for setting in self.configuration.auth_settings().values():
            if setting["in"] == "header" and setting["value"]:
                headers[setting["key"]] = setting["value"]
        return headers

    def open(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        query: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
        timeout: float = 15.0,
        read_timeout: float | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """Send one HTTP request and return its response unread; raises ApiError for a status of 400 and above.

        Retried only after a 401, with credentials that were read again; every other retry is the caller's.
        """
        if self.guard is not None:
            self.guard.check(method, path, body, query)
        if why := self.gone():
            raise EnvironmentUnfit(why)
        url = self.host + path
        if query:
            url += "?" + urllib.parse.urlencode({k: v for k, v in query.items() if v is not None})
        for attempt in (1, 2):
            renewals = self._renewals
            sent = {**(headers or {}), **self._headers()}
            if body is not None:
                sent["Content-Type"] = content_type
            response = self._pool.request(
                method,
                url,
                body=body,
                headers=sent,
                preload_content=False,
                redirect=False,
                timeout=urllib3.Timeout(connect=timeout, read=read_timeout or timeout),
            )
            if response.status < 400:
                return response
            text = response.read(decode_content=True)
            response.release_conn()
            if response.status != 401 or attempt == 2:
                break
            self._renew(renewals)
        raise api_error(method, path, response.status, text, response.headers.get("Retry-After"))

    def _read(self, method: str, path: str, **options: Any) -> bytes:
        """Return the body of one answer that is not the API server's own. One that breaks off is asked for once more
        where that is harmless; raises ApiError (503) when it broke off at last.
        """
        for last in (method != "GET", True):
            response = self.open(method, path, **options)
            try:
                return response.read(decode_content=True)
            except urllib3.exceptions.ProtocolError as error:
                if last:
                    raise api_error(method, path, 503, f"the answer broke off: {one_line(error)}".encode()) from error
            finally:
                response.release_conn()
        raise AssertionError("the last attempt returns or raises")

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        timeout: float = 15.0,
        retry: bool | None = None,
    ) -> Any:
        """Exchange one JSON request, retried as `chaos.kube.retrying` says. `retry`: it is idempotent (reads are)."""
        data = None if body is None else json.dumps(body).encode()

        def once() -> Any:
            response = self.open(method, path, body=data, query=query, content_type=content_type, timeout=timeout)
            try:
                text = response.read(decode_content=True)
            finally:
                response.release_conn()
            return json.loads(text) if text else None

        if path.endswith(
            "/eviction"
        ):  # its 429 is the disruption budget's answer, whoever evicts decides what it means
            return once()
        try:
            return retrying(once, idempotent=method == "GET" if retry is None else retry, patience=self.patience)
        except Unreachable:
            raise
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise unreachable(self.host, error) from error
        except ValueError as error:
            raise EnvironmentUnfit(f"{self.host}{path}: not JSON: is a Kubernetes API server there?") from error

    # ---- objects

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object:
        """Return the object; raises NotFound when there is none."""
        return self.request("GET", object_path(kind, namespace, name))  # type: ignore[no-any-return]

    def find(self, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """Return the object, or None."""
        try:
            return self.get(kind, name, namespace)
        except NotFound:
            return None

    def list(
        self, kind: str, namespace: str | None = None, *, labels: str | None = None, fields: str | None = None
    ) -> Objects:
        """List the objects of a kind, in a namespace or (None) in all; each with its kind and apiVersion filled in."""
        items, _ = self.list_at(kind, namespace, labels=labels, fields=fields)
        return items

    def list_at(
        self, kind: str, namespace: str | None = None, *, labels: str | None = None, fields: str | None = None
    ) -> tuple[Objects, str]:
        """Like `list`, and return the resource version to watch from."""
        items: Objects = []
        query: dict[str, Any] = {"labelSelector": labels, "fieldSelector": fields, "limit": 500}
        while True:
            page = self.request("GET", object_path(kind, namespace), query=query)
            for item in page.get("items") or []:
                item.setdefault("kind", kind)
                item.setdefault("apiVersion", page.get("apiVersion", ""))
                items.append(item)
            query["continue"] = page["metadata"].get("continue") or None
            if query["continue"] is None:
                return items, page["metadata"]["resourceVersion"]

    def create(self, obj: Object, *, unique: bool = False) -> Object:
        """Create the object; raises AlreadyExists when it is there.

        `unique`: nobody else makes one of that name. Then a try whose answer was lost is done again, and what is there
            is ours.
        """
        kind, name = kind_key(obj), obj["metadata"].get("name")
        namespace = obj["metadata"].get("namespace", "default") if KINDS[kind][2] else None
        lost = False

        def once() -> Object:
            nonlocal lost
            try:
                return self.request("POST", object_path(kind, namespace), obj)  # type: ignore[no-any-return]
            except ApiError as error:
                if lost and name and isinstance(error, AlreadyExists):
                    return self.get(kind, name, namespace)
                lost = lost or is_transient(error)
                raise
            except (urllib3.exceptions.HTTPError, OSError):
                lost = True
                raise

        return retrying(once, idempotent=unique, patience=self.patience)

    def apply(self, obj: Object) -> Object:
        """Create the object, or merge it over the one that is there. Safe to repeat."""
        try:
            return self.create(obj, unique=True)
        except AlreadyExists:
            pass
        key, meta = kind_key(obj), obj["metadata"]
        how: PatchType = "merge" if key in _CUSTOM else "strategic"  # which the API server has for its own kinds alone
        return self.patch(key, meta["name"], obj, meta.get("namespace"), how=how)

    def patch(
        self,
        kind: str,
        name: str,
        patch: Any,
        namespace: str | None = None,
        *,
        how: PatchType = "merge",
        subresource: str | None = None,
    ) -> Object:
        """Patch an object or a subresource of it."""
        path = object_path(kind, namespace, name, subresource)
        idempotent = how != "json"  # a JSON patch may add to a list, or test what it has changed itself
        return self.request("PATCH", path, patch, content_type=_PATCH_TYPES[how], retry=idempotent)  # type: ignore[no-any-return]

    def replace(self, obj: Object, subresource: str | None = None) -> Object:
        """PUT the object; raises Conflict when it changed meanwhile."""
        return self.request("PUT", path_of(obj, subresource), obj)  # type: ignore[no-any-return]

    def delete(
        self,
        kind: str,
        name: str,
        namespace: str | None = None,
        *,
        grace: int | None = None,
        propagation: str = "Background",
        uid: str | None = None,
    ) -> bool:
        """Delete the object; return False when there was none. Does not wait."""
        options: Object = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        try:
            self.request("DELETE", object_path(kind, namespace, name), options, retry=True)
        except NotFound:
            return False
        return True

    # ---- watching and waiting

    def watch(
        self,
        kind: str,
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
        since: str | None = None,
        seconds: int = 300,
    ) -> Iterator[WatchEvent]:
        """Watch once: yield changes after `since` until the server closes the watch. Raises ApiError (410) when `since`
        is too old.
        """
        query = {
            "watch": "1",
            "labelSelector": labels,
            "fieldSelector": fields,
            "resourceVersion": since,
            "timeoutSeconds": seconds,
            "allowWatchBookmarks": "true",
        }
        response = self.open("GET", object_path(kind, namespace), query=query, read_timeout=seconds + 10)
        try:
            buffer = b""
            for chunk in response.stream(amt=None):
                buffer += chunk
                *lines, buffer = buffer.split(b"\n")
                for line in lines:
                    if line:
                        yield _change(line)
        finally:
            response.close()

    def follow(
        self,
        kind: str,
        namespace: str | None = None,
        *,
        labels: str | None = None,
        stop: threading.Event | None = None,
        seconds: int = 60,
    ) -> Iterator[WatchEvent]:
        """List, then watch forever: resume after a closed connection or an absent API server, and list again after 410.

        Ends when `stop` is set; raises ApiError only for what waiting does not mend (401, 403, a bad request).

        After a new list every object comes again as MODIFIED, and the ones that went meanwhile as DELETED. `seconds`:
        length of one watch, after which it is asked for anew.
        """
        known: dict[str, Object] = {}
        version: str | None = None
        backoff = Backoff()
        while stop is None or not stop.is_set():
            if version is None:
                try:
                    items, version = self.list_at(kind, namespace, labels=labels)
                except (ApiError, urllib3.exceptions.HTTPError, OSError) as error:
                    if not is_transient(error):
                        raise
                    _pause(stop, backoff.next(error))
                    continue
                fresh = {item["metadata"]["uid"]: item for item in items}
                for uid in known.keys() - fresh.keys():
                    yield WatchEvent("DELETED", known[uid])
                for uid, item in fresh.items():
                    yield WatchEvent("MODIFIED" if uid in known else "ADDED", item)
                known = fresh
            try:
                for change in self.watch(kind, namespace, labels=labels, since=version, seconds=seconds):
                    version = change.object["metadata"]["resourceVersion"]
                    backoff.reset()
                    if change.type == "BOOKMARK":
                        continue
                    uid = change.object["metadata"]["uid"]
                    if change.type == "DELETED":
                        known.pop(uid, None)
                    else:
                        known[uid] = change.object
                    yield change
                    if stop is not None and stop.is_set():
                        return
            except ApiError as error:
                if error.code == 410:
                    version = None
                elif not is_transient(error):
                    raise
                else:
                    _pause(stop, backoff.next(error))
            except (urllib3.exceptions.HTTPError, OSError) as error:
                _pause(stop, backoff.next(error))

    def wait(self, what: str, ready: Callable[[], Any], *, seconds: float = 60.0, every: float = 0.05) -> Any:
        """Call `ready` until it returns something true, and return that; raises NotReady with `what` and the time."""
        end = time.monotonic() + seconds
        while True:
            if result := ready():
                return result
            if time.monotonic() >= end:
                raise NotReady(f"{what}: not so after {seconds:g} s")
            time.sleep(every)

    # ---- pods

    def exec(
        self, namespace: str, pod: str, command: Sequence[str], *, container: str | None = None, seconds: float = 30.0
    ) -> ExecResult:
        """Run a command in a container and wait for it. Raises NotReady when it takes longer than `seconds`, and
        ApiError where it did not run: no such program, a container that ends.
        """
        query: builtins.list[tuple[str, str]] = [("command", part) for part in command]
        query += [("stdout", "true"), ("stderr", "true")]
        if container:
            query.append(("container", container))
        path = object_path("Pod", namespace, pod, "exec")
        if self.guard is not None:
            self.guard.check("POST", path)
        from kubernetes.stream.ws_client import ERROR_CHANNEL, WSClient

        stream = self._upgraded(path, query, lambda *parts: WSClient(*parts, capture_all=True), seconds=seconds)
        try:
            stream.run_forever(timeout=seconds)
            if stream.is_open():
                raise NotReady(f"{namespace}/{pod}: {' '.join(command)}: still running after {seconds:g} s")
            code = exit_code(path, stream.read_channel(ERROR_CHANNEL, timeout=0) or "")
            return ExecResult(code, stream.read_stdout(timeout=0) or "", stream.read_stderr(timeout=0) or "")
        finally:
            if stream.sock.sock is not None:  # the stream forgets its socket when the other side has ended
                stream.sock.sock.close()

    def _upgraded(
        self,
        path: str,
        query: builtins.list[tuple[str, str]],
        opened: Callable[..., Any],
        *,
        seconds: float,
        protocol: str = "",
    ) -> Any:
        """Open a WebSocket to that path; once more when the credentials were refused and have been read again.

        Args:
            opened: what opens it, given the official client's configuration, the address and headers.
            protocol: of the channels; "" for the client's own choice.
        """
        from kubernetes.stream.ws_client import get_websocket_url
        from websocket import WebSocketBadStatusException, WebSocketException

        url = get_websocket_url(self.host + path + "?" + urllib.parse.urlencode(query))
        for attempt in (1, 2):
            renewals = self._renewals
            headers = {name.lower(): value for name, value in self._headers().items()}
            if protocol:
                headers["sec-websocket-protocol"] = protocol
            try:
                return within(seconds, lambda: opened(self.configuration, url, headers))  # noqa: B023
            except WebSocketBadStatusException as error:
                if error.status_code != 401 or attempt == 2:
                    raise api_error("GET", path, error.status_code, error.resp_body or b"") from error
                self._renew(renewals)
            except WebSocketException as error:
                raise unreachable(self.host, error) from error
        raise AssertionError("the second attempt returns or raises")

    def _open_forward(self, namespace: str, pod: str, port: int) -> Stream:
        """A port-forward: a data channel and one for errors, each of which begins with the port's number."""
        from kubernetes.stream.ws_client import create_websocket

        path = object_path("Pod", namespace, pod, "portforward")
        websocket = self._upgraded(
            path, [("ports", str(port))], create_websocket, seconds=_STREAM_SECONDS, protocol="v4.channel.k8s.io"
        )
        return Stream(websocket, writes=0, reads=0, unread=1, what=f"port-forward to {namespace}/{pod}:{port}")

    def _open_relay(self, namespace: str, pod: str, port: int) -> Stream:
        """Run a command in one of our containers that relays its standard input and output to the port."""
        from kubernetes.stream.ws_client import create_websocket

        path = object_path("Pod", namespace, pod, "exec")
        spec = self.get("Pod", pod, namespace)["spec"]
        container = next((one["name"] for one in spec["containers"] if one["image"].endswith(IMAGE)), "")
        query = [("command", part) for part in ("python", "-m", "chaos.inpod.relay", str(port))]
        query += [("stdin", "true"), ("stdout", "true"), ("stderr", "true"), ("container", container)]
        websocket = self._upgraded(path, query, create_websocket, seconds=_STREAM_SECONDS)
        return Stream(websocket, writes=0, reads=1, unread=0, what=f"exec in {namespace}/{pod}, port {port}")

    def pod_http(
        self,
        namespace: str,
        pod: str,
        port: int,
        path: str,
        *,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 10.0,
        way: Way | None = None,
    ) -> bytes:
        """Exchange one HTTP request with a pod's port by the cluster's `way`, or another: passes no proxy of the mesh.

        Raises ApiError for a status of 400 and above, the pod's as well as the API server's; 404 when there is no such
        pod, 503 when its port does not answer.
        """
        through = f"/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{path}"
        if (by := way or self.way) is not Way.PROXY:
            if self.guard is not None:
                self.guard.check(method, through, body)
            answer = self._streams[by].exchange(
                namespace, pod, port, path, method=method, body=body, headers=headers, timeout=timeout
            )
            if answer.status >= 400:
                raise api_error(method, through, answer.status, answer.data)
            return answer.data
        kind = "application/octet-stream"
        return self._read(method, through, body=body, content_type=kind, headers=headers, timeout=timeout)

    def logs(
        self,
        namespace: str,
        pod: str,
        *,
        container: str | None = None,
        previous: bool = False,
        tail: int | None = None,
        since: int | None = None,
    ) -> str:
        """Return a container's log: at most its last `tail` lines, of the last `since` seconds."""
        query = {
            "container": container,
            "previous": "true" if previous else None,
            "tailLines": tail,
            "sinceSeconds": since,
        }
        return self._read("GET", object_path("Pod", namespace, pod, "log"), query=query).decode(errors="replace")

    def close(self) -> None:
        """Close all connections."""
        for connections in self._streams.values():
            connections.close()
        self._pool.clear()


def _pause(stop: threading.Event | None, seconds: float) -> None:
    if stop is None:
        time.sleep(seconds)
    else:
        stop.wait(seconds)


def _change(line: bytes) -> WatchEvent:
    event = json.loads(line)
    if event["type"] == "ERROR":
        status = event["object"]
        code, reason = status.get("code", 500), status.get("reason", "")
        raise kind_of(code, reason)(f"watch: {status.get('message')}", code=code, reason=reason, status=status)
    return WatchEvent(event["type"], event["object"])
