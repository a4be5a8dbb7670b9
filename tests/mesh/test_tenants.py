"""Hostile tenants, live: whatever one writes into its own namespace, it gets no other's traffic, and reaches no other's
pods past identity and policy. A row is one thing that it writes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from chaos.cluster.providers import open_cluster
from chaos.errors import ApiError, Forbidden
from chaos.kube.client import Cluster, Object
from chaos.mesh import manifests
from chaos.mesh.install import Mesh
from chaos.mesh.policy import policy_config_map
from chaos.mesh.snapshot import Rule
from chaos.model.modes import MODES
from chaos.names import ANNOTATION_SANDBOX, IMAGE, LABEL_WAYPOINT, NO_WAYPOINT, PORT_HTTP, PORT_TCP, spiffe_id

pytestmark = pytest.mark.privileged

QUICK = ("sidecar", "node", "ambient-namespace")  # one of each kind
MESHED = [pytest.param(m, marks=[] if m in QUICK else pytest.mark.slow) for m, mode in MODES.items() if mode.hops]
OWN, OTHER = "tenant-a", "tenant-b"  # the hostile one, and the one whose traffic it wants
CALLS = """
import http.client, json, sys, time
answers = []
for host, port in json.loads(sys.argv[1]):
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("POST", "/echo", body=b"x")
        answer = connection.getresponse()
        answers.append([host, port, answer.status, answer.headers.get("x-pod", "")])
    except (OSError, http.client.HTTPException) as error:
        answers.append([host, port, 0, repr(error)])
    finally:
        connection.close()
    time.sleep(0.05)
print(json.dumps(answers))
"""
Door = tuple[str, int]  # an address at which the other's server might answer


@dataclass(frozen=True)
class Tenants:
    """A mesh with the two of them, and a pod outside of it."""

    cluster: Cluster

    def pods(self, namespace: str, app: str) -> list[Object]:
        return self.cluster.list("Pod", namespace, labels=f"app={app}")

    def ip(self, namespace: str, app: str = "server") -> str:
        found: str = self.pods(namespace, app)[0]["status"]["podIP"]
        return found

    def cluster_ip(self, namespace: str) -> str:
        found: str = self.cluster.get("Service", "server", namespace)["spec"]["clusterIP"]
        return found

    def call(self, namespace: str, doors: list[Door], *, app: str = "client") -> list[tuple[int, str]]:
        """(status, who answered) at each of the doors, called from a pod of that namespace."""
        name = self.pods(namespace, app)[0]["metadata"]["name"]
        code = ["python", "-c", CALLS, json.dumps(doors)]
        answers = json.loads(self.cluster.exec(namespace, name, code, container=app).stdout)
        return [(status, who) for *_, status, who in answers]

    def add(self, kind: str, api: str, name: str, *, labels: dict[str, str] | None = None, **fields: Any) -> Object:
        meta = {"name": name, "namespace": OWN, "labels": labels or {}}
        return self.cluster.create({"apiVersion": api, "kind": kind, "metadata": meta, **fields})

    def service(self, *, labels: dict[str, str] | None = None, **spec: Any) -> Object:
        ports = [
            {"name": "http", "port": 80, "targetPort": PORT_HTTP},
            {"name": "tcp", "port": PORT_TCP, "targetPort": PORT_TCP},
        ]
        return self.add("Service", "v1", "door", labels=labels, spec={"ports": ports, **spec})

    def slice(self, address: str, ref: Object | None = None, *, service: str = "door") -> None:
        endpoint = {"addresses": [address], "conditions": {"ready": True}, **({"targetRef": ref} if ref else {})}
        ports = [{"name": "http", "port": PORT_HTTP}, {"name": "tcp", "port": PORT_TCP}]
        labels = {"kubernetes.io/service-name": service}
        api = "discovery.k8s.io/v1"
        self.add("EndpointSlice", api, "door", labels=labels, addressType="IPv4", ports=ports, endpoints=[endpoint])

    def reference(self, namespace: str) -> Object:
        """A slice's reference to a server of that tenant."""
        meta = self.pods(namespace, "server")[0]["metadata"]
        return {"kind": "Pod", "name": meta["name"], "namespace": namespace, "uid": meta["uid"]}

    def doors(self, made: Object) -> list[Door]:
        """Every address of a Service: its own and its node ports, on each node."""
        spec = made["spec"]
        nodes = [node["status"]["addresses"][0]["address"] for node in self.cluster.list("Node")]
        ports = [(one["port"], one.get("nodePort", 0)) for one in spec["ports"]]
        return [(spec["clusterIP"], port) for port, _ in ports] + [(n, p) for n in nodes for _, p in ports if p]

    def clear(self) -> None:
        """Take away what a row left."""
        for kind in ("Service", "EndpointSlice", "Pod"):
            self.cluster.delete(kind, "door", OWN, grace=0)


@pytest.fixture(scope="module", params=MESHED)
def tenants(request: pytest.FixtureRequest) -> Iterator[Tenants]:
    with open_cluster("embedded", name=f"tenants-{request.param}", nodes=2) as cluster:
        first, second = sorted(node["metadata"]["name"] for node in cluster.list("Node"))
        mesh = Mesh(cluster, request.param, run="tenants")
        objects = [o for t in "ab" for o in manifests.tenant(t, client_nodes=[first], server_nodes=[second], servers=1)]
        for obj in objects:  # what the kubelet probes is captured, and passes all the same
            if (obj["kind"], obj["metadata"]["name"], obj["metadata"].get("namespace")) == (
                "Deployment",
                "server",
                OWN,
            ):
                server = obj["spec"]["template"]["spec"]["containers"][0]
                server["readinessProbe"] = {"tcpSocket": {"port": "http"}, "periodSeconds": 1}
        mesh.start(objects)
        cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "outside"}})
        outsider = {"name": "outsider", "image": IMAGE, "command": ["python", "-m", "chaos.apps.server"]}
        meta = {"name": "outsider", "namespace": "outside", "labels": {"app": "outsider"}}
        made = cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [outsider]}})
        mesh.wait_ready([made], seconds=30)
        found = Tenants(cluster)
        rule = Rule(sources=(spiffe_id(OTHER, "client"),))
        cluster.create(policy_config_map(OTHER, "own-clients", [rule], run="tenants"))
        front = [(f"server.{OTHER}", 80)]
        cluster.wait("the policy holds", lambda: found.call(OWN, front)[0][0] not in (0, 200), seconds=20)
        assert found.call(OWN, [(f"server.{OWN}", 80)])[0][0] == 200
        yield found


# ---- what a tenant writes; each returns the doors that it hopes to have opened


def a_node_port_to_the_other(t: Tenants) -> list[Door]:
    made = t.service(type="NodePort")
    t.slice(t.ip(OTHER))
    return t.doors(made)


def a_node_port_to_the_other_as_ones_own_pod(t: Tenants) -> list[Door]:
    made = t.service(type="NodePort")
    t.slice(t.ip(OTHER), t.reference(OWN))
    return t.doors(made)


def a_node_port_to_the_others_pod_by_name(t: Tenants) -> list[Door]:
    made = t.service(type="NodePort")
    t.slice(t.ip(OTHER), t.reference(OTHER))
    return t.doors(made)


def a_node_port_that_keeps_sources(t: Tenants) -> list[Door]:
    made = t.service(type="NodePort", externalTrafficPolicy="Local")
    t.slice(t.ip(OTHER))
    return t.doors(made)


def ones_own_address_as_the_others_pod(t: Tenants) -> list[Door]:
    made = t.service()
    t.slice(t.ip(OWN), t.reference(OTHER))
    return t.doors(made)


def past_waypoints_to_the_other(t: Tenants) -> list[Door]:
    made = t.service(labels={LABEL_WAYPOINT: NO_WAYPOINT}, type="NodePort")
    t.slice(t.ip(OTHER), t.reference(OWN))
    return t.doors(made)


def a_slice_of_a_service_of_the_same_name(t: Tenants) -> list[Door]:
    t.slice(t.ip(OTHER), t.reference(OWN), service="server")
    return [(t.cluster_ip(OWN), 80)] * 6


def external_addresses_that_are_the_others(t: Tenants) -> list[Door]:
    addresses = [t.ip(OTHER), t.cluster_ip(OTHER)]
    t.service(selector={"app": "server"}, externalIPs=addresses)
    return [(one, port) for one in addresses for port in (80, PORT_TCP)]


def a_load_balancer_at_the_others_address(t: Tenants) -> list[Door]:
    made = t.service(selector={"app": "server"}, type="LoadBalancer")
    ingress = {"loadBalancer": {"ingress": [{"ip": t.cluster_ip(OTHER)}]}}
    t.cluster.patch("Service", "door", {"status": ingress}, OWN, subresource="status")
    return [(t.cluster_ip(OTHER), 80), (t.cluster_ip(OTHER), made["spec"]["ports"][0]["nodePort"])]


def an_external_name(t: Tenants) -> list[Door]:
    t.service(type="ExternalName", externalName=f"server.{OTHER}.svc.cluster.local")
    return [(f"door.{OWN}.svc.cluster.local", 80), (f"door.{OWN}.svc.cluster.local", PORT_TCP)]


def the_others_own_address(t: Tenants) -> list[Door]:
    with pytest.raises(ApiError):
        t.service(clusterIP=t.cluster_ip(OTHER))
    return []


def a_pod_that_says_it_has_the_others_address(t: Tenants) -> list[Door]:
    t.service(selector={"app": "server"})
    address = t.ip(OTHER)
    status = {"podIP": address, "podIPs": [{"ip": address}]}
    t.cluster.patch("Pod", t.reference(OWN)["name"], {"status": status}, OWN, subresource="status")
    return [(f"door.{OWN}", 80)] * 4


def a_pod_that_says_it_lives_in_the_others_namespace(t: Tenants) -> list[Door]:
    theirs = t.pods(OTHER, "server")[0]
    uid = theirs["metadata"]["uid"]
    sandbox = (theirs["metadata"].get("annotations") or {}).get(ANNOTATION_SANDBOX, f"{uid}-1")
    annotations = {"metadata": {"annotations": {ANNOTATION_SANDBOX: sandbox}}}
    t.cluster.patch("Pod", t.reference(OWN)["name"], annotations, OWN)
    return []


def a_pod_on_the_ports_of_its_node(t: Tenants) -> list[Door]:
    ports = [{"containerPort": PORT_HTTP, "hostPort": port} for port in (80, PORT_HTTP, 15001, 15006, 15008, 15012)]
    server = {"name": "app", "image": IMAGE, "command": ["python", "-m", "chaos.apps.server"], "ports": ports}
    node = t.pods(OTHER, "server")[0]["spec"]["nodeName"]
    with suppress(Forbidden):  # by Pod Security, unless the mode needs more in the tenants' namespaces
        t.add("Pod", "v1", "door", spec={"nodeName": node, "containers": [server]})
    return []


WRITES: list[Callable[[Tenants], list[Door]]] = [
    a_node_port_to_the_other,
    a_node_port_to_the_other_as_ones_own_pod,
    a_node_port_to_the_others_pod_by_name,
    a_node_port_that_keeps_sources,
    ones_own_address_as_the_others_pod,
    past_waypoints_to_the_other,
    a_slice_of_a_service_of_the_same_name,
    external_addresses_that_are_the_others,
    a_load_balancer_at_the_others_address,
    an_external_name,
    the_others_own_address,
    a_pod_that_says_it_has_the_others_address,
    a_pod_that_says_it_lives_in_the_others_namespace,
    a_pod_on_the_ports_of_its_node,
]


@contextmanager
def written(tenants: Tenants, write: Callable[[Tenants], list[Door]]) -> Iterator[list[Door]]:
    try:
        yield write(tenants)
    finally:
        tenants.clear()


@pytest.mark.parametrize("write", WRITES, ids=lambda write: str(write.__name__).replace("_", "-"))
def test_a_tenant_gets_no_others_traffic_and_reaches_no_other_past_its_policy(
    tenants: Tenants, write: Callable[[Tenants], list[Door]]
) -> None:
    theirs = {pod["metadata"]["name"] for pod in tenants.pods(OTHER, "server")}
    with written(tenants, write) as doors:
        own = tenants.call(OTHER, [(f"server.{OTHER}", 80)] * 30)  # more than the configuration takes to change
        tried = tenants.call(OWN, doors) + tenants.call("outside", doors, app="outsider")
    assert [answer for answer in tried if answer[1] in theirs] == [], doors
    assert {(status, who in theirs) for status, who in own} == {(200, True)}, own
