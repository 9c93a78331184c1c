#!/usr/bin/env bash
# PgBouncer: what is installed, else Debian's package (1.18: no prepared statements across transactions, the hard case).
# Skips what is there.
set -euo pipefail
export PATH=$PATH:/usr/sbin

if ! command -v pgbouncer >/dev/null; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "pgbouncer: it is not on the PATH; install it, or the tests of the ledger behind a pooler are skipped" >&2
    exit 1
  fi
  echo "pgbouncer: installing Debian's package …" >&2
  # The tests start servers of their own: the package must not start one.
  forbidden=/usr/sbin/policy-rc.d
  if [ ! -e $forbidden ]; then
    printf '#!/bin/sh\nexit 101\n' > $forbidden
    chmod +x $forbidden
    trap 'rm -f $forbidden' EXIT
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends pgbouncer >/dev/null
fi
command -v pgbouncer
