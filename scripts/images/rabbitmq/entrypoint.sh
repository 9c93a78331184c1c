#!/bin/sh
# Settings come from /etc/rabbitmq/conf.d, data goes to /var/lib/rabbitmq/mnesia: the server's own defaults.
set -eu
exec "$@"
