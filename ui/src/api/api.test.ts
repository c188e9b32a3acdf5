import { afterEach, describe, expect, test, vi } from "vitest";
import { durationMs, unixMs, unixNs } from "../lib/brand";
import { loginNeeded, signInBasic, signOut } from "../state/auth";
import { list, num, obj, or, str } from "./check";
import { apiUrl, ApiError, findPosition } from "./client";
import { getTrace, searchTraces } from "./jaeger";
import { queryLines } from "./loki";
import { cardinality, queryInstant, queryRange, readTime, rules } from "./prometheus";

const RANGE = { from: unixMs(1000), to: unixMs(61_000) };

function answerWith(status: number, body: unknown) {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const fetch = vi.fn(async (_url: string, _init?: RequestInit) => new Response(text, { status }));
  vi.stubGlobal("fetch", fetch);
  return fetch;
}
afterEach(() => {
  vi.unstubAllGlobals();
  signOut();
});

test("a check says what is wrong and where", () => {
  const check = obj({ a: list(obj({ b: num })), c: or(str, "none") });
  expect(check({ a: [{ b: 1 }] }, "")).toEqual({ a: [{ b: 1 }], c: "none" });
  expect(() => check({ a: [{ b: "1" }] }, "")).toThrow("a[0].b should be a number, is string");
  expect(() => check(null, "")).toThrow("body should be an object, is null");
});

test.each([
  ['invalid parameter "query": 1:5: parse error: bad', { line: 1, column: 5 }],
  ["parse error at line 2, col 7: syntax error", { line: 2, column: 7 }],
  ["no place", undefined],
])("findPosition(%j)", (message, want) => expect(findPosition(message)).toEqual(want));

test("addresses follow the base of the page", () => {
  const base = document.createElement("base");
  base.href = "http://obs.local/prefix/";
  document.head.append(base);
  expect(apiUrl("api/v1/labels", { "match[]": ["a", "b"], skip: undefined })).toBe("http://obs.local/prefix/api/v1/labels?match%5B%5D=a&match%5B%5D=b");
  base.remove();
});

describe("prometheus", () => {
  test("cardinality, with what is missing", async () => {
    const fetch = answerWith(200, { status: "success", data: { series: 7, minTime: null, seriesByJob: [{ name: "api", value: 4 }], offenders: [{ job: "api", label: "user", refused: 11 }] } });
    const found = await cardinality(20);
    expect(`${fetch.mock.calls[0]?.[0]}`).toContain("api/v1/status/cardinality?limit=20");
    expect(found).toMatchObject({ series: 7, labelPairs: 0, minTime: undefined, seriesByJob: [{ name: "api", value: 4 }], seriesByMetric: [] });
    expect(found.offenders[0]).toMatchObject({ job: "api", label: "user", refused: 11, metric: "", limitValue: 0 });
    answerWith(200, { status: "success", data: {} });
    await expect(cardinality(20)).rejects.toThrow("data.series should be a number");
  });

  test("a range query is a form", async () => {
    const fetch = answerWith(200, { status: "success", data: { resultType: "matrix", result: [{ metric: { a: "b" }, values: [[1, "2"], [2, "NaN"], [3, "+Inf"]] }] }, warnings: ["w"], infos: ["i"] });
    const answer = await queryRange("up", RANGE, durationMs(15_000));
    expect(answer).toMatchObject({ type: "matrix", warnings: ["w"], infos: ["i"] });
    expect(answer.series[0]?.points).toEqual([[1, 2], [2, Number.NaN], [3, Number.POSITIVE_INFINITY]]);
    const [, init] = fetch.mock.calls[0] ?? [];
    expect(init?.method).toBe("POST");
    expect(`${init?.body}`).toBe("query=up&start=1.000&end=61.000&step=15.000");
  });

  test.each([
    [{ resultType: "scalar", result: [1, "5"] }, "scalar", 1],
    [{ resultType: "vector", result: [{ metric: {}, value: [1, "5"] }, { metric: {}, histogram: [1, { count: "7", sum: "1" }] }] }, "vector", 2],
    [{ resultType: "string", result: [1, "hello"] }, "string", 0],
  ])("reads %j", async (data, type, count) => {
    answerWith(200, { status: "success", data });
    const answer = await queryInstant("x", unixMs(0));
    expect(answer.type).toBe(type);
    expect(answer.series.length).toBe(count);
  });

  test.each<[number, unknown, string]>([
    [400, { status: "error", errorType: "bad_data", error: "1:3: parse error" }, "1:3: parse error"],
    [400, "plain text", "plain text"],
    [404, { errors: [{ code: 404, msg: "trace not found" }] }, "trace not found"],
    [502, "<html>Bad gateway</html>", "the server answered 502"],
    [200, "not json", "the answer of api/v1/query is not JSON"],
    [200, { status: "success", data: { resultType: "matrix", result: [{ values: [[1]] }] } }, "unexpected answer"],
  ])("error %d %j", async (status, body, want) => {
    answerWith(status, body);
    await expect(queryInstant("x", unixMs(0))).rejects.toThrow(want);
  });

  test("a server that cannot be reached", async () => {
    vi.stubGlobal("fetch", vi.fn(async () => Promise.reject(new TypeError("failed"))));
    await expect(queryInstant("x", unixMs(0))).rejects.toMatchObject({ status: 0, kind: "network" });
  });

  test("rules may leave out most", async () => {
    answerWith(200, { status: "success", data: { groups: [{ name: "g", rules: [{ name: "r" }] }] } });
    expect((await rules())[0]?.rules[0]).toMatchObject({ name: "r", type: "recording", health: "unknown", alerts: [] });
  });

  test.each([["2026-01-01T00:00:00Z", Date.UTC(2026, 0, 1)], ["0001-01-01T00:00:00Z", undefined], ["", undefined]])("readTime(%j)", (text, want) => expect(readTime(text)).toBe(want));
});

test("loki: values with and without categories", async () => {
  const fetch = answerWith(200, {
    status: "success",
    data: { resultType: "streams", encodingFlags: ["categorize-labels"], result: [{ stream: { job: "a" }, values: [["2", "two", { structuredMetadata: { k: "v" } }], ["1", "one"]] }] },
  });
  const { lines } = await queryLines({ query: "{}", start: unixNs(0n), end: unixNs(9n), limit: 5 });
  expect(lines.map((l) => [l.text, l.metadata])).toEqual([["two", { k: "v" }], ["one", {}]]);
  const [url, init] = fetch.mock.calls[0] ?? [];
  expect(url).toContain("direction=backward");
  expect((init?.headers as Record<string, string>)["X-Loki-Response-Encoding-Flags"]).toBe("categorize-labels");
});

describe("jaeger", () => {
  const trace = {
    traceID: "t",
    spans: [
      { traceID: "t", spanID: "2", operationName: "child", references: [{ refType: "CHILD_OF", traceID: "t", spanID: "1" }, { refType: "FOLLOWS_FROM", traceID: "u", spanID: "9" }], startTime: 10, duration: 5, tags: [{ key: "error", type: "bool", value: true }], logs: [{ timestamp: 12, fields: [{ key: "event", value: "exception" }, { key: "n", value: 3 }] }], processID: "p1", warnings: null },
      { traceID: "t", spanID: "1", operationName: "root", references: [], startTime: 5, duration: 20, tags: [{ key: "span.kind", value: "server" }], logs: null, processID: "p1", warnings: null },
    ],
    processes: { p1: { serviceName: "svc", tags: [] } },
    warnings: null,
  };
  test("one trace", async () => {
    answerWith(200, { data: [trace], errors: null });
    const t = await getTrace("t");
    expect(t.spans.map((s) => [s.name, s.depth, s.error, s.kind])).toEqual([["root", 0, false, "server"], ["child", 1, true, ""]]);
    expect(t.spans[1]?.events[0]).toEqual({ at: 12, name: "exception", attributes: [{ key: "n", value: "3" }] });
    expect(t.spans[1]?.references).toEqual([{ kind: "FOLLOWS_FROM", traceId: "u", spanId: "9" }]);
  });
  test("an empty answer is not found", async () => {
    answerWith(200, { data: [], errors: null });
    await expect(getTrace("t")).rejects.toMatchObject({ status: 404 });
  });
  test("search", async () => {
    const fetch = answerWith(200, { data: [trace] });
    const [found] = await searchTraces({ service: "svc", operation: "", tags: { error: "true" }, minDuration: "1ms", maxDuration: "", limit: 20 }, RANGE);
    expect(found).toMatchObject({ id: "t", rootName: "root", spans: 2, errors: 1, duration: 20 });
    const url = new URL(fetch.mock.calls[0]?.[0] ?? "");
    expect(Object.fromEntries(url.searchParams)).toEqual({ service: "svc", tags: '{"error":"true"}', minDuration: "1ms", limit: "20", start: "1000000", end: "61000000" });
  });
});

test("a 401 asks for a login; the credentials go with the next request", async () => {
  answerWith(401, "unauthorized");
  await expect(queryInstant("x", unixMs(0))).rejects.toBeInstanceOf(ApiError);
  expect(loginNeeded()).toBe(true);
  signInBasic("user", "päss");
  expect(loginNeeded()).toBe(false);
  const fetch = answerWith(200, { status: "success", data: { resultType: "scalar", result: [1, "1"] } });
  await queryInstant("x", unixMs(0));
  const headers = fetch.mock.calls[0]?.[1]?.headers as Record<string, string>;
  expect(headers["Authorization"]).toBe(`Basic ${btoa(String.fromCharCode(...new TextEncoder().encode("user:päss")))}`);
});
