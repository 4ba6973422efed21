#!/bin/sh
# Entry point of the stand-in for the Postgres image, as far as docker/compose.yaml relies on that one's: it starts as
# root, gives the data to the user postgres and becomes that user, and makes POSTGRES_USER and POSTGRES_DB once.
set -eu
PATH=$PATH:$(echo /usr/lib/postgresql/*/bin)
export PATH
data=/var/lib/postgresql/data
if [ "$(id -u)" = 0 ]; then
  mkdir -p "$data" /run/postgresql
  chown postgres:postgres "$data" /run/postgresql
  chmod 0700 "$data"
  exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi
if [ ! -s "$data/PG_VERSION" ]; then
  password=$(mktemp)
  printf '%s\n' "$POSTGRES_PASSWORD" > "$password"
  initdb -D "$data" -U "$POSTGRES_USER" --pwfile="$password" --auth-local=trust --auth-host=scram-sha-256 > /dev/null
  rm "$password"
  echo "host all all all scram-sha-256" >> "$data/pg_hba.conf"
  pg_ctl -D "$data" -o "-c listen_addresses=" -w start > /dev/null
  [ "$POSTGRES_DB" = postgres ] || createdb -U "$POSTGRES_USER" "$POSTGRES_DB"
  pg_ctl -D "$data" -m fast -w stop > /dev/null
fi
exec postgres -D "$data" -c listen_addresses='*'
