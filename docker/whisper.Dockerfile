# syntax=docker/dockerfile:1.7@sha256:a57df69d0ea827fb7266491f2813635de6f17269be881f696fbfdf2d83dda33e
# Speech on RunPod (the default target), or `--target local`: gpudrop on a machine with a GPU of its own.
# Build it from the repository's root. CUDA comes from the wheels that torch brings; the driver is the host's.

FROM python:3.11.15-slim-bookworm@sha256:d29f48a31a8b408ed19272ca1e7b10ebae13b240a27e862d3d4217c528e2e0c3 AS dependencies
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/venv
WORKDIR /build
COPY pyproject.toml requirements.lock ./
COPY scripts/lock.py scripts/lock.py
RUN python scripts/lock.py show --extra openai,transformers,worker > constraints.txt \
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

# A build stops where a file is not the one that was pinned.
FROM scratch AS models
ADD --chmod=444 --checksum=sha256:ed3a0b6b1c0edf879ad9b11b1af5a0e6ab5db9205f891f668f8b0e6c6326e34e https://openaipublic.azureedge.net/main/whisper/models/ed3a0b6b1c0edf879ad9b11b1af5a0e6ab5db9205f891f668f8b0e6c6326e34e/base.pt /base.pt
ADD --chmod=444 --checksum=sha256:345ae4da62f9b3d59415adc60127b97c714f32e89e936602e85993674d08dcb1 https://openaipublic.azureedge.net/main/whisper/models/345ae4da62f9b3d59415adc60127b97c714f32e89e936602e85993674d08dcb1/medium.pt /medium.pt
ADD --chmod=444 --checksum=sha256:aff26ae408abcba5fbf8813c21e62b0941638c5f6eebfb145be0c9839262a19a https://openaipublic.azureedge.net/main/whisper/models/aff26ae408abcba5fbf8813c21e62b0941638c5f6eebfb145be0c9839262a19a/large-v3-turbo.pt /turbo.pt
ADD --chmod=444 --checksum=sha256:d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9 https://huggingface.co/Systran/faster-whisper-base/resolve/ebe41f70d5b6dfa9166e2c581c45c9c0cfc57b66/model.bin /base/model.bin
ADD --chmod=444 --checksum=sha256:56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a https://huggingface.co/Systran/faster-whisper-base/resolve/ebe41f70d5b6dfa9166e2c581c45c9c0cfc57b66/config.json /base/config.json
ADD --chmod=444 --checksum=sha256:fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab https://huggingface.co/Systran/faster-whisper-base/resolve/ebe41f70d5b6dfa9166e2c581c45c9c0cfc57b66/tokenizer.json /base/tokenizer.json
ADD --chmod=444 --checksum=sha256:34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913 https://huggingface.co/Systran/faster-whisper-base/resolve/ebe41f70d5b6dfa9166e2c581c45c9c0cfc57b66/vocabulary.txt /base/vocabulary.txt
ADD --chmod=444 --checksum=sha256:9b45e1009dcc4ab601eff815b61d80e60ce3fd8c74c1a14f4a282258286b51ae https://huggingface.co/Systran/faster-whisper-medium/resolve/08e178d48790749d25932bbc082711ddcfdfbc4f/model.bin /medium/model.bin
ADD --chmod=444 --checksum=sha256:3622a2ddc41ec0e0fd4e68c13c6830f03b90c38d89aaad184de02c8c642cf807 https://huggingface.co/Systran/faster-whisper-medium/resolve/08e178d48790749d25932bbc082711ddcfdfbc4f/config.json /medium/config.json
ADD --chmod=444 --checksum=sha256:fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab https://huggingface.co/Systran/faster-whisper-medium/resolve/08e178d48790749d25932bbc082711ddcfdfbc4f/tokenizer.json /medium/tokenizer.json
ADD --chmod=444 --checksum=sha256:34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913 https://huggingface.co/Systran/faster-whisper-medium/resolve/08e178d48790749d25932bbc082711ddcfdfbc4f/vocabulary.txt /medium/vocabulary.txt
ADD --chmod=444 --checksum=sha256:e76620f83d5f5b69efd3d87e3dc180c1bd21df9fbebacfd4335e5e1efcc018da https://huggingface.co/mobiuslabsgmbh/faster-whisper-large-v3-turbo/resolve/0a363e9161cbc7ed1431c9597a8ceaf0c4f78fcf/model.bin /turbo/model.bin
ADD --chmod=444 --checksum=sha256:b0253ea6c0d3bea6b1e19e91a02acfd3b53f4467362efcb5a3e6b16c9b3a9b7e https://huggingface.co/mobiuslabsgmbh/faster-whisper-large-v3-turbo/resolve/0a363e9161cbc7ed1431c9597a8ceaf0c4f78fcf/config.json /turbo/config.json
ADD --chmod=444 --checksum=sha256:7ccc62c6f2765af1f3b46c00c9b5894426835a05021c8b9c01eecb6dfb542711 https://huggingface.co/mobiuslabsgmbh/faster-whisper-large-v3-turbo/resolve/0a363e9161cbc7ed1431c9597a8ceaf0c4f78fcf/preprocessor_config.json /turbo/preprocessor_config.json
ADD --chmod=444 --checksum=sha256:297b13372ac43916285644fb9687add3cc62ee2a1adb60da3dc25cc94c1871fd https://huggingface.co/mobiuslabsgmbh/faster-whisper-large-v3-turbo/resolve/0a363e9161cbc7ed1431c9597a8ceaf0c4f78fcf/tokenizer.json /turbo/tokenizer.json
ADD --chmod=444 --checksum=sha256:c69260f2ab26d659b7c398f9a2b2b48ed0df16c3b47d7326782fd9cba71690c1 https://huggingface.co/mobiuslabsgmbh/faster-whisper-large-v3-turbo/resolve/0a363e9161cbc7ed1431c9597a8ceaf0c4f78fcf/vocabulary.json /turbo/vocabulary.json

FROM python:3.11.15-slim-bookworm@sha256:d29f48a31a8b408ed19272ca1e7b10ebae13b240a27e862d3d4217c528e2e0c3 AS base
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    LD_LIBRARY_PATH=/opt/venv/lib/python3.11/site-packages/nvidia/cublas/lib:/opt/venv/lib/python3.11/site-packages/nvidia/cudnn/lib:/opt/venv/lib/python3.11/site-packages/nvidia/cuda_runtime/lib \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,video \
    GPUDROP_MODEL_DIR=/models
RUN apt-get update \
 && apt-get install --yes --no-install-recommends tini=0.19.0-1+b3 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --create-home --shell /usr/sbin/nologin gpudrop
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=models / /models
RUN --mount=type=bind,from=package,source=/dist,target=/dist \
    pip install --no-cache-dir --no-deps /dist/*.whl
ENTRYPOINT ["/usr/bin/tini", "--"]

FROM base AS local
ENV GPUDROP_CONFIG=/etc/gpudrop/config.yaml GPUDROP_FFMPEG=/usr/bin/ffmpeg XDG_STATE_HOME=/var/lib/gpudrop
RUN apt-get update \
 && apt-get install --yes --no-install-recommends \
      ffmpeg=7:5.1.9-0+deb12u1 \
      fonts-noto-cjk=1:20220127+repack1-1 \
      fonts-noto-core=20201225-1 \
 && rm -rf /var/lib/apt/lists/* \
 && install --directory --owner gpudrop --group gpudrop --mode 0700 /var/lib/gpudrop
COPY docker/healthcheck.py /opt/healthcheck.py
WORKDIR /var/lib/gpudrop
USER 10001:10001
HEALTHCHECK --interval=60s --timeout=20s --start-period=60s CMD ["python", "/opt/healthcheck.py"]
CMD ["gpudrop", "run"]

FROM base AS worker
ENV GPUDROP_CAPABILITIES=whisper GPUDROP_DEVICE=cuda GPUDROP_WARM_MODEL=base
WORKDIR /home/gpudrop
USER 10001:10001
CMD ["python", "-m", "gpu_dispatch.worker"]
