# A static binary in an empty image. For a router with an ARM64 processor:
#   docker buildx build --platform linux/arm64 -t forebay .
#   docker run -d --restart unless-stopped -v /etc/forebay:/etc/forebay:ro -v forebay:/var/lib/forebay forebay
# Mount the folder, not single files: a file that an editor replaces stays the old one in a container.
FROM --platform=$BUILDPLATFORM rust:1.95-bookworm AS build
ARG TARGETARCH
RUN apt-get update && apt-get install -y --no-install-recommends \
        gcc-aarch64-linux-gnu libc6-dev-arm64-cross musl-tools \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
# Linkers and their settings: .cargo/config.toml.
RUN case "$TARGETARCH" in arm64) target=aarch64 ;; amd64) target=x86_64 ;; *) exit 1 ;; esac \
    && rustup target add "$target-unknown-linux-musl" \
    && cargo build --release --locked --target "$target-unknown-linux-musl" \
    && cp "target/$target-unknown-linux-musl/release/forebay" /forebay \
    && mkdir -p /empty

FROM scratch
COPY --from=build /forebay /forebay
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /empty /var/lib/forebay
COPY --from=build /empty /tmp
# Says "unhealthy" when nothing runs, not when a broker is away. It wakes the processor each time, so not too often.
HEALTHCHECK --interval=60s --timeout=10s --start-period=30s CMD ["/forebay", "health"]
ENTRYPOINT ["/forebay"]
CMD ["run", "/etc/forebay"]
