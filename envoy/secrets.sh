#!/bin/sh
# Makes the secrets that compose.yaml mounts, in envoy/secrets/, unless they are there: the token that Envoy and the
# sidecar share, Redis's password, and Grafana's. The folder is closed to other users of this machine. The files in it
# are not, because each container reads them as a user of its own.
set -eu
cd "$(dirname "$0")"

mkdir -p -m 700 secrets
for name in auth_token redis_password grafana_password; do
    [ -s "secrets/$name" ] && continue
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"secrets/$name"
    chmod 644 "secrets/$name"
    echo "secrets.sh: made envoy/secrets/$name"
done
