# docker build -t windowcast . && docker run --init -p 8000:8000 windowcast
# Without TensorFlow, for versions that have a fused twin: docker build --target slim -t windowcast:slim .
# Serve your own models: docker run --init -p 8000:8000 -v ./models:/srv/models:ro windowcast

ARG BASE_IMAGE=python:3.12-slim-bookworm

FROM ${BASE_IMAGE} AS base
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# The service's user may not write, so what is not compiled here and below is compiled at every start. By hash, because
# Python looks at the times of files otherwise, and layers round them.
RUN python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -x '/(test|tests|lib2to3)/' \
    "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"

# What serving needs, installed before the code is copied, so that a change of code reuses the layer.
FROM base AS serving
COPY requirements/tensorflow.txt /tmp/requirements.txt
RUN python3 -m venv /opt/venv \
 && pip install --no-cache-dir --no-compile --require-hashes --requirement /tmp/requirements.txt \
 # C++ headers and a compiler's library that nothing here loads: 300 MB.
 && rm -rf /opt/venv/lib/python3*/site-packages/tensorflow/include /opt/venv/lib/python3*/site-packages/clang \
 && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv

FROM base AS serving-slim
COPY requirements/onnx.txt /tmp/requirements.txt
RUN python3 -m venv /opt/venv \
 && pip install --no-cache-dir --no-compile --require-hashes --requirement /tmp/requirements.txt \
 && pip uninstall --yes pip \
 && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv

# Trains the default model, so that the image serves something from the first minute.
FROM serving AS trained
COPY requirements/training.txt /tmp/requirements.txt
RUN pip install --no-cache-dir --require-hashes --requirement /tmp/requirements.txt
WORKDIR /srv
COPY app app
COPY training training
RUN python -m training train --config training/default.toml

FROM base AS service
LABEL org.opencontainers.image.title="windowcast" \
      org.opencontainers.image.description="Serves forecasts of a stacked LSTM over HTTP" \
      org.opencontainers.image.licenses="Apache-2.0"
WORKDIR /srv
COPY app app
RUN python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash app
COPY --from=trained /srv/models models
ENV WINDOWCAST_HOST=0.0.0.0 WINDOWCAST_PORT=8000 WINDOWCAST_MODELS_DIR=/srv/models
# TensorFlow will not be imported without a folder for temporary files; this one is there on a read-only root too.
ENV TMPDIR=/dev/shm
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-m", "app.healthcheck"]
CMD ["python", "-m", "app"]

FROM service AS slim
COPY --from=serving-slim /opt/venv /opt/venv

FROM service AS full
COPY --from=serving /opt/venv /opt/venv
