# syntax=docker/dockerfile:1
# Relayer as an image: built with Debian's clang, run as an unprivileged user, data in /data.

FROM rust:1-bookworm AS build
RUN apt-get update && apt-get install --yes --no-install-recommends clang libclang-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The caches avoid compiling RocksDB for every change. They are not part of the image, so the
# program is copied out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --package moltrade-relayer \
    && cp target/release/moltrade-relayer /usr/local/bin/

FROM debian:bookworm-slim
# Certificates for wss://, libstdc++ for RocksDB.
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --home-dir /data --create-home relayer
COPY --from=build /usr/local/bin/moltrade-relayer /usr/local/bin/
USER relayer
# /data/config.toml is read; these variables override it. Loopback is unreachable from outside.
WORKDIR /data
VOLUME /data
ENV RELAYER_OUTPUT__BIND_ADDRESS=0.0.0.0 RELAYER_DEDUPLICATION__ROCKSDB_PATH=/data/rocksdb
EXPOSE 8080 9090
HEALTHCHECK --start-period=30s CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3 && grep -q healthy <&3"]
ENTRYPOINT ["moltrade-relayer"]
