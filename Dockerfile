FROM docker.io/library/rust:1.95-bookworm AS build
RUN rustup target add wasm32-wasip2
WORKDIR /source
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --locked --profile dist -p bulkhead-host \
    && install -D -m 0755 target/dist/bulkhead /out/usr/local/bin/bulkhead \
    && install -d -m 0755 /out/etc/bulkhead \
    && install -d -m 0700 -o 65532 -g 65532 /out/var/lib/bulkhead

# The C library, certificates, and neither a shell nor a package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="Bulkhead" \
      org.opencontainers.image.description="Runs integration connectors as sandboxed WebAssembly components, durably" \
      org.opencontainers.image.licenses="Apache-2.0 OR MIT"
COPY --from=build /out/ /
USER 65532:65532
WORKDIR /etc/bulkhead
VOLUME /var/lib/bulkhead
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/bulkhead", "--log-format", "json", "--config", "/etc/bulkhead/bulkhead.toml"]
CMD ["run"]
