# syntax=docker/dockerfile:1
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
COPY . .
# Dependencies and what was built of them stay in caches from one build to the next.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked \
    && install -D target/release/m4-user-details /out/m4-user-details \
    && install -d -o 10001 -g 10001 /out/data

FROM debian:12.12-slim
COPY --from=build /out/m4-user-details /usr/local/bin/m4-user-details
# The only place that is written to, and only with SQLite: the root file system may be read-only.
COPY --from=build --chown=10001:10001 /out/data /var/lib/m4-user-details
USER 10001:10001
VOLUME /var/lib/m4-user-details
ENV M4_DATABASE_URL=sqlite:///var/lib/m4-user-details/m4-user-details.db \
    M4_GRPC_LISTEN=0.0.0.0:50051 \
    M4_HTTP_LISTEN=0.0.0.0:8080
EXPOSE 50051 8080
HEALTHCHECK --interval=5s --timeout=6s --start-period=30s CMD ["m4-user-details", "healthcheck"]
ENTRYPOINT ["m4-user-details"]
CMD ["serve"]
