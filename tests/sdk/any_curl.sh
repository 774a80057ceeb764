#!/bin/sh
# curl fetches one clip of each model that it is given; prints a JSON line for each.
# Usage: CURL_CA_BUNDLE=… any_curl.sh URL KEY MODEL …
set -eu
url=$1 key=$2
shift 2
ask() { curl --silent --show-error --fail-with-body --noproxy '*' -H "Authorization: Bearer $key" "$@"; }
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }
for model; do
    made=$(ask --json "{\"model\":\"$model\",\"prompt\":\"a kite\",\"seconds\":5}" "$url/v1/videos")
    id=$(printf %s "$made" | sed 's/^{"id":"\([^"]*\)".*/\1/')
    while :; do
        status=$(ask "$url/v1/videos/$id" | field status)
        case $status in queued | in_progress) sleep 0.1 ;; *) break ;; esac
    done
    start=
    [ "$status" != completed ] || start=$(ask "$url/v1/videos/$id/content" | head -c 8 | tail -c 4)
    printf '{"name":"%s","id":"%s","start":"%s","error":"%s"}\n' "$model" "$id" "$start" "$status"
done
