#!/usr/bin/env bash
# What a whole Kubernetes node needs beside the programs of kubernetes.sh: containerd, runc, CNI plugins and what builds
# images (Debian's packages, of which none is started), CoreDNS, local-path-provisioner and pause (built from their Go
# modules, 1 to 2 min, once). As root on Debian. Skips what is there.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/debian.sh"
cache=${TRADINGBOT_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/tradingbot-servers}/kubernetes
bin=$(bash "$here/kubernetes.sh")
may_install || { echo "node: needs root on Debian; elsewhere give the tests a cluster with TRADINGBOT_E2E_KUBECONFIG" >&2; exit 1; }

packages=(buildah busybox-static conntrack containernetworking-plugins debootstrap iproute2 iptables nftables openssl runc socat)
missing=()
for package in "${packages[@]}"; do dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package"); done
if [ ${#missing[@]} -gt 0 ]; then
  echo "node: installing ${missing[*]} …" >&2
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
# Only unpacked: its package would start it, beside one that may be there.
if [ ! -x "$cache/containerd/usr/bin/containerd" ]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  (cd "$work" && apt-get update -qq && apt-get download -qq containerd && dpkg -x containerd_*.deb unpacked)
  rm -rf "$cache/containerd"
  mv "$work/unpacked" "$cache/containerd"
fi

if [ ! -x "$bin/coredns" ] || [ ! -x "$bin/local-path-provisioner" ] || [ ! -x "$bin/pause" ]; then
  echo "node: building CoreDNS and local-path-provisioner …" >&2
  export GOWORK=off GOFLAGS=-mod=readonly CGO_ENABLED=0
  cd "$here/kubernetes"
  go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$bin/" ./coredns ./pause
  # By itself: with the others in one command Go refuses it, for it spells the path of a module in capitals.
  go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$bin/" github.com/rancher/local-path-provisioner
fi
echo "$bin"
