#!/bin/sh
# Redis in its container. The password is a secret, so no command line has it:
#
#   redis.sh serve [ARGUMENT...]     starts redis-server with redis.conf, the password, and more arguments
#   redis.sh healthy                 whether it answers and takes writes
#   redis.sh cluster HOST:PORT...    makes a cluster of these servers; if they are one already, introduces them to each
#                                    other again, since the engine may give other addresses at each start
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
    # ask HOST:PORT WORD...: the reply of that server to "cluster WORD...".
    ask() {
        server=$1
        shift
        redis-cli -h "${server%:*}" -p "${server##*:}" cluster "$@" | tr -d '\r'
    }
    if ask "$first" info | grep -qx cluster_known_nodes:1; then
        redis-cli --cluster create "$@" --cluster-yes
        exit
    fi
    # Whether all servers have all slots, and each knows every other where it is now.
    agree() {
        for node in "$@"; do
            ask "$node" info | grep -qx cluster_state:ok || return 1
            for other in "$@"; do
                [ "$node" = "$other" ] || ask "$node" nodes | grep -F " $other@" | grep -qv fail || return 1
            done
        done
    }
    tries=0
    until agree "$@"; do
        # A server that hears from one that it knows by another address remembers the new one.
        for node in "$@"; do
            for other in "$@"; do
                [ "$node" = "$other" ] || ask "$node" meet "${other%:*}" "${other##*:}" >/dev/null
            done
        done
        tries=$((tries + 1))
        [ $tries -lt 60 ] || { echo "redis.sh: $* are in clusters already, and do not agree on one" >&2; exit 1; }
        sleep 0.5
    done
    echo "redis.sh: $first is in a cluster already"
    ;;
*)
    echo "redis.sh: expected serve, healthy or cluster, found '$command'" >&2
    exit 1
    ;;
esac
