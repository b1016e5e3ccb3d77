# syntax=docker/dockerfile:1
# Relayer as an image: built with Debian's clang, run as an unprivileged user, data in /data.
# Renew tags and digests together: the digest decides, and the tag says what it is.

FROM rust:1.95.0-slim-bookworm@sha256:d7482085ff5b415f84dba5647ae71606650bdef00db7aeb69f4b3d170c3e4082 AS tools
# Debian removes old versions of its packages.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends clang g++ libclang-dev make python3 \
    && rm -rf /var/lib/apt/lists/*
RUN cargo install --locked cargo-chef@0.1.78
WORKDIR /src

FROM tools AS plan
COPY . .
RUN cargo chef prepare --bin moltrade-relayer --recipe-path /recipe.json

FROM tools AS build
# A layer with the compiled dependencies, RocksDB among them. A change of the sources does not
# invalidate it; a change of Cargo.lock or a Cargo.toml does.
COPY --from=plan /recipe.json /recipe.json
RUN cargo chef cook --release --locked --package moltrade-relayer --bin moltrade-relayer --recipe-path /recipe.json
COPY . .
RUN cargo build --release --locked --package moltrade-relayer --bin moltrade-relayer \
    && scripts/licences > target/release/third-party-licences

FROM debian:bookworm-20260824-slim@sha256:88200866dfff7ea7f5cbcb6ec7c8a701889efe6fe859fe64d6990e4b07ea4171
# Certificates for wss://, libstdc++ for RocksDB. The ids are those of earlier images, which own the
# files of existing volumes.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 999 relayer \
    && useradd --system --uid 999 --gid relayer --home-dir /data --shell /usr/sbin/nologin relayer \
    && install --directory --owner=relayer --group=relayer --mode=700 /data
COPY LICENSE config.template.toml /usr/share/doc/moltrade-relayer/
COPY --from=build /src/target/release/third-party-licences /usr/share/doc/moltrade-relayer/
COPY --from=build /src/target/release/moltrade-relayer /usr/local/bin/
LABEL org.opencontainers.image.title="Relayer" \
      org.opencontainers.image.description="A Nostr event gateway" \
      org.opencontainers.image.source="https://github.com/ai-chen2050/moltrade-relayer" \
      org.opencontainers.image.licenses="MIT"
# In numbers, so that an engine can tell that it is not root.
USER 999:999
# /data/config.toml is read; these variables override it. Loopback is unreachable from outside.
WORKDIR /data
VOLUME /data
ENV RELAYER_OUTPUT__BIND_ADDRESS=0.0.0.0 RELAYER_DEDUPLICATION__ROCKSDB_PATH=/data/rocksdb
EXPOSE 8080 9090
# Reads the same configuration as the gateway, and so follows its port.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["moltrade-relayer", "health"]
ENTRYPOINT ["moltrade-relayer"]
