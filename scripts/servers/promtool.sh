#!/usr/bin/env bash
# promtool, which tests the alerts: what is installed, else the one of Debian's package prometheus, alone and without its
# server. Prints the program's path. Skips what is there.
set -euo pipefail
cache=${TRADINGBOT_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/tradingbot-servers}/promtool
program=$cache/bin/promtool

command -v promtool && exit 0
"$program" --version >/dev/null 2>&1 && { echo "$program"; exit 0; }
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || {
  echo "promtool: it is not on the PATH; install Prometheus' tools, or leave the tests of the alerts to CI" >&2
  exit 1
}
echo "promtool: taking it out of Debian's package …" >&2
mkdir -p "$cache/bin"
work=$(mktemp -d "$cache/download.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
[ "$(id -u)" = 0 ] && apt-get update -qq
# The user of apt's sandbox can not write here.
apt-get download -qq -o APT::Sandbox::User=root prometheus >/dev/null
dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x --to-stdout ./usr/bin/promtool > promtool
chmod +x promtool
mv promtool "$program"
"$program" --version >/dev/null
echo "$program"
