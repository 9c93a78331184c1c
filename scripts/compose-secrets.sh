#!/bin/sh
# Makes ./secrets for compose.yaml: generated passwords, and the addresses that hold them. What is there stays, for
# RabbitMQ, InfluxDB and PostgreSQL take their first password and ignore any later one.
set -eu

folder="${1:-secrets}"
umask 077
mkdir -p "$folder"

word() { # file: a password of 32 characters that need no escape anywhere
    [ -s "$folder/$1" ] || LC_ALL=C tr -dc 'A-Za-z0-9' < /dev/urandom | head -c 32 > "$folder/$1"
}
line() { # file, text
    [ -s "$folder/$1" ] || printf '%s\n' "$2" > "$folder/$1"
}

word rabbitmq-password
word influxdb-password
word time-series-token
word database-password
line rabbitmq.conf "default_user = tradingbot
default_pass = $(cat "$folder/rabbitmq-password")"
line messaging-url "amqp://tradingbot:$(cat "$folder/rabbitmq-password")@rabbitmq:5672/"
line database-url "postgresql://tradingbot:$(cat "$folder/database-password")@postgres:5432/tradingbot"
# Containers run as a user of their own, and compose mounts a file as it is: the folder keeps others out.
chmod 700 "$folder"
chmod 644 "$folder"/*

for name in exchange-api-key exchange-secret; do
    [ -s "$folder/$name" ] || echo "write the exchange's key into $folder/$name (chmod 644), then: docker compose up --detach"
done
