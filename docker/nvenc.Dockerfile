# syntax=docker/dockerfile:1.7@sha256:a57df69d0ea827fb7266491f2813635de6f17269be881f696fbfdf2d83dda33e
# Video on RunPod, encoded by NVENC. Build it from the repository's root.
# The encoder is the host's driver; Debian's ffmpeg asks for 470.57 or newer, which every GPU host has.

FROM python:3.11.15-slim-bookworm@sha256:d29f48a31a8b408ed19272ca1e7b10ebae13b240a27e862d3d4217c528e2e0c3 AS dependencies
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/venv
WORKDIR /build
COPY pyproject.toml requirements.lock ./
COPY scripts/lock.py scripts/lock.py
COPY docker/locks docker/locks
RUN python scripts/lock.py show --extra worker --without docker/locks/excludes-nvenc.txt > constraints.txt \
 && /opt/venv/bin/pip install --require-hashes --requirement constraints.txt

FROM python:3.11.15-slim-bookworm@sha256:d29f48a31a8b408ed19272ca1e7b10ebae13b240a27e862d3d4217c528e2e0c3 AS package
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
COPY pyproject.toml requirements.lock README.md ./
COPY scripts/lock.py scripts/lock.py
RUN python scripts/lock.py show --bare --group build > build.txt \
 && pip install --require-hashes --requirement build.txt
COPY manifests manifests
COPY handlers handlers
COPY gpu_dispatch gpu_dispatch
COPY listener listener
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /dist .

FROM python:3.11.15-slim-bookworm@sha256:d29f48a31a8b408ed19272ca1e7b10ebae13b240a27e862d3d4217c528e2e0c3 AS worker
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,video \
    GPUDROP_CAPABILITIES=nvenc \
    GPUDROP_REQUIRE_NVENC=1 \
    GPUDROP_FFMPEG=/usr/bin/ffmpeg
RUN apt-get update \
 && apt-get install --yes --no-install-recommends \
      ffmpeg=7:5.1.9-0+deb12u1 \
      fonts-noto-cjk=1:20220127+repack1-1 \
      fonts-noto-core=20201225-1 \
      tini=0.19.0-1+b3 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --create-home --shell /usr/sbin/nologin gpudrop
COPY --from=dependencies /opt/venv /opt/venv
RUN --mount=type=bind,from=package,source=/dist,target=/dist \
    pip install --no-cache-dir --no-deps /dist/*.whl
WORKDIR /home/gpudrop
USER 10001:10001
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["python", "-m", "gpu_dispatch.worker"]
