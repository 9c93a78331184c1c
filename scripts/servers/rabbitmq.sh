#!/usr/bin/env bash
# RabbitMQ: what is installed, else Debian's package; and, as root on Debian, 4.0 of the next Debian in a root file system
# of its own in the cache (45 s, 370 MB), so that the bus is tested on both. Skips what is there.
set -euo pipefail
export PATH=$PATH:/usr/sbin
cache=${TRADINGBOT_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/tradingbot-servers}/rabbitmq-4.0
. "$(dirname "$0")/debian.sh"

command -v rabbitmq-server >/dev/null ||
  debian_package rabbitmq-server "give the tests a server of yours with TRADINGBOT_RABBITMQ_URL"
command -v rabbitmq-server

[ -x "$cache/usr/sbin/rabbitmq-server" ] && { echo "$cache"; exit 0; }
may_install || { echo "rabbitmq: 4.0 needs root on Debian; the tests use $(command -v rabbitmq-server) alone" >&2; exit 0; }
echo "rabbitmq: bringing 4.0 …" >&2
command -v debootstrap >/dev/null || {
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
}
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m1 '/debian/*$')
rm -rf "$cache.new"
mkdir -p "$cache.new"
debootstrap --variant=minbase --include=rabbitmq-server trixie "$cache.new" "$mirror" >/dev/null
mv "$cache.new" "$cache"
echo "$cache"
