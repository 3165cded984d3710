# syntax=docker/dockerfile:1.12
FROM rust:1.95.0-slim-bookworm AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /src
COPY . .
# Dependencies and what was built of them stay in caches from one build to the next.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --profile dist --locked \
    && install -D target/dist/m4-user-details /out/usr/local/bin/m4-user-details \
    && install -d /data
# The libraries that it is linked to are all that it needs of a system.
RUN ldd /out/usr/local/bin/m4-user-details | grep -o '/[^ ]*' | xargs cp --dereference --parents --target-directory=/out

FROM scratch
COPY --from=build /out /
# The only place that is written to, and only with SQLite: the root file system may be read-only.
COPY --from=build --chown=10001:10001 /data /var/lib/m4-user-details
USER 10001:10001
VOLUME /var/lib/m4-user-details
# glibc keeps freed memory in its arenas. Mappings of their own for large messages give it back after
# a flood.
ENV MALLOC_MMAP_THRESHOLD_=16384 \
    MALLOC_TRIM_THRESHOLD_=131072
ENV M4_ADMIN_LISTEN=0.0.0.0:9090 \
    M4_DATABASE_URL=sqlite:///var/lib/m4-user-details/m4-user-details.db \
    M4_GRPC_LISTEN=0.0.0.0:50051 \
    M4_HTTP_LISTEN=0.0.0.0:8080
EXPOSE 50051 8080 9090
HEALTHCHECK --interval=5s --timeout=6s --start-period=30s CMD ["/usr/local/bin/m4-user-details", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/m4-user-details"]
CMD ["serve"]
