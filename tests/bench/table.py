"""Prints the tables of tests/bench/run from the reports in its work folder."""

import json
import os
import statistics
import sys

WORK, HOSTS, SAMPLES, RUNS = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
SERVERS = sys.argv[5:]
NAMES = {"trefoil": "Trefoil", "prometheus": "Prometheus", "victoria": "VictoriaMetrics"}
MIB = 1 << 20


def report(name):
    path = os.path.join(WORK, name)
    if not os.path.exists(path) or not os.path.getsize(path):
        return None
    with open(path) as file:
        return json.load(file)


def numbers(name):
    path = os.path.join(WORK, name)
    if not os.path.exists(path):
        return []
    with open(path) as file:
        return [float(word) for word in file.read().split()]


def number(name):
    return next(iter(numbers(name)), None)


def ratio(a, b):
    return a / b if a is not None and b else None


def median(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def over_runs(server, figure):
    found = []
    for run in range(1, RUNS + 1):
        written = report(f"{server}.{run}.write.json")
        if written:
            found.append(figure(written, written.get("server") or {}, f"{server}.{run}"))
    return median(found)


def cell(value):
    if value is None:
        return "–"
    return f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


def table(first, rows, ratios=True):
    """Rows: (title, value by server). Ratios are Trefoil's value over the others'."""
    others = [s for s in SERVERS if s != "trefoil"] if ratios else []
    heads = [first] + [NAMES[s] for s in SERVERS] + [f"Trefoil / {NAMES[s]}" for s in others]
    print("\n| " + " | ".join(heads) + " |")
    print("| --- |" + " ---: |" * (len(heads) - 1))
    for title, values in rows:
        cells = [cell(values.get(s)) for s in SERVERS]
        cells += [cell(ratio(values.get("trefoil"), values.get(s))) for s in others]
        print(f"| {title} | " + " | ".join(cells) + " |")


def by_server(figure):
    return {s: figure(s) for s in SERVERS}


def sent(w, server, _):
    return ratio(server.get("cpu_seconds"), w["items_acked"] / 1e6)


def ended(w, _, name):
    return ratio(number(f"{name}.cpu"), w["items_acked"] / 1e6)


def per_series(_, __, name):
    return ratio(number(f"{name}.rss"), number(f"{name}.series"))


FIGURES = [
    ("CPU s per million samples, to the end of settling", sent),
    ("CPU s per million samples, to the end of a clean stop (memory written to parts)", ended),
    ("peak RSS, MiB", lambda _, s, __: ratio(s.get("peak_rss_bytes"), MIB)),
    ("peak anonymous memory, MiB", lambda _, s, __: ratio(s.get("peak_anon_bytes"), MIB)),
    ("RSS at the end, bytes a series", per_series),
    ("series", lambda _, __, name: number(f"{name}.series")),
    ("samples / s (client on the same cores)", lambda w, _, __: w["items_per_second"]),
    ("request p50, ms", lambda w, _, __: w["latency_ms"]["p50"]),
    ("request p99, ms", lambda w, _, __: w["latency_ms"]["p99"]),
    ("disk bytes a sample when written, journal included", lambda w, _, __: w.get("disk_bytes_per_item")),
    ("items failed", lambda w, _, __: w["items_failed"]),
]
print(f"\n== {HOSTS} hosts, {SAMPLES} samples a series; medians of {RUNS} runs")
rows = [(title, by_server(lambda s, f=figure: over_runs(s, f))) for title, figure in FIGURES]


def merged(server):
    size = numbers(f"{server}.merged")
    return ratio(*size) if len(size) == 2 else None


rows.append(("disk bytes a sample after merges, index included, without journal (1 run)", by_server(merged)))
rows.append(("start after kill -9, s (1 run)", by_server(lambda s: number(f"{s}.start"))))
rows.append(
    ("RSS when ready after kill -9 / before it (1 run)",
     by_server(lambda s: ratio(number(f"{s}.start.rss"), number(f"{s}.{RUNS}.rss"))))
)
table("figure", rows)

for title, name in [
    ("query p50, ms, after the start (Trefoil: from the memtable)", "query.json"),
    ("query p50, ms, merged", "merged.query.json"),
]:
    asked = {s: (report(f"{s}.{name}") or {}).get("a", {}) for s in SERVERS}
    answers = {s: {q["name"]: q["p50_ms"] for q in asked[s].get("queries", [])} for s in SERVERS}
    names = list(answers["trefoil"])
    rows = [(q, {s: answers[s].get(q) for s in SERVERS}) for q in names]
    sums = {s: sum(answers[s].values()) if answers[s] else None for s in SERVERS}
    if names:
        table(title, rows + [("**sum**", sums)])

for name, unit in [("logs", "line"), ("traces", "span")]:
    r = report(f"trefoil.{name}.json")
    if r:
        rate = ratio(r["items_acked"], (r.get("server") or {}).get("cpu_seconds"))
        print(f"\nTrefoil, {name}: {cell(rate)} {unit}s / CPU s, {cell(r.get('disk_bytes_per_item'))} bytes a {unit}.")
