# The operator's image. What is installed is pinned with its hash, and is no more than the operator needs;
# what builds it stays behind.
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY tools/lock_subset.py tools/
COPY lws_core lws_core
COPY lws_sim lws_sim
COPY lws_runtime lws_runtime
RUN python tools/lock_subset.py --build > /opt/build.lock \
 && python tools/lock_subset.py operator > /opt/lws.lock \
 && python -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --no-compile --require-hashes --only-binary :all: -r /opt/build.lock \
 && /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /opt/dist .
RUN python -m venv --without-pip /opt/lws \
 && /opt/build/bin/pip --python /opt/lws/bin/python install --no-cache-dir \
    --require-hashes --only-binary :all: -r /opt/lws.lock \
 && /opt/build/bin/pip --python /opt/lws/bin/python install --no-cache-dir --no-deps /opt/dist/*.whl

FROM python:3.13-slim
COPY --from=build /opt/lws /opt/lws
USER 65532:65532
ENV PATH=/opt/lws/bin:$PATH PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["/opt/lws/bin/lws"]
CMD ["operator"]
