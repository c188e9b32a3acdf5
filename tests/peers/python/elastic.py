"""Sends log lines with Elasticsearch's own client: python elastic.py URL COUNT FIRST_MILLISECOND. Prints JSON."""

import json
import sys
from datetime import datetime, timezone

from elasticsearch import Elasticsearch, helpers

url, count, first_ms = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
client = Elasticsearch(url, retry_on_timeout=True, max_retries=5)
version = client.info()["version"]["number"]
health = client.cluster.health()["status"]
client.indices.put_index_template(name="python", index_patterns=["python-*"], template={})
assert client.indices.exists(index="python-logs")
client.indices.create(index="python-logs")


def documents():
    for n in range(count):
        time = datetime.fromtimestamp((first_ms + n) / 1000, timezone.utc)
        yield {
            "_op_type": "create" if n % 2 else "index",
            "_index": "python-logs",
            "_id": f"python-{n}",
            "@timestamp": time.isoformat(timespec="milliseconds"),
            "message": f"python line {n}",
            "log": {"level": "warning"},
            "service": {"name": "elastic-python"},
            "n": n,
            "tags": ["a", "b"],
        }


stored, failed = helpers.bulk(client, documents(), chunk_size=70, raise_on_error=False)
bad = [
    {"_index": "python-logs", "@timestamp": "no time", "message": "bad"},
    {"_index": "python-logs", "message": "good", "service": {"name": "elastic-python"}},
    {"_index": "python-logs", "_op_type": "delete", "_id": "1"},
]
outcomes = [
    {"ok": ok, "item": item}
    for ok, item in helpers.streaming_bulk(client, bad, raise_on_error=False, raise_on_exception=False)
]
one = client.index(index="python-logs", document={"message": "single", "service": {"name": "elastic-python"}})
client.indices.refresh(index="python-logs")
print(json.dumps({
    "version": version, "health": health, "stored": stored, "failed": failed, "outcomes": outcomes,
    "single": one["result"],
}))
