# One image for all four process types: `docker build -t nexus-stream .`, then the command says which one it is, as in
# the Procfile. docs/howto/deploy.md says how to run it.
#
# Built by no test, for there is no Docker engine where they run: tests/integration/deploy follows these instructions
# in a directory (the same files, the same commands, an unprivileged user), and hadolint reads them.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /app
RUN python -m venv /opt/nexus
# Dependencies first: they change less often than the program. With REQUIREMENTS=deploy/requirements.lock the image has
# every extra, too (Amazon MSK with IAM, say).
ARG REQUIREMENTS=deploy/requirements-runtime.lock
# pip's own variables, for who fetches packages through an index of their own.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
COPY requirements.lock deploy/requirements-runtime.lock /app/deploy/
RUN /opt/nexus/bin/python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes -r ${REQUIREMENTS}
COPY pyproject.toml README.md LICENSE /app/
COPY agents /app/agents
COPY tables /app/tables
COPY nexus_stream /app/nexus_stream
COPY supabase/migrations /app/supabase/migrations
# Editable, as in a checkout: `nexus migrate` finds its migrations beside the package.
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
# Numbers, so that runAsNonRoot can check them without a name service. The only folder the process may write to.
RUN install -d -o 10001 -g 10001 -m 0750 /var/lib/nexus

# In a container every interface is the container's own; the console refuses to start there without a token.
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
# Gateway, console, enricher and sink (/live, /ready, /metrics), metrics of gateway and console.
EXPOSE 8080 8090 6066 9464
STOPSIGNAL SIGTERM
# Knows by process 1 which of the four it is. Alive, not ready: an enricher that rebuilds its table is not ill.
HEALTHCHECK --interval=30s --timeout=10s --start-period=90s --retries=3 CMD ["nexus", "healthcheck", "--live"]
CMD ["nexus", "gateway"]
