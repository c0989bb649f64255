#!/bin/sh
# The pull as a shell script: curl, jq, psql. No proof of completeness, no retry, no job, no watermark.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
token=$(curl -sSf "$DATAPASS_AUTH_URL" -d grant_type=client_credentials \
    -d "client_id=$DATAPASS_CLIENT_ID" -d "client_secret=$DATAPASS_CLIENT_SECRET" | jq -r .access_token)
offset=0
: >"$dir/rows"
while :; do
    curl -sSfg -H "Authorization: Bearer $token" -o "$dir/page" \
        "$DATAPASS_API_BASE_URL/demandes?state[]=validated&limit=1000&offset=$offset"
    count=$(jq length "$dir/page")
    [ "$count" != 0 ] || break
    offset=$((offset + count))
    jq -r --arg definition "$DATAPASS_DEFINITION_ID" '.[] | select(.definition_id == $definition) |
        [.public_id, .id, .organisation.siret, .data.echelon_bourse, .last_validated_at] | @csv' \
        "$dir/page" >>"$dir/rows"
done
psql -Xqv ON_ERROR_STOP=1 "$DATABASE_URL" <<SQL
begin;
create temp table listed (like pulled) on commit drop;
\copy listed from '$dir/rows' csv
insert into pulled select * from listed order by last_validated_at on conflict do nothing;
commit;
SQL
