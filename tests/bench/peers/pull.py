"""The pull as a short Python script: requests and psycopg. No proof of completeness, no retry, no job."""

import os

import psycopg
import requests

env = os.environ
session = requests.Session()
token = session.post(
    env["DATAPASS_AUTH_URL"],
    data={
        "grant_type": "client_credentials",
        "client_id": env["DATAPASS_CLIENT_ID"],
        "client_secret": env["DATAPASS_CLIENT_SECRET"],
    },
).json()["access_token"]
session.headers["Authorization"] = f"Bearer {token}"
rows, offset = [], 0
while True:
    response = session.get(
        env["DATAPASS_API_BASE_URL"] + "/demandes",
        params={"state[]": "validated", "limit": 1000, "offset": offset},
    )
    response.raise_for_status()
    page = response.json()
    if not page:
        break
    offset += len(page)
    rows += [
        (it["public_id"], it["id"], it["organisation"]["siret"], it["data"]["echelon_bourse"], it["last_validated_at"])
        for it in page
        if it["definition_id"] == env["DATAPASS_DEFINITION_ID"]
    ]
with psycopg.connect(env["DATABASE_URL"]) as connection, connection.cursor() as cursor:
    cursor.executemany("insert into pulled values (%s, %s, %s, %s, %s) on conflict do nothing", rows)
