# Three stages: `packages` installs what running needs and trims it, `export` converts the
# checkpoints to OpenVINO IR with torch, and the last one ships the runtime alone.
#
#   docker build --tag abdomen-cascade .            (BuildKit; it is the default since Docker 23)
#
# BASE_IMAGE   any Debian-like image with python3 3.11 or newer, its venv module and bash; to build
#              on the very same one again, name its digest: python:3.11-slim-bookworm@sha256:...
# TORCH_INDEX  index that holds PyTorch's CPU wheels; empty: the package index of pip
# secret `ca`  certificate bundle for a network whose proxy has its own
# wheels/      packages for builds without the internet

ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS python
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python3 -m venv /opt/venv

FROM python AS packages
COPY requirements/run.txt docker/trim_packages.sh /build/
# The telemetry reports to Intel, highdicom (with the three after it) writes DICOM SEG, the last three
# are for what rich does beyond progress bars; none is part of a prediction.
RUN --mount=type=bind,source=wheels,target=/wheels \
    --mount=type=secret,id=ca,target=/run/secrets/ca \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi \
    && sed -e ':join' -e '/\\$/N; s/\\\n//; t join' /build/run.txt | grep -v -i -E \
        -e '^(openvino-telemetry|highdicom|pyjpegls|packaging|typing-extensions)=' \
        -e '^(pygments|markdown-it-py|mdurl)=' > /build/image.txt \
    && /opt/venv/bin/pip install --quiet --no-compile --no-deps --require-hashes \
        --find-links /wheels --target /opt/packages --requirement /build/image.txt \
    && sh /build/trim_packages.sh /opt/packages \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/packages

FROM python AS export
ARG TORCH_INDEX
COPY requirements/train.txt /build/
RUN --mount=type=bind,source=wheels,target=/wheels \
    --mount=type=secret,id=ca,target=/run/secrets/ca \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi \
    && /opt/venv/bin/pip install --quiet --find-links /wheels \
        ${TORCH_INDEX:+--extra-index-url ${TORCH_INDEX}} --requirement /build/train.txt
WORKDIR /build
COPY app app
COPY weights weights
COPY predict.sh LICENSE /ship/
RUN /opt/venv/bin/python -m app export --output /ship/weights --prepared
# What else ships: the rooms that docs/ARCHITECTURE.md marks, and what is said about the weights.
RUN mkdir -p /ship/app/cli \
    && cp app/*.py /ship/app/ \
    && cp -r app/imaging app/cascade app/outputs app/report /ship/app/ \
    && (cd app/cli && cp __init__.py main.py predict.py batch.py cases.py console.py extras.py \
        folders.py info.py numbers.py preview.py progress.py record.py /ship/app/cli/) \
    && find weights -maxdepth 1 -name '*.md' -exec cp {} /ship/weights/ \; \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /ship/app \
    && chmod -R u=rwX,go=rX /ship

FROM ${BASE_IMAGE}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="abdomen-cascade" \
      org.opencontainers.image.description="Abdominal CT organ segmentation on a CPU; not for clinical use" \
      org.opencontainers.image.licenses="Apache-2.0 AND CC-BY-NC-4.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# HOME: any --user may come, and the root file system may be read-only.
ENV PYTHONPATH=/workspace:/opt/packages PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
COPY --from=packages /opt/packages /opt/packages
COPY --from=export /ship/ /workspace/
WORKDIR /workspace
# The official images of Python lack the compiled standard library, which no read-only container
# could keep: half a second at every start. A network that does not load must break the build, not
# the user's first scan.
RUN export PYTHONDONTWRITEBYTECODE= \
    && python3 -c "import app.api, app.cli.batch, app.imaging.dicom, app.outputs.formats, app.report.writer" \
    && python3 -m app info
# Python ends a batch cleanly on this signal; as process 1 it would not see SIGTERM.
STOPSIGNAL SIGINT
# No USER: one that is fixed here could not write to an output folder that is mounted from outside.
# predict.sh steps down to that folder's owner before any scan is read; --user is respected.
ENTRYPOINT ["/bin/sh", "/workspace/predict.sh"]
