"""Searches with Elasticsearch's own client: python elastic_search.py URL SERVICE. Prints JSON."""

import json
import sys

from elasticsearch import ApiError, Elasticsearch, helpers

url, service = sys.argv[1], sys.argv[2]
client = Elasticsearch(url)
query = {"term": {"service_name": service}}
out = {"count": client.count(index="logs-*", query=query)["count"]}

found = client.search(index="logs", query={"bool": {"filter": [query, {"match": {"message": "line 7"}}]}}, size=1)
out["messages"] = [hit["_source"]["message"] for hit in found["hits"]["hits"]]

newest = client.search(
    index="logs-*", query=query, size=3, sort=[{"@timestamp": "desc"}],
    aggs={"over": {"date_histogram": {"field": "@timestamp", "fixed_interval": "1h"}}, "n": {"stats": {"field": "n"}}},
)
out["newest"] = [hit["_source"]["message"] for hit in newest["hits"]["hits"]]
out["buckets"] = sum(b["doc_count"] for b in newest["aggregations"]["over"]["buckets"])
out["max"] = newest["aggregations"]["n"]["max"]
first = newest["hits"]["hits"][0]
out["by_id"] = client.get(index=first["_index"], id=first["_id"])["_source"]["message"]

out["scrolled"] = [h["_source"]["n"] for h in helpers.scan(client, index="logs", query={"query": query}, size=30)]

pit = client.open_point_in_time(index="logs-*", keep_alive="1m")["id"]
paged, after = [], None
while True:
    page = client.search(pit={"id": pit, "keep_alive": "1m"}, query=query, size=40, sort=[{"@timestamp": "asc"}], search_after=after)
    hits = page["hits"]["hits"]
    if not hits:
        break
    paged += [h["_source"]["n"] for h in hits]
    after = hits[-1]["sort"]
out["paged"] = paged
out["closed"] = client.close_point_in_time(id=pit)["succeeded"]

many = client.msearch(searches=[{"index": "logs-*"}, {"query": query, "size": 0}, {"index": "logs"}, {"query": {"nonsense": {}}}])
out["many"] = [r["status"] for r in many["responses"]]
out["field"] = list(client.field_caps(index="logs-*", fields="@timestamp")["fields"]["@timestamp"])
out["mapping"] = client.indices.get_mapping(index="logs")["logs"]["mappings"]["properties"]["message"]["type"]
out["cat"] = [row["index"] for row in client.cat.indices(index="logs", format="json")]
try:
    client.search(index="logs", query={"nonsense": {}})
except ApiError as error:
    out["error"] = [error.status_code, error.error]
print(json.dumps(out))
