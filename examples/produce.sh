#!/usr/bin/env bash
# Produces records to a topic, which is made first if it is not there.
#
#   examples/produce.sh [TOPIC [COUNT]]
set -euo pipefail
topic=${1:-orders} count=${2:-5}
hydrant=${HYDRANT_URL:-http://localhost:8082}
json='content-type: application/json'

# 409 says that the topic exists, which is as good.
made=$(curl -sS -o /dev/null -w '%{http_code}' "$hydrant/admin/topics" -H "$json" -d "{\"topic_name\": \"$topic\"}")
[[ $made == 201 || $made == 409 ]] || { echo "topic $topic was not made: $made" >&2; exit 1; }

for ((n = 1; n <= count; n++)); do
    curl -sS --fail-with-body "$hydrant/topics/$topic" -H "$json" \
        -d "{\"records\": [{\"key\": \"customer-$n\", \"value\": {\"n\": $n}}]}"
    echo
done
