#!/usr/bin/env bash
# Kubernetes: a control plane (kube-apiserver, etcd, kube-controller-manager, kube-scheduler), kubectl, and what a node runs
# of it (kubelet, kube-proxy), built from their Go modules: there is no other way without a download. Needs Go 1.26; takes
# 6 to 10 minutes on two cores and up to 4 GB of Go's build cache, once. Prints the programs' folder. Skips what is there.
set -euo pipefail
source=$(cd "$(dirname "$0")/kubernetes" && pwd)
version=$(sed -n 's/^[[:space:]]k8s\.io\/kubernetes \(v[0-9.]*\)$/\1/p' "$source/go.mod")
bin=${TRADINGBOT_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/tradingbot-servers}/kubernetes/bin
programs=(etcd kube-apiserver kube-controller-manager kube-scheduler kubectl kubelet kube-proxy)

complete() {
  for program in "${programs[@]}"; do [ -x "$bin/$program" ] || return; done
  "$bin/kubectl" version --client 2>/dev/null | grep -qx "Client Version: $version"
}

complete && { echo "$bin"; exit 0; }
remedy="install Go 1.26 or newer, or give the tests yours with TRADINGBOT_TEST_KUBECONFIG or KUBEBUILDER_ASSETS"
command -v go >/dev/null || { echo "kubernetes: go is not on the PATH; $remedy" >&2; exit 1; }
cd "$source"
found=$(go env GOVERSION) || found=
printf 'go1.26\n%s\n' "$found" | sort -VC || { echo "kubernetes: go is ${found:-too old}; $remedy" >&2; exit 1; }

echo "kubernetes: building $version …" >&2
mkdir -p "$bin"
work=$(mktemp -d "$bin/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
variables=k8s.io/component-base/version
GOWORK=off GOFLAGS=-mod=readonly CGO_ENABLED=0 go build -trimpath -buildvcs=false -o "$work/kn" -ldflags \
  "-s -w -X $variables.gitVersion=$version -X $variables.gitMajor=1 -X $variables.gitMinor=$(echo "$version" | cut -d. -f2)" .
# Links of another version's may name programs that this one does not have.
find "$bin" -maxdepth 1 -lname kn -delete
mv "$work/kn" "$bin/kn"
for program in "${programs[@]}"; do ln -s kn "$bin/$program"; done
echo "$bin"
