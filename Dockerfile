# Codewell with text ingest that works offline. Built for CPUs unless GPU=true.
#
#   docker build -t codewell .
#   docker build -t codewell --build-arg GPU=true .          PyTorch's CUDA build: gigabytes more, trains on a GPU
#   docker build -t codewell --build-arg TORCH_INDEX= .      PyTorch from the index that pip is set to
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
ARG TORCH_VERSION=2.13.0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG GPU=false
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/codewell
ENV PATH=/opt/codewell/bin:$PATH
# The largest part by far, and the one that changes least.
RUN if [ "${GPU}" = true ] || [ -z "${TORCH_INDEX}" ]; then pip install "torch==${TORCH_VERSION}"; \
    else pip install --index-url "${TORCH_INDEX}" "torch==${TORCH_VERSION}"; fi
WORKDIR /build
# Dependencies before sources: a change to the code installs nothing again.
COPY pyproject.toml ./
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print('\n'.join(p['dependencies'] + p['optional-dependencies']['text'] + p['optional-dependencies']['plots'] + p['optional-dependencies']['otel']))" \
    > requirements.txt && pip install -r requirements.txt
COPY README.md LICENSE ./
COPY models models
COPY service service
RUN pip install --no-deps .

FROM ${PYTHON_IMAGE}
RUN groupadd --system --gid 10001 codewell \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin codewell \
    && install --directory --owner codewell --group codewell /data
COPY --from=build /opt/codewell /opt/codewell
# Libraries keep their caches in HOME: with a read-only root, /tmp is what can be written besides /data.
ENV PATH=/opt/codewell/bin:$PATH \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MALLOC_ARENA_MAX=2 \
    CODEWELL_HOST=0.0.0.0 \
    CODEWELL_PORT=8000 \
    CODEWELL_DATA_DIR=/data \
    CODEWELL_FIRST_KEY_FILE=/data/first-key
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
# No proxy: the environment's is for other machines. An answer that is not 200 raises, which is exit code 1.
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=6 CMD ["python", "-c", \
    "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open(f\"http://127.0.0.1:{os.environ['CODEWELL_PORT']}/readyz\", timeout=4)"]
ENTRYPOINT ["codewell"]
CMD ["serve"]
