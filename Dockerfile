# One image for all four process types: `docker build -t nexus-stream .`. The command selects the process type, as in
# the Procfile. How to run it: docs/howto/deploy.md.
#
# No test builds this image, because the tests have no Docker engine. tests/integration/deploy follows these
# instructions in a directory (the same files, the same commands, an unprivileged user), and hadolint checks them.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /app
RUN python -m venv /opt/nexus
# Dependencies first: they change less often than the program. With REQUIREMENTS=deploy/requirements.lock the image also
# contains all extras (for example Amazon MSK with IAM).
ARG REQUIREMENTS=deploy/requirements-runtime.lock
# pip's own variables, for a private package index.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
COPY requirements.lock deploy/requirements-runtime.lock /app/deploy/
RUN /opt/nexus/bin/python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes -r ${REQUIREMENTS}
COPY pyproject.toml README.md LICENSE /app/
COPY agents /app/agents
COPY tables /app/tables
COPY nexus_stream /app/nexus_stream
COPY supabase/migrations /app/supabase/migrations
# Editable, as in a checkout, so that `nexus migrate` finds its migrations beside the package.
RUN /opt/nexus/bin/python -m pip install --no-cache-dir --disable-pip-version-check \
    --no-deps --no-build-isolation --editable /app && \
    /opt/nexus/bin/python -m compileall -q /app

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="nexus-stream" \
      org.opencontainers.image.description="Chat conversations in, one current record per prospect out." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

COPY --from=build /opt/nexus /opt/nexus
COPY --from=build /app /app
# Numeric ids, so that runAsNonRoot can check them. This is the only folder that the process may write to.
RUN install -d -o 10001 -g 10001 -m 0750 /var/lib/nexus

# In a container all interfaces are private. Listening on all of them, the console refuses to start without a token.
ENV PATH=/opt/nexus/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NEXUS_ENV=production \
    NEXUS_DATA_DIR=/var/lib/nexus \
    NEXUS_GATEWAY_HOST=0.0.0.0 \
    NEXUS_WEB_HOST=0.0.0.0 \
    NEXUS_WEB_PORT=6066 \
    NEXUS_METRICS_HOST=0.0.0.0 \
    NEXUS_METRICS_PORT=9464 \
    NEXUS_CONSOLE_HOST=0.0.0.0
WORKDIR /app
USER 10001:10001
VOLUME /var/lib/nexus
# Ports: gateway, console, enricher and sink (/live, /ready, /metrics), metrics of gateway and console.
EXPOSE 8080 8090 6066 9464
STOPSIGNAL SIGTERM
# Detects the process type from process 1. It checks /live, not /ready: an enricher that rebuilds its table is healthy.
HEALTHCHECK --interval=30s --timeout=10s --start-period=90s --retries=3 CMD ["nexus", "healthcheck", "--live"]
CMD ["nexus", "gateway"]
