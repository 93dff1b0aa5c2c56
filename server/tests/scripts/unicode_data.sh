#!/usr/bin/env bash
# Puts the records of UnicodeData.txt into a running cluster with redis-cli, one key per code point.
#
#   unicode_data.sh load  FILE HOST:PORT...   through the first node that answers; what was not
#                                             acknowledged is sent again through the next one
#   unicode_data.sh check FILE HOST:PORT...   that every node has every record and nothing else
#
# The key is `U+` and the code point, the value is the whole record. FILE is Debian's
# /usr/share/unicode/UnicodeData.txt (package unicode-data).

set -euo pipefail
export LC_ALL=C

[[ $# -ge 3 ]] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
action=$1 file=$2
shift 2
nodes=("$@")

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

cli() { local node=$1; shift; redis-cli -h "${node%:*}" -p "${node##*:}" "$@"; }

# The records of stdin as commands of the Redis protocol.
commands() {
    awk -F';' '{
        key = "U+" $1
        printf "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", length(key), key, length($0), $0
    }'
}

# Every record that node $1 has, one line per record of the file, an empty one where there is none.
stored() {
    awk -F';' '{ printf "%sU+%s", (NR % 500 == 1 ? (NR > 1 ? "\n" : "") "MGET " : " "), $1 }
               END { print "" }' "$file" | cli "$1" --raw
}

# The records that node $1 does not have.
missing() { paste -d '\n' "$file" <(stored "$1") | awk 'NR % 2 { record = $0; next } $0 != record { print record }'; }

load() {
    local pass=0 left node
    cp "$file" "$scratch/left"
    while :; do
        node=${nodes[pass % ${#nodes[@]}]}
        pass=$((pass + 1))
        left=$(wc -l <"$scratch/left")
        echo "pass $pass: $left records through $node"
        if commands <"$scratch/left" | timeout 120 redis-cli -h "${node%:*}" -p "${node##*:}" --pipe \
            >"$scratch/pipe" 2>&1; then
            tail -n 1 "$scratch/pipe"
            break
        fi
        # The connection broke, or some commands were refused. What is there was acknowledged or is
        # as good: the same record again changes nothing.
        tail -n 2 "$scratch/pipe"
        ((pass < 20)) || { echo "given up" >&2; exit 1; }
        node=${nodes[pass % ${#nodes[@]}]}
        missing "$node" >"$scratch/next" || continue
        mv "$scratch/next" "$scratch/left"
    done
    echo "loaded in $pass passes"
}

check() {
    local records wrong=0 node
    records=$(wc -l <"$file")
    for node in "${nodes[@]}"; do
        local size digest
        size=$(cli "$node" DBSIZE)
        if ! stored "$node" >"$scratch/stored" || ! cmp -s "$file" "$scratch/stored"; then
            echo "$node: differs:"
            diff "$file" "$scratch/stored" | head -n 5
            wrong=1
        elif [[ $size != "$records" ]]; then
            echo "$node: $size keys instead of $records"
            wrong=1
        else
            digest=$(sha256sum <"$scratch/stored")
            echo "$node: $size records, sha256 ${digest%% *}"
        fi
    done
    return $wrong
}

case $action in
    load) load ;;
    check) check ;;
    *) echo "unknown action: $action" >&2; exit 2 ;;
esac
