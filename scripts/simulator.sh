#!/bin/sh
# What the harness checks of the cluster and of itself. Stops at the first failure.
#
#   simulator.sh [SEEDS]   seeds of the hunt, N or A..B (5000)
#
# Expects the build of the hunt profile (target/hunt/quorate-sim).
set -eu
cd "$(dirname "$0")/.."

seeds="${1:-5000}"
sim=target/hunt/quorate-sim
. scripts/step.sh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

step "scenarios, twice with one result"
"$sim" corpus simulator/scenarios --json >"$work/first" || {
    "$sim" corpus simulator/scenarios
    exit 1
}
# Another process, another environment: nothing of either may show.
env -i HOME=/ LANG=C "$sim" corpus simulator/scenarios --json >"$work/second"
cmp "$work/first" "$work/second"
"$sim" corpus simulator/scenarios | tail -n 1

step "atlas of four voters"
"$sim" atlas 4

step "hunt, seeds $seeds"
"$sim" hunt --seeds "$seeds"

step "200 seeds of each mix of faults"
mixes=$("$sim" bugs | sed -n 's/^--mix \([a-z-]*\) .*/\1/p')
[ "$mixes" ] || { echo "simulator.sh: quorate-sim bugs lists no mix" >&2; exit 1; }
for mix in $mixes; do
    # Two thousand guests take a while.
    if [ "$mix" = sizes ]; then n=20; else n=200; fi
    "$sim" hunt --mix "$mix" --seeds "$n" >"$work/mix" || { cat "$work/mix"; exit 1; }
    printf '%s: %s\n' "$mix" "$(head -n 1 "$work/mix")"
done

step "one seed, one hash: two processes, two builds"
cargo build --quiet --package quorate-simulator --bin quorate-sim
"$sim" hashes --seeds 20 >"$work/first"
env -i HOME=/ LANG=C "$sim" hashes --seeds 20 >"$work/second"
cmp "$work/first" "$work/second"
target/debug/quorate-sim hashes --seeds 20 >"$work/second"
cmp "$work/first" "$work/second"
echo "20 seeds agree"
step_end
