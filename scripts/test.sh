#!/bin/sh
# Everything that must hold. Stops at the first failure; prints at the end what was skipped and why.
#
#   HUNT_SEEDS=N|A..B   seeds of the hunt (5000)
set -eu
cd "$(dirname "$0")/.."

export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-never}"
seeds="${HUNT_SEEDS:-5000}"

# How long each step took, in the order they ended.
QUORATE_STEPS=$(mktemp)
export QUORATE_STEPS

# A test that cannot run here appends `name: reason` to this file.
if [ -z "${QUORATE_SKIPPED:-}" ]; then
    QUORATE_SKIPPED=$(mktemp)
    trap 'rm -f "$QUORATE_SKIPPED" "$QUORATE_STEPS"' EXIT
else
    trap 'rm -f "$QUORATE_STEPS"' EXIT
fi
export QUORATE_SKIPPED
: >"$QUORATE_SKIPPED"

. scripts/step.sh
skip() { printf '%s\n' "$*" >>"$QUORATE_SKIPPED"; }

step "format"
cargo fmt --all --check

step "lints"
cargo clippy --workspace --all-targets --quiet -- -D warnings

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet

step "dependencies"
# Advisories need the network; they are looked at where it is there.
# It reads the crates of every target, also of those that are not built here.
if deny=$(scripts/deny.sh) && cargo fetch --locked --quiet; then
    "$deny" --offline check bans licenses sources
else
    skip "cargo deny: cargo-deny or the crates of other targets could not be fetched"
    echo "skipped: cargo-deny or the crates of other targets could not be fetched"
fi

# One optimised build, with assertions and overflow checks, for demo, daemons, scenarios and hunts.
step "build of the hunt profile"
cargo build --workspace --profile hunt --quiet

# Scenarios, the atlas of four voters, a hunt, and one seed, one hash. It counts its own steps.
step_end
scripts/simulator.sh "$seeds"

# Debian's own agents, where they may be installed; their tests are skipped elsewhere.
scripts/setup.sh --agents || echo "goes on without resource agents"

# A browser to look at the simulator's picture with; without one that test is skipped.
scripts/setup.sh --browser || echo "goes on without a browser"

# Last, so that its closing lines are the last but the skipped ones.
step "tests"
if command -v cargo-nextest >/dev/null 2>&1; then
    cargo nextest run --workspace --cargo-profile hunt --no-fail-fast
    cargo test --workspace --profile hunt --doc --quiet
else
    cargo test --workspace --profile hunt --no-fail-fast
fi

# The lab's QEMU and guest serve the tests of the driver too.
step "lab: what it needs"
lab_rc=0
lab_why=$(scripts/lab.sh --prepare 2>&1) || lab_rc=$?
case $lab_rc in
0) echo "there" ;;
2)
    lab_why=$(printf '%s\n' "$lab_why" | tail -n 1)
    echo "skipped: $lab_why"
    ;;
*)
    printf '%s\n' "$lab_why" >&2
    exit 1
    ;;
esac

# The build with domains: what differs in it, and the driver on libvirt's mock hypervisor. With root,
# libvirtd and QEMU also on real domains; QUORATE_QEMU names an emulator elsewhere, as the lab's.
step "libvirt"
if pkg-config --atleast-version=6.0.0 libvirt 2>/dev/null; then
    lab="${QUORATE_LAB_DIR:-$PWD/target/lab}"
    qemu="$lab/bin/qemu-system-x86_64"
    if [ -z "${QUORATE_QEMU:-}" ] && [ ! -x /usr/bin/qemu-system-x86_64 ] && [ -x "$qemu" ]; then
        export QUORATE_QEMU="$qemu"
    fi
    if [ -z "${QUORATE_GUEST:-}" ] && [ -d "$lab/guest" ]; then
        export QUORATE_GUEST="$lab/guest"
    fi
    cargo clippy --package quorate --features libvirt --all-targets --quiet -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --package quorate --features libvirt --no-deps --quiet
    libvirt="--package quorate --features libvirt --lib --test libvirt_qemu --test guest_add
        --test daemon_domains"
    # shellcheck disable=SC2086 # a list of words
    if command -v cargo-nextest >/dev/null 2>&1; then
        cargo nextest run $libvirt --cargo-profile hunt --no-fail-fast
    else
        cargo test $libvirt --profile hunt --no-fail-fast
    fi
else
    skip "libvirt: libvirt-dev is not installed (scripts/setup.sh --libvirt)"
    echo "skipped: libvirt-dev is not installed"
fi

# Real libvirt, QEMU and IPMI, where that can be had: root on Debian 12.
step "lab"
if [ "$lab_rc" -eq 0 ]; then
    scripts/lab.sh cases killed panic
else
    skip "lab: $lab_why"
    echo "skipped: $lab_why"
fi

# Planted bugs need a simulator of another kind, built apart; the daemon cannot carry them.
step "planted bugs"
cargo test --package quorate-simulator --profile hunt --features mutants --target-dir target/mutants --test planted_bugs

step_end
printf '\n== seconds\n'
cat "$QUORATE_STEPS"

printf '\n== skipped\n'
if [ -s "$QUORATE_SKIPPED" ]; then
    sort -u "$QUORATE_SKIPPED"
else
    echo "nothing"
fi
