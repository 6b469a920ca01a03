#!/bin/sh
# Installs what building, demo and tests need; where it may not, says what to install.
#
#   --libvirt   also what building with the feature `libvirt` needs
#   --agents    also Debian's resource agents and what they call, for their tests; without root
#               those are skipped
#   --browser   also a Chromium, for the test that looks at the simulator's picture with one
set -eu

libvirt=no
agents=no
browser=no
for word in "$@"; do
    case "$word" in
    --libvirt) libvirt=yes ;;
    --agents) agents=yes ;;
    --browser) browser=yes ;;
    *)
        echo "setup: unknown argument $word: --libvirt, --agents and --browser are known" >&2
        exit 2
        ;;
    esac
done

wanted=""
need() { # PROGRAM PACKAGE
    command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ] || wanted="$wanted $2"
}
need cc gcc
need bash bash
need ip iproute2
need unshare util-linux
need nsenter util-linux
need mount mount
need hostname hostname
need python3 python3
if [ "$libvirt" = yes ]; then
    need pkg-config pkg-config
    # Headers and library: the oldest release the bindings know is 6.0.0.
    pkg-config --atleast-version=6.0.0 libvirt 2>/dev/null || wanted="$wanted libvirt-dev"
fi

if [ "$agents" = yes ] && [ "$(id -u)" -eq 0 ]; then
    [ -x /usr/lib/ocf/resource.d/heartbeat/Dummy ] || wanted="$wanted resource-agents"
    # What IPaddr2 and Filesystem call.
    need gawk gawk
    need modprobe kmod
    need fuser psmisc
fi

if [ "$browser" = yes ]; then
    command -v google-chrome >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 ||
        need chromium chromium
fi

if ! command -v cargo >/dev/null 2>&1; then
    echo "setup: no cargo: install Rust 1.90 or newer from https://rustup.rs" >&2
    exit 2
fi
if [ -z "$wanted" ]; then
    exit 0
fi

packages=$(printf '%s\n' $wanted | sort -u | tr '\n' ' ')
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "setup: installing $packages"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086 # a list of words
    apt-get install -qq -y --no-install-recommends $packages >/dev/null
else
    echo "setup: missing: $packages" >&2
    echo "setup: as root on Debian: apt-get install $packages" >&2
    exit 2
fi
