// Searches with Elasticsearch's own client: node elastic_search.mjs URL SERVICE. Prints JSON.
import { Client } from "@elastic/elasticsearch";

const [url, service] = process.argv.slice(2);
const client = new Client({ node: url });
const query = { term: { service_name: service } };
const out = { count: (await client.count({ index: "logs-*", query })).count };

const messages = { bool: { filter: [query, { match_phrase: { message: "line 7" } }] } };
const found = await client.search({ index: "logs", query: messages });
out.messages = found.hits.hits.map((hit) => hit._source.message);

const newest = await client.search({
  index: "logs-*",
  query,
  size: 3,
  sort: [{ "@timestamp": "desc" }],
  aggs: {
    over: { date_histogram: { field: "@timestamp", fixed_interval: "1h" } },
    n: { stats: { field: "n" } },
  },
});
out.newest = newest.hits.hits.map((hit) => hit._source.message);
out.buckets = newest.aggregations.over.buckets.reduce((sum, b) => sum + b.doc_count, 0);
out.max = newest.aggregations.n.max;
const first = newest.hits.hits[0];
out.by_id = (await client.get({ index: first._index, id: first._id }))._source.message;

out.scrolled = [];
for await (const doc of client.helpers.scrollDocuments({ index: "logs", query, size: 30, sort: ["_doc"] })) {
  out.scrolled.push(doc.n);
}

const pit = (await client.openPointInTime({ index: "logs-*", keep_alive: "1m" })).id;
out.paged = [];
for (let after; ; ) {
  const sort = [{ "@timestamp": "asc" }];
  const page = await client.search({ pit: { id: pit, keep_alive: "1m" }, query, size: 40, sort, search_after: after });
  const hits = page.hits.hits;
  if (hits.length === 0) break;
  out.paged.push(...hits.map((hit) => hit._source.n));
  after = hits[hits.length - 1].sort;
}
out.closed = (await client.closePointInTime({ id: pit })).succeeded;

const searches = [{ index: "logs-*" }, { query, size: 0 }, { index: "logs" }, { query: { nonsense: {} } }];
out.many = (await client.msearch({ searches })).responses.map((r) => r.status);
out.field = Object.keys((await client.fieldCaps({ index: "logs-*", fields: "@timestamp" })).fields["@timestamp"]);
out.mapping = (await client.indices.getMapping({ index: "logs" })).logs.mappings.properties.message.type;
out.cat = (await client.cat.indices({ index: "logs", format: "json" })).map((row) => row.index);
try {
  await client.search({ index: "logs", query: { nonsense: {} } });
} catch (error) {
  out.error = [error.statusCode, error.body.error.type];
}
console.log(JSON.stringify(out));
