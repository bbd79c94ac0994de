# The operator's image. Every dependency is pinned with its hash; nothing is built at run time.
FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY lws_core lws_core
COPY lws_sim lws_sim
COPY lws_runtime lws_runtime
RUN python -m venv /opt/lws \
 && /opt/lws/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements.lock \
 && /opt/lws/bin/pip install --no-cache-dir --no-deps . \
 && /opt/lws/bin/python -m compileall -q /opt/lws

FROM python:3.13-slim
COPY --from=build /opt/lws /opt/lws
USER 65532:65532
ENV PATH=/opt/lws/bin:$PATH PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["/opt/lws/bin/lws"]
CMD ["operator"]
