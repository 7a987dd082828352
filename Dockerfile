# A static binary in an empty image, for routers and gateways with ARM64 and for x86-64:
#   docker buildx build --platform linux/arm64 -t forebay .
# How it is run on a router: release/router.md.
FROM --platform=$BUILDPLATFORM rust:1.95-bookworm AS toolchain
RUN apt-get update && apt-get install -y --no-install-recommends \
        gcc-aarch64-linux-gnu libc6-dev-arm64-cross musl-tools \
    && rm -rf /var/lib/apt/lists/*
RUN rustup target add aarch64-unknown-linux-musl x86_64-unknown-linux-musl
WORKDIR /source

# Another source is the same list of dependencies: they are built again only when that changes.
FROM toolchain AS manifests
COPY . .
RUN release/manifests /manifests

FROM toolchain AS build
ARG TARGETARCH
COPY --from=manifests /manifests .
RUN release/binary "$TARGETARCH"
COPY . .
# Cargo compares times: what was empty is older than any source.
RUN find . -name '*.rs' -exec touch {} + \
    && binary=$(release/binary "$TARGETARCH") && release/image-root "$binary" /image

FROM scratch
COPY --from=build /image /
# For a serial line or pin: `--device` with `--group-add`, the number of the group that may open it.
USER 65532:65532
# What must survive. Without a folder or volume of the user's there is one that goes away with the container.
VOLUME /var/lib/forebay
# Says "unhealthy" when nothing runs, not when a broker is away. It wakes the processor each time, so not too often.
HEALTHCHECK --interval=60s --timeout=10s --start-period=30s CMD ["/forebay", "health"]
ENTRYPOINT ["/forebay"]
CMD ["run", "/etc/forebay"]
