import { expect, test } from "vitest";
import { meanings, score, search, type Entry } from "./palette";

const ID = "4bf92f3577b34da6a3ce929d0e0e4736";

test.each([
  ["", []],
  [ID.toUpperCase(), [`/trace/${ID}`, "/logs"]],
  ['{app="x"} |= "y"', ["/logs"]],
  ["rate(up[5m])", ["/explore/metrics", "/logs"]],
  ["payment timeout", ["/logs"]],
])("meanings(%j)", (text, want) => expect(meanings(text).map((entry) => entry.path)).toEqual(want));

test("score prefers the beginning, then word boundaries", () => {
  const at = (title: string) => score(title, "tsdb") ?? Number.POSITIVE_INFINITY;
  expect(at("tsdb_x")).toBeLessThan(at("a_tsdb"));
  expect(at("a_tsdb")).toBeLessThan(at("atsdb"));
  expect(score("abc", "x")).toBeUndefined();
  expect(score("trefoil_tsdb_parts", "parts tref")).toBeDefined();
});

test("search puts what is certain first and the log search last", () => {
  const entries: Entry[] = [
    { id: "1", title: "Logs", kind: "page", path: "/logs" },
    { id: "2", title: "up", kind: "metric", path: "/explore/metrics", params: { q: "up" } },
    { id: "3", title: "upload_total", kind: "metric", path: "/explore/metrics" },
  ];
  expect(search(entries, "").map((e) => e.id)).toEqual(["1"]);
  expect(search(entries, "up").map((e) => e.id)).toEqual(["2", "3", "words"]);
  expect(search(entries, "up > 0").map((e) => e.id)).toEqual(["promql", "words"]);
});
