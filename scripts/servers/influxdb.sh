#!/usr/bin/env bash
# InfluxDB v2 with Flux, built from its Go module (and libflux, in Rust): there is no other way without a container
# registry or a download. Needs Go, cargo, gcc and pkg-config; takes 4 to 10 minutes on two cores, once.
# Prints the program's path. Skips what is there.
set -euo pipefail
version=v2.7.12 flux=v0.196.1
cache=${TRADINGBOT_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/tradingbot-servers}/influxdb
program=$cache/influxd-$version
[ -x "$program" ] && { echo "$program"; exit 0; }
for tool in go cargo gcc pkg-config; do
  command -v "$tool" >/dev/null || {
    echo "influxdb: $tool is not on the PATH; install it, or give the tests a server of yours with TRADINGBOT_INFLUX_URL and TRADINGBOT_INFLUX_TOKEN" >&2
    exit 1
  }
done
work=$cache/work
mkdir -p "$work/pc"
cd "$work"
export GOFLAGS='-mod=readonly -buildvcs=false' GOWORK=off CGO_ENABLED=1
folder_of() { go mod download -json "$1" | sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p'; }
flux_folder=$(folder_of "github.com/influxdata/flux@$flux")
influx_folder=$(folder_of "github.com/influxdata/influxdb/v2@$version")
echo "influxdb: building libflux …" >&2
# Started from outside of flux's folder, whose rust-toolchain.toml asks for an old compiler; a newer one warns where
# flux denies warnings, hence the cap.
RUSTFLAGS='--cap-lints warn' CARGO_TARGET_DIR=$work/target cargo rustc --quiet --release --locked -p flux --lib \
  --crate-type staticlib --manifest-path "$flux_folder/libflux/Cargo.toml" >&2
cat > "$work/pc/flux.pc" <<PC
Name: Flux
Version: ${flux#v}
Description: InfluxData Flux engine
Libs: $work/target/release/libflux.a -ldl -lm -lpthread
Cflags: -I$flux_folder/libflux/include
PC
echo "influxdb: building influxd …" >&2
# Go's build cache does not see what pkg-config says, and would link a library where an earlier build had it; it does
# see this variable.
export CGO_LDFLAGS="-O2 -g -L$work/target/release"
cd "$influx_folder" # Its go.mod has a replacement, so `go install module@version` refuses it.
PKG_CONFIG_PATH=$work/pc go build -trimpath -tags sqlite_foreign_keys,sqlite_json \
  -ldflags "-s -w -X main.version=$version -X main.commit=gomod" -o "$program.new" ./cmd/influxd
mv "$program.new" "$program"
cd "$cache"
rm -rf "$work"
echo "$program"
