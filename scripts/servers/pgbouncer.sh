#!/usr/bin/env bash
# PgBouncer: what is installed, else Debian's package (1.18: no prepared statements across transactions, the hard case).
# Skips what is there.
set -euo pipefail
export PATH=$PATH:/usr/sbin
. "$(dirname "$0")/debian.sh"

command -v pgbouncer >/dev/null || debian_package pgbouncer "the tests of the ledger behind a pooler are skipped"
command -v pgbouncer
