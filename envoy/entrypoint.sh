#!/bin/sh
# Starts Envoy in its container. The filter reads no files, so this writes its configuration, with the limits and the
# sidecar's token, into a file that Envoy watches, and writes it again whenever the limits change. Limits with a mistake
# keep the container from starting, and later change nothing but the log.
#
#   LIMITS           the limits, in JSON or YAML; ${AUTH_TOKEN} in them becomes the token
#                                                           /etc/llm-rate-limit/limits/limits.yaml
#   AUTH_TOKEN_FILE  the sidecar's token                    /run/secrets/auth_token
#   RUN              a tmpfs of this container alone        /run/llm-rate-limit
#   FILTER           the module                             llm_rate_limit.wasm beside this script
#
# LISTEN, ADMIN, LLM_UPSTREAM and SIDECAR are configure.sh's. Arguments are Envoy's.
set -eu
umask 077

here=$(dirname "$0")
limits=${LIMITS:-/etc/llm-rate-limit/limits/limits.yaml}
run=${RUN:-/run/llm-rate-limit}
FILTER=${FILTER:-$here/llm_rate_limit.wasm}

say() { echo "entrypoint: $*" >&2; }
fail() { say "$@"; exit 1; }

token_file=${AUTH_TOKEN_FILE:-/run/secrets/auth_token}
token=$(cat "$token_file")
case $token in
'' | *[!A-Za-z0-9._~+/=-]*) fail "AUTH_TOKEN_FILE: expected letters, digits and ._~+/=- only in $token_file" ;;
esac

# The limits as they were when they were last read.
seen=

# write: writes the filter's configuration. Envoy reads it when another file takes its name.
write() {
    sed "s|\${AUTH_TOKEN}|$token|g" "$limits" >"$run/limits.yaml" || return
    if ! problems=$(llm-rate-limit check "$run/limits.yaml"); then
        say "$limits is refused:"
        printf '%s\n' "$problems" >&2
        return 1
    fi
    {
        sed -e '/^ *value: |$/,$d' -e "s|target/wasm32-wasip1/release/llm_rate_limit.wasm|$FILTER|" \
            "$here/reload/filter.yaml"
        # The text is indented by two columns more than its name, however its first line is.
        echo '        value: |2'
        sed 's/^/          /' "$run/limits.yaml"
    } >"$run/filter.new"
    mv "$run/filter.new" "$run/filter.yaml"
}

# read_again: whether the limits have changed. While an editor replaces them, there are none.
read_again() {
    now=$(cksum <"$limits") 2>/dev/null || return 1
    [ "$now" != "$seen" ] || return 1
    seen=$now
}

watch() {
    while sleep 0.5; do
        if read_again; then
            if write; then say "the limits have changed"; else say "the limits stay as they were"; fi
        fi
    done
}

[ -r "$limits" ] || fail "LIMITS: cannot read $limits"
read_again || true
write || exit 1
DISCOVERY="$run/filter.yaml" FILTER='' STORE='' sh "$here/configure.sh" >"$run/envoy.yaml"
watch &
exec envoy -c "$run/envoy.yaml" "$@"
