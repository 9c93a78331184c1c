#!/bin/sh
# The first start makes the cluster, the user with its password, and the database, by a server that answers on its socket
# only; then the lasting one takes its place. As the official image has it, a first start that was killed is not begun
# anew: what is half made is for a person to remove.
set -eu
case "${1:-}" in -*) set -- postgres "$@" ;; esac
if [ "${1:-}" = postgres ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
  mkdir -p "$PGDATA"
  user=${POSTGRES_USER:-postgres} database=${POSTGRES_DB:-${POSTGRES_USER:-postgres}}
  # shellcheck disable=SC2086  # several options in one variable
  initdb --username="$user" --pwfile="$POSTGRES_PASSWORD_FILE" ${POSTGRES_INITDB_ARGS:-}
  echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
  pg_ctl -w start -o "-c listen_addresses="
  [ "$database" = postgres ] || createdb --username="$user" --maintenance-db=postgres "$database"
  pg_ctl -w -m fast stop
fi
# The official one has it in the configuration that initdb copies.
[ "${1:-}" != postgres ] || set -- "$@" -c 'listen_addresses=*'
exec "$@"
