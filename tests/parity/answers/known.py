"""The cases in which the embedded cluster is known to answer differently, and why."""

DIFFERENT: dict[str, str] = {
    "a-api-resources": "metrics.k8s.io is served",
    "a-certificate": "no certificate has been asked for",
    "a-create-ingress": "Ingresses cannot be created",
    "a-default-bindings": "no role of kube-proxy, which is no pod here",
    "a-resize": "wording: the diff of the pod",
    "b-job-change-template": "wording: Go's print of a whole template",
    "b-pod-change-resources": "wording: the diff of the pod",
    "b-pod-change-restart-policy": "wording: the diff of the pod",
    "b-pod-change-toleration-removed": "wording: the diff of the pod",
    "c-accept-fallback": "answers are never protobuf",
    "c-access-reviews": "the administrator is of system:masters, who needs no grant",
    "c-body-duplicate-keys": "an error carries no warning beside it",
    "c-body-yaml": "wording: the YAML library's own",
    "c-discovery-apis": "metrics.k8s.io is served",
    "c-ephemeral": "wording: the diff of the pod",
    "c-field-validation": "wording: the order of an object's keys",
    "c-health": "no /metrics, no /debug, no OpenID discovery",
    "c-namespace-lifecycle": "a namespace that ends says what remains, from the first moment",
    "c-node-proxy": "nodes are not proxied to",
    "c-protobuf-accept": "answers are never protobuf",
    "c-secret-token-legacy": "no tokens for Secrets of the legacy type",
    "c-ssa-status": "no conflict with what a client without a name wrote to scale",
    "c-watch-rv-old": "nothing is forgotten yet in a young cluster",
    "d-caps-default": "no container can make device files (CAP_MKNOD)",
    "d-pod-antiaffinity": "no tainted control plane is among the nodes",
    "d-priority-preemption": "no preemption",
}

# Of the further inputs, by what they have in common.
_FURTHER: dict[str, str] = {
    "Ingresses cannot be created": "a-gen-28",
    "amounts below a thousandth, with a sign or beyond 64 bits": (
        "b-pod-more-23 b-pod-more-24 b-pod-more-27 b-pod-more-28"
    ),
    "autoscalers are looked at sooner, and their status has no list of metrics without one": (
        "a-describe-hpa a-hpa-no-target"
    ),
    "metrics.k8s.io is served, to readers too": "a-auth-forms a-describe-cluster-3",
    "needs a node": "a-cert-taint-others a-describe-cluster-6",
    "no RestartAllContainers": "b-pod-more-13 b-pod-restartrules-bad",
    "no conversion by webhook, no optionalOldSelf": (
        "b-crd-conversion-none-client b-crd-more-4 b-crd-more-56 b-crd-more-57"
    ),
    "no node authorizer": "c-impersonate-6",
    "no tokens for nodes": "c-sa-token-node",
    "no user namespaces": "b-pod-os-6",
    "one process": "c-path-0 c-path-26",
    "reviews are answered whatever their metadata, and a selector is not parsed": (
        "b-lsar-more4-10 b-lsar-more4-12 b-sar-more4-3 b-sar-more4-4 b-sar-more4-7 b-ssar-more4-9"
    ),
    "the caller is of system:masters": "b-ssrr-more4-13",
    "the order of a map's keys is Go's": (
        "b-cm-more2-51 b-deploy-selector-bad b-rq-more-10 b-rq-negative c-pod-gates c-strict"
    ),
    "what controllers write has no owner": "c-scale-more c-ssa-lists",
    "wording: Go's print of a struct, or the diff of two": (
        "a-debug-forms b-crd-no-storage b-crd-pattern-bad b-pod-os-3 b-pod-resourceclaims "
        "c-change-pod-specnodenamex c-change-pod-specpriority "
        "c-change-pod-specserviceaccountnamex c-change-pod-specterminationgraceperiodseconds "
        "c-change-pvc-specaccessmodesreadwritemany c-change-pvc-specresourcesrequestsstoragegi "
        "c-change-pvc-specresourcesrequestsstoragemi c-change-pvc-specstorageclassnameother "
        "c-life-pod c-pod-eph"
    ),
    "wording: the CEL library's own": (
        "b-crd-rule-11 b-crd-rule-16 b-crd-rule-33 b-crd-rule-34 b-vap-expr-29 b-vap-more3-11"
    ),
    "not answered alike yet": (
        "b-cr-more2-39 b-crd-ref b-crole-aggregation-selector-bad b-hpa-behavior-bad "
        "b-job-more2-99 b-mwc-more3-35 b-pod-apparmor-annotation b-pod-apparmor-annotation-good "
        "b-pod-more-38 b-pvc-datasourceref-bad b-svc-more-24 c-auth-none c-change-cr-revision "
        "c-change-ds-specselectormatchlabelsappy c-change-eps-addresstypeipv "
        "c-change-pod-metadatagenerationdeletiontimestamptz c-crd-create-answer c-crd-ssa "
        "c-crd-subresources c-crd-types c-crd-versions c-finalizers-while-deleting c-life-eps "
        "c-life-pvc c-patch-type-bad c-path-23 c-pod-log-errors c-pod-status c-ssa-errors "
        "c-ssa-svc"
    ),
    "wording alone": (
        "a-apply-forms a-delete-forms a-patch-forms b-crd-selectable-bad b-lease-more2-12 "
        "b-lease-time-bad b-pod-pod-resources-below c-delete-options c-path-29 c-post-body-kinds "
        "c-post-types c-put-conflict"
    ),
}
FURTHER: dict[str, str] = {case: why for why, cases in _FURTHER.items() for case in cases.split()}

# What another kubectl than 1.36 prints otherwise, and what the cluster has no part in.
OF_THE_CLIENT = (
    "a-auth-whoami",
    "a-autoscale",
    "a-cp",
    "a-create-many-kinds",
    "a-debug-copy",
    "a-delete-",
    "a-describe-",
    "a-explain",
    "a-kustomize",
    "a-logs",
    "a-rollout-",
    "a-run",
    "a-ssa-after-client-apply",
    "a-version-info",
)
