#!/bin/sh
# Prints where cargo-deny is; builds it into target/tools first if it is not installed. That takes
# some minutes, once: without optimisation, for it runs for a second only.
set -eu
cd "$(dirname "$0")/.."

version=0.20.2
own=target/tools/bin/cargo-deny

if command -v cargo-deny; then
    exit 0
fi
if [ ! -x "$own" ]; then
    cargo install --quiet --locked --debug --root target/tools --version "$version" cargo-deny >&2
fi
echo "$own"
