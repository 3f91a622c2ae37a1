#!/bin/sh
# Redis in its container. The password is a secret, so no command line has it:
#
#   redis.sh serve [ARGUMENT...]     starts redis-server with redis.conf, the password, and more arguments
#   redis.sh healthy                 whether it answers and takes writes
#   redis.sh cluster HOST:PORT...    makes a cluster of these servers, unless they are one already
#
#   REDIS_PASSWORD_FILE  the password                       /run/secrets/redis_password
#   RUN                  a tmpfs of this container alone    /run/redis
#   PORT                 where "healthy" asks               6379
set -eu
umask 077

file=${REDIS_PASSWORD_FILE:-/run/secrets/redis_password}
password=$(cat "$file")
case $password in
'' | *[!A-Za-z0-9._~+/=-]*)
    echo "redis.sh: REDIS_PASSWORD_FILE: expected letters, digits and ._~+/=- only in $file" >&2
    exit 1
    ;;
esac
# redis-cli reads it.
export REDISCLI_AUTH="$password"

# address HOST:PORT: the same with the host's address, because servers of a cluster know each other by those.
address() {
    host=${1%:*}
    found=$(getent hosts "$host" | cut -d' ' -f1 | head -n 1)
    [ -n "$found" ] || { echo "redis.sh: $host has no address" >&2; exit 1; }
    echo "$found:${1##*:}"
}

command=${1:-}
[ $# = 0 ] || shift
case $command in
serve)
    conf=${RUN:-/run/redis}/redis.conf
    { cat "$(dirname "$0")/redis.conf"; printf 'requirepass %s\nmasterauth %s\n' "$password" "$password"; } >"$conf"
    unset REDISCLI_AUTH
    exec redis-server "$conf" "$@"
    ;;
healthy) [ "$(redis-cli -p "${PORT:-6379}" ping)" = PONG ] ;;
cluster)
    for node in "$@"; do
        shift
        # By itself, because "set" would go on with nothing.
        found=$(address "$node")
        set -- "$@" "$found"
    done
    first=$1
    says() { redis-cli -h "${first%:*}" -p "${first##*:}" cluster info | tr -d '\r' | grep -qx "$1"; }
    tries=0
    # Servers that have met agree on a cluster a moment later.
    while ! says cluster_known_nodes:1 && ! says cluster_state:ok && [ $tries -lt 300 ]; do
        tries=$((tries + 1))
        sleep 0.1
    done
    if says cluster_state:ok; then
        echo "redis.sh: $first is in a cluster already"
    else
        redis-cli --cluster create "$@" --cluster-yes
    fi
    ;;
*)
    echo "redis.sh: expected serve, healthy or cluster, found '$command'" >&2
    exit 1
    ;;
esac
