# What people type. Everything behind it is in scripts/ and in cargo.

.PHONY: help setup demo lab test soak bench fuzz

help:
	@echo "make setup   install what the other targets need (Debian, as root), or say what is missing"
	@echo "make demo    four hosts and a witness on this machine; no root, no hypervisor"
	@echo "make test    everything that must hold"
	@echo "make lab     the same with libvirt, QEMU and IPMI (root, Debian 12; CASE=name for one, NUMBERS=1)"
	@echo "make soak    real daemons under faults for as long as you say (SECONDS=600 SEED=1 GUESTS=8 [LIBVIRT=1])"
	@echo "make bench   how fast the harness is, what an entry costs, how soon a host is empty (root)"
	@echo "make fuzz    the decoders under a fuzzer (comes with a later part)"

setup:
	@scripts/setup.sh

# One optimised build with assertions serves demo, hunts and heavy tests.
demo: setup
	@cargo build --quiet --profile hunt --bin quorate
	@target/hunt/quorate demo

# Without libvirt-dev, and where it may not be installed, what needs it is skipped and said so.
test: setup
	@scripts/setup.sh --libvirt || echo "make test: goes on without libvirt"
	@scripts/test.sh

# CASE=name plays one case, NUMBERS=1 those that measure how guests' failures are noticed, JSON=1
# prints the table as JSON. It installs what it needs; scripts/lab/install.sh and
# scripts/lab/guest.sh say what.
lab:
	@scripts/lab.sh $(if $(NUMBERS),numbers) $(CASE) $(if $(JSON),--json)

# SECONDS=7200 SEED=1 GUESTS=8: how long at least, which faults, how many guests. LIBVIRT=1 plays it
# with libvirt and QEMU on the hosts of the lab.
soak: setup
	@export QUORATE_SOAK_SECONDS=$(or $(SECONDS),600) QUORATE_SOAK_SEED=$(or $(SEED),1) \
	QUORATE_SOAK_GUESTS=$(or $(GUESTS),8); \
	$(if $(LIBVIRT),scripts/lab.sh soak,cargo test --quiet --profile hunt --test soak -- --nocapture)

bench: setup
	@cargo build --quiet --profile hunt --package quorate-simulator
	@target/hunt/quorate-sim bench
	@cargo bench --quiet --profile hunt --package quorate --bench apply
	@cargo bench --quiet --profile hunt --package quorate --bench lease_end

fuzz:
	@echo "make $@ comes with a later part of the project; there is nothing to run yet." >&2
	@exit 2
