#!/bin/sh
# The lab: real daemons, libvirt, QEMU guests and IPMI controllers on hosts made of namespaces.
#
#   lab.sh [cases]      the cases of a fail-over, then a table of seconds per step
#   lab.sh CASE…        these only; a name that is none lists them
#   lab.sh numbers      how fast a guest's failures are noticed, and what is not taken for one
#   lab.sh … --json     the table as JSON
#   lab.sh --prepare    installs and builds what it needs, and says whether it can run here
#
# Needs root, Debian 12 on amd64, and the network for the first time: about 120 MB are fetched into
# QUORATE_LAB_DIR (target/lab). Exit code 0 if every case went well and no two copies of a guest
# ever wrote to a disk at once; 1 if not; 2 if it cannot run here.
set -eu
cd "$(dirname "$0")/.."

scripts/lab/install.sh || exit 2
scripts/lab/guest.sh || exit 2
cargo build --quiet --profile hunt --features libvirt --bin quorate
program=$(cargo test --quiet --profile hunt --features libvirt --test lab --no-run --message-format json |
    sed -n 's/.*"executable":"\([^"]*\/lab-[^"]*\)".*/\1/p' | tail -n 1)
[ "${1:-}" != --prepare ] || exec "$program" --check
# In place of this shell, so that Ctrl-C reaches it and it alone says how it ended.
exec "$program" "$@"
