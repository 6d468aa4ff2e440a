# syntax=docker/dockerfile:1

# The first stage compiles with the compiler that Cargo.toml names, the second runs the one binary.
# There is no C library to build or to carry: the dependencies are Rust (deny.toml keeps it so).

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# The caches outlive this step and are not in the image, so the binary is copied out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin hydrant \
    && cp target/release/hydrant /usr/local/bin/hydrant

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="Hydrant" \
      org.opencontainers.image.description="A Kafka-compatible log with an HTTP door" \
      org.opencontainers.image.licenses="Apache-2.0"

# A number, so that an orchestrator can see that it is not root. The folder belongs to it before
# the volume is declared: a new volume takes over its owner.
RUN groupadd --gid 10001 hydrant \
    && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin hydrant \
    && install --directory --owner=10001 --group=10001 --mode=0750 /data
COPY --from=build /usr/local/bin/hydrant /usr/local/bin/hydrant
COPY LICENSE /usr/share/doc/hydrant/LICENSE

USER 10001:10001
WORKDIR /data
VOLUME /data
# HTTP and the Kafka protocol.
EXPOSE 8082 9092

# The image has bash (Debian marks it essential) and no HTTP client: bash opens the connection
# itself. Ready means that the log is recovered, no partition is offline and nothing is draining.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8082 && printf 'GET /readyz HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && IFS= read -r -t 4 status <&3 && [[ $status == 'HTTP/1.1 200 '* ]]"]

# Nothing asks for a password yet (SECURITY.md): publish the ports only where everybody may come.
# Kafka clients are sent to the address in HYDRANT_KAFKA_ADVERTISED (HOST:PORT); without it they
# are sent to 127.0.0.1:9092, which suits a port published on the same machine.
CMD ["hydrant", "serve", "--data-dir", "/data", "--http-addr", "0.0.0.0:8082", "--kafka-addr", "0.0.0.0:9092"]
