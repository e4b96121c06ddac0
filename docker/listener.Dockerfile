# syntax=docker/dockerfile:1.7@sha256:a57df69d0ea827fb7266491f2813635de6f17269be881f696fbfdf2d83dda33e
# The listener, for endpoints on RunPod: no GPU, no ffmpeg, no model. Build it from the repository's root.
# Its root file system may be read-only: it writes to /var/lib/gpudrop (state) and /tmp only.

FROM python:3.11.15-slim-bookworm@sha256:d29f48a31a8b408ed19272ca1e7b10ebae13b240a27e862d3d4217c528e2e0c3 AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/venv
WORKDIR /build
COPY pyproject.toml requirements.lock README.md ./
COPY scripts/lock.py scripts/lock.py
COPY docker/locks docker/locks
RUN python scripts/lock.py show --extra brokers --without docker/locks/excludes-listener.txt > constraints.txt \
 && /opt/venv/bin/pip install --require-hashes --requirement constraints.txt
RUN python scripts/lock.py show --bare --group build > build.txt \
 && pip install --require-hashes --requirement build.txt
COPY manifests manifests
COPY handlers handlers
COPY gpu_dispatch gpu_dispatch
COPY listener listener
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
 && /opt/venv/bin/pip install --no-deps /dist/*.whl \
 && /opt/venv/bin/pip uninstall --yes pip

FROM python:3.11.15-slim-bookworm@sha256:d29f48a31a8b408ed19272ca1e7b10ebae13b240a27e862d3d4217c528e2e0c3 AS listener
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    GPUDROP_CONFIG=/etc/gpudrop/config.yaml
RUN useradd --uid 10001 --no-create-home --home-dir /var/lib/gpudrop --shell /usr/sbin/nologin gpudrop \
 && install --directory --owner gpudrop --group gpudrop --mode 0700 /var/lib/gpudrop
COPY --from=build /opt/venv /opt/venv
COPY docker/healthcheck.py /opt/healthcheck.py
WORKDIR /var/lib/gpudrop
USER 10001:10001
HEALTHCHECK --interval=60s --timeout=20s --start-period=30s CMD ["python", "/opt/healthcheck.py"]
ENTRYPOINT ["gpudrop"]
CMD ["run"]
