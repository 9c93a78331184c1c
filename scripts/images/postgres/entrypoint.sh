#!/bin/sh
# The first start makes the cluster, the user with its password, and the database, by a server that answers on its socket
# only; then the lasting one takes its place. A first start that was broken off begins anew.
set -eu
case "${1:-}" in -*) set -- postgres "$@" ;; esac
if [ "${1:-}" = postgres ] && [ ! -s "$PGDATA/.complete" ]; then
  mkdir -p "$PGDATA"
  find "$PGDATA" -mindepth 1 -delete
  user=${POSTGRES_USER:-postgres} database=${POSTGRES_DB:-${POSTGRES_USER:-postgres}}
  # shellcheck disable=SC2086  # several options in one variable
  initdb --username="$user" --pwfile="$POSTGRES_PASSWORD_FILE" ${POSTGRES_INITDB_ARGS:-} >/dev/null
  echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
  pg_ctl -s -w start -o "-c listen_addresses="
  [ "$database" = postgres ] || createdb --username="$user" --maintenance-db=postgres "$database"
  pg_ctl -s -w -m fast stop
  echo yes > "$PGDATA/.complete"
fi
[ "${1:-}" != postgres ] || set -- "$@" -c 'listen_addresses=*'
exec "$@"
