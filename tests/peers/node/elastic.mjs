// Sends log lines with Elasticsearch's own client: node elastic.mjs URL COUNT FIRST_MILLISECOND. Prints JSON.
import { Client } from "@elastic/elasticsearch";

const [url, count, firstMs] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const client = new Client({ node: url, compression: true });
const info = await client.info();
const dropped = [];
const result = await client.helpers.bulk({
  datasource: Array.from({ length: count }, (_, n) => ({
    "@timestamp": firstMs + n,
    message: `node line ${n}`,
    "log.level": "error",
    service: { name: "elastic-node" },
    n,
    ...(n === 7 ? { "@timestamp": "no time" } : {}),
  })),
  onDocument: () => ({ create: { _index: "node-logs" } }),
  onDrop: (doc) => dropped.push({ status: doc.status, type: doc.error?.type, message: doc.document.message }),
  flushBytes: 4000,
  retries: 0,
});
console.log(JSON.stringify({ version: info.version.number, total: result.total, successful: result.successful, failed: result.failed, dropped }));
await client.close();
