#!/bin/sh
# Prints envoy.yaml with the addresses and the store that the environment sets. The container image, the demo and the
# tests use it, so that there is one Envoy configuration. An unset variable leaves the value in envoy.yaml.
#
#   LISTEN        host:port for clients                     127.0.0.1:10000
#   ADMIN         host:port of Envoy's admin interface      127.0.0.1:9901
#   LLM_UPSTREAM  http://host[:port] or https://host[:port] http://127.0.0.1:8000
#   SIDECAR       host:port of `llm-rate-limit sidecar`     127.0.0.1:8081
#   FILTER        path of llm_rate_limit.wasm               target/wasm32-wasip1/release/llm_rate_limit.wasm
#   STORE         local or redis                            local
#   AUTH_TOKEN    the sidecar's, with the store redis       none
#   DISCOVERY     path of a file like reload/filter.yaml, which Envoy watches: it has the filter, its module and its
#                 store in place of envoy.yaml              none
#
# A host is a name or an IPv4 address. The limits have no variables: edit them in envoy.yaml, or in that file.
set -eu

fail() { echo "configure.sh: $*" >&2; exit 1; }

config=$(cat "$(dirname "$0")/envoy.yaml")

# replace OLD NEW: replaces OLD where it first stands after the comments at the top of the file. A file without OLD is
# an error, because this script must not ignore a setting silently.
replace() {
    case $body in *"$1"*) ;; *) fail "envoy.yaml has no '$1' to replace" ;; esac
    body="${body%%"$1"*}$2${body#*"$1"}"
}

# endpoint NAME VALUE PORT: puts VALUE, a host:port, in place of 127.0.0.1:PORT.
endpoint() {
    host=${2%:*} port=${2##*:}
    case $2 in *:*) ;; *) fail "$1: expected host:port, found '$2'" ;; esac
    case $host in '' | *[!A-Za-z0-9._-]*) fail "$1: expected a host name or IPv4 address, found '$host'" ;; esac
    case $port in '' | *[!0-9]*) fail "$1: expected a port number, found '$port'" ;; esac
    replace "{address: 127.0.0.1, port_value: $3}" "{address: $host, port_value: $port}"
}

head=${config%%admin:*}
body=${config#"$head"}

[ -z "${LISTEN:-}" ] || endpoint LISTEN "$LISTEN" 10000
[ -z "${ADMIN:-}" ] || endpoint ADMIN "$ADMIN" 9901
[ -z "${SIDECAR:-}" ] || endpoint SIDECAR "$SIDECAR" 8081

if [ -n "${LLM_UPSTREAM:-}" ]; then
    place=${LLM_UPSTREAM#*://} place=${place%/}
    case $LLM_UPSTREAM in
    http://*) default=80 ;;
    https://*)
        default=443
        body=$(printf '%s\n' "$body" | sed 's/^\( *\)#https /\1/')
        ;;
    *) fail "LLM_UPSTREAM: expected http://host or https://host, found '$LLM_UPSTREAM'" ;;
    esac
    case $place in
    */*) fail "LLM_UPSTREAM: expected no path, found '$LLM_UPSTREAM' (clients send the path)" ;;
    *:*) ;;
    *) place=$place:$default ;;
    esac
    endpoint LLM_UPSTREAM "$place" 8000
fi

case ${STORE:-local} in
local) ;;
redis)
    token=${AUTH_TOKEN:-}
    # These need no quoting in JSON.
    case $token in *[!A-Za-z0-9._~+/=-]*) fail "AUTH_TOKEN: expected letters, digits and ._~+/=- only" ;; esac
    replace '{"type": "local"}' \
        "{\"type\": \"redis\", \"cluster\": \"rate-limit-sidecar\"${token:+, \"auth_token\": \"$token\"}}"
    ;;
*) fail "STORE: expected local or redis, found '$STORE'" ;;
esac

if [ -n "${DISCOVERY:-}" ]; then
    [ -z "${STORE:-}${FILTER:-}" ] || fail "DISCOVERY: expected neither STORE nor FILTER, which $DISCOVERY has"
    filter='          - name: llm-rate-limit' after='          - name: envoy.filters.http.router'
    case $body in *"$filter"*"$after"*) ;; *) fail "envoy.yaml has no filter to replace" ;; esac
    body="${body%%"$filter"*}$filter
            config_discovery:
              config_source:
                # Wait for the file: without it, Envoy would limit nothing.
                initial_fetch_timeout: 0s
                path_config_source:
                  path: \"$DISCOVERY\"
                  watched_directory: {path: \"$(dirname "$DISCOVERY")\"}
              type_urls: [type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm]
$after${body#*"$after"}"
fi

[ -z "${FILTER:-}" ] || replace "{filename: target/wasm32-wasip1/release/llm_rate_limit.wasm}" "{filename: \"$FILTER\"}"

printf '%s%s\n' "$head" "$body"
