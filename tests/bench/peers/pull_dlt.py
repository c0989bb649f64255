"""The pull as a dlt pipeline: its REST client with offset pagination, merged into PostgreSQL by key."""

import os

import dlt
from dlt.sources.helpers.rest_client import RESTClient
from dlt.sources.helpers.rest_client.auth import OAuth2ClientCredentials
from dlt.sources.helpers.rest_client.paginators import OffsetPaginator

env = os.environ


@dlt.resource(name="pulled_by_dlt", primary_key="public_id", write_disposition="merge")
def demandes():
    client = RESTClient(
        base_url=env["DATAPASS_API_BASE_URL"],
        auth=OAuth2ClientCredentials(
            access_token_url=env["DATAPASS_AUTH_URL"],
            client_id=env["DATAPASS_CLIENT_ID"],
            client_secret=env["DATAPASS_CLIENT_SECRET"],
        ),
        paginator=OffsetPaginator(limit=1000, total_path=None),
    )
    for page in client.paginate("/demandes", params={"state[]": "validated"}):
        yield [
            {
                "public_id": it["public_id"],
                "id": it["id"],
                "siret": it["organisation"]["siret"],
                "level": it["data"]["echelon_bourse"],
                "last_validated_at": it["last_validated_at"],
            }
            for it in page
            if it["definition_id"] == env["DATAPASS_DEFINITION_ID"]
        ]


dlt.pipeline(
    pipeline_name="pull",
    pipelines_dir=env["PIPELINES_DIR"],
    destination=dlt.destinations.postgres(credentials=env["DATABASE_URL"]),
    dataset_name="public",
).run(demandes())
