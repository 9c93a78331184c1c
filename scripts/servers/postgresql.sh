#!/usr/bin/env bash
# PostgreSQL of the system, for what the wheel's can not do (TLS) and for another version than its 18: what is installed,
# else Debian's package. Skips what is there. And openssl, which makes the certificates of those tests.
set -euo pipefail
. "$(dirname "$0")/debian.sh"

find_server() { ls -d /usr/lib/postgresql/*/bin/postgres 2>/dev/null || command -v postgres; }

command -v openssl >/dev/null || debian_package openssl "the tests over TLS are skipped"
find_server >/dev/null || debian_package postgresql "the tests of the ledger over TLS are skipped"
find_server
