#!/usr/bin/env bash
# PostgreSQL of the system, for what the wheel's can not do (TLS) and for another version than its 18: what is installed,
# else Debian's package. Skips what is there.
set -euo pipefail

find_server() { ls -d /usr/lib/postgresql/*/bin/postgres 2>/dev/null || command -v postgres; }

if ! find_server >/dev/null; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "postgresql: postgres is not on the PATH; install it, or the tests of the ledger over TLS are skipped" >&2
    exit 1
  fi
  echo "postgresql: installing Debian's package …" >&2
  # The tests start servers of their own: the package must not start one.
  forbidden=/usr/sbin/policy-rc.d
  if [ ! -e $forbidden ]; then
    printf '#!/bin/sh\nexit 101\n' > $forbidden
    chmod +x $forbidden
    trap 'rm -f $forbidden' EXIT
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null
fi
find_server
