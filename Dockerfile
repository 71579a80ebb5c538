# The image of Palisade: `docker build -t palisade .` What is in it and how to use it: docs/containers.md.
#
# BUILD_BASE has the Rust of rust-toolchain.toml, a C compiler, install and strip. RUNTIME_BASE has the C library of the
# same release, and needs nothing else. containers/bases makes both from Debian's packages.
ARG BUILD_BASE=rust:1.95-slim-bookworm
ARG RUNTIME_BASE=debian:bookworm-slim

FROM ${BUILD_BASE} AS build
# Builders that keep this stage's image are told by it which to remove.
LABEL palisade.stage=build
WORKDIR /src
COPY . .
# One layer, without what only the build needs: a builder that keeps layers would keep gigabytes.
RUN CARGO_INCREMENTAL=0 cargo build --release --locked --package palisade-cli --bin palisade \
    && install -D target/release/palisade /out/palisade \
    && strip --strip-debug /out/palisade \
    && install -d -m 0700 /out/lib/palisade /out/lib/palisade/state /out/lib/palisade/credentials \
        /out/lib/palisade/control-plane /out/lib/palisade/control-plane/operator \
    && rm -rf target "${CARGO_HOME:-$HOME/.cargo}/registry"

FROM ${RUNTIME_BASE}
# For key servers and upstreams that certificates of public CAs vouch for.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# Folders for volumes, 0700: a new volume that is mounted at one of them gets its owner and mode.
COPY --from=build --chown=65532:65532 /out/lib/ /var/lib/
COPY --from=build /out/palisade /usr/local/bin/palisade
# Nobody's id on most systems; a number, so that orchestrators can check that it is not root's.
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/palisade"]
CMD ["--help"]
