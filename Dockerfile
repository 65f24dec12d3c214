# syntax=docker/dockerfile:1
#
# One image with every program of Entrenous: `entrenous` (migrations and what people use) and one for each service.
# It has no shell and no package manager, and runs as user 65532. What runs is the command that is given to it:
#
#   docker build -t entrenous .
#   docker run --rm entrenous entrenous-gateway --help

# The toolchain is named so that rust-toolchain.toml ("stable") does not fetch another one.
FROM rust:1.95.0-bookworm AS build
ENV RUSTUP_TOOLCHAIN=1.95.0 CARGO_TERM_COLOR=never
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked \
        -p entrenous -p entrenous-gateway -p entrenous-identity -p entrenous-message-store \
        -p entrenous-delivery-tracker -p entrenous-presence \
    && mkdir -p /out \
    && for program in entrenous entrenous-gateway entrenous-identity entrenous-message-store \
        entrenous-delivery-tracker entrenous-presence; do \
        install -m 0755 "target/release/$program" /out/ && strip "/out/$program" || exit 1; \
    done

# glibc, libgcc and the certificates of public authorities; Debian 12 like the image that the programs were built on.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/ /usr/local/bin/
USER 65532:65532
# The gateway's public port, and the admin port of every service.
EXPOSE 8080 9090
CMD ["entrenous", "--help"]
