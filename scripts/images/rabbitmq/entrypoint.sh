#!/bin/sh
# Settings come from /etc/rabbitmq/conf.d, data goes to /var/lib/rabbitmq/mnesia: the server's own defaults. With the
# variable the script starts Erlang in its own place, so that it gets the signal to end.
set -eu
export RUNNING_UNDER_SYSTEMD=true
exec "$@"
