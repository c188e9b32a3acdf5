"""What tests/bench/queries measures by itself, and its tables."""

import http.client
import json
import os
import statistics
import sys
import time
import urllib.parse

NAMES = {"trefoil": "Trefoil", "prometheus": "Prometheus", "victoria": "VictoriaMetrics"}
# Asked so often a second, and the server does other work in between.
ONE_PAUSE = 0.02
# Points of a range and seconds between samples, as signalbench has them.
POINTS, STEP = 240, 60


class Server:
    """A connection that is kept."""

    def __init__(self, url):
        self.connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=600)

    def ask(self, path, **params):
        head = {"Content-Type": "application/x-www-form-urlencoded"}
        method, body = ("POST", urllib.parse.urlencode(params)) if params else ("GET", None)
        begun = time.perf_counter()
        self.connection.request(method, path, body, head)
        response = self.connection.getresponse()
        text = response.read()
        took = (time.perf_counter() - begun) * 1000
        if response.status != 200:
            raise SystemExit(f"{path}: {response.status}: {text[:300]!r}")
        return took, text


def memory(pid, field):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))


def cpu_ms(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) * 10


def everything(out, url, pid, start, end, runs):
    """Rates over every series there is. One selector over all names would make series equal, which is an error."""
    server = Server(url)
    names = json.loads(server.ask(f"/api/v1/label/__name__/values?start={start}&end={end}")[1])["data"]
    query = " or ".join(f"sum by (job) (rate({name}[5m]))" for name in names)
    times, cpus, peaks = [], [], []
    for run in range(int(runs) + 1):
        try:
            with open(f"/proc/{pid}/clear_refs", "w") as refs:
                refs.write("5")
            before = memory(pid, "VmRSS")
        except OSError:
            before = None
        busy = cpu_ms(pid)
        took, text = server.ask("/api/v1/query_range", query=query, start=start, end=end, step=360)
        if run == 0:  # to warm up
            continue
        times.append(took)
        cpus.append(cpu_ms(pid) - busy)
        if before is not None:
            peaks.append(max(memory(pid, "VmHWM") - before, 0))
    with open(out, "w") as file:
        median = lambda values: statistics.median(values) if values else None
        figures = {"ms": median(times), "cpu_ms": median(cpus), "peak_bytes": median(peaks), "answer_bytes": len(text)}
        json.dump(figures, file)


def received(out, asked, url, start, end, repeat):
    """The fixed set once more, until the last byte is here: reading large answers takes a client longer than the servers."""
    server, start, end = Server(url), int(start), int(end)
    figures = {}
    with open(asked) as file:
        queries = json.load(file)["a"]["queries"]
    for q in queries:
        span, query = q["name"].partition("_")[0], q["query"]
        if span == "api":
            continue
        if span == "instant":
            path, params = "/api/v1/query", {"query": query, "time": end}
        else:
            first = start if span == "whole" else max(start, end - 3600)
            step = -(-max(1, (end - first) // POINTS) // STEP) * STEP
            path = "/api/v1/query_range"
            params = {"query": query, "start": -(-first // step) * step, "end": end - end % step, "step": step}
        times = [server.ask(path, **params)[0] for _ in range(int(repeat) + 1)][1:]
        figures[q["name"]] = statistics.median(times)
    with open(out, "w") as file:
        json.dump(figures, file)


def one(out, url, at, seconds):
    """The latency of an instant query over one series while others write."""
    server = Server(url)
    hosts, deadline = [], time.monotonic() + 60
    while not hosts:
        if time.monotonic() > deadline:
            raise SystemExit(f"{url} has no series after a minute")
        _, text = server.ask("/api/v1/query", query="node_load1", time=at)
        hosts = sorted(s["metric"]["instance"] for s in json.loads(text)["data"]["result"])
        time.sleep(0.1)
    query = f'node_load1{{instance="{hosts[len(hosts) // 2]}"}}'
    times, found, end = [], 0, time.monotonic() + float(seconds)
    while time.monotonic() < end:
        took, text = server.ask("/api/v1/query", query=query, time=at)
        times.append(took)
        found += len(json.loads(text)["data"]["result"])
        time.sleep(ONE_PAUSE)
    times.sort()
    with open(out, "w") as file:
        p99 = times[int(len(times) * 0.99)]
        json.dump({"p50_ms": statistics.median(times), "p99_ms": p99, "max_ms": times[-1], "n": len(times), "found": found}, file)


def report(work, name):
    path = os.path.join(work, name)
    if not os.path.exists(path) or not os.path.getsize(path):
        return None
    with open(path) as file:
        return json.load(file)


def cell(value):
    if value is None:
        return "–"
    return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def ratio(a, b):
    return a / b if a is not None and b else None


def print_table(first, servers, rows):
    others = [s for s in servers if s != "trefoil"]
    heads = [first] + [NAMES[s] for s in servers] + [f"Trefoil / {NAMES[s]}" for s in others]
    print("\n| " + " | ".join(heads) + " |")
    print("| --- |" + " ---: |" * (len(heads) - 1))
    for title, values in rows:
        cells = [cell(values.get(s)) for s in servers]
        cells += [cell(ratio(values.get("trefoil"), values.get(s))) for s in others]
        print(f"| {title} | " + " | ".join(cells) + " |")


def fixed_set(work, mode, runs, servers, figure):
    """Medians over the rounds, by query and server."""
    found = {}
    for server in servers:
        for run in range(1, runs + 1):
            asked = report(work, f"{server}.{mode}.{run}.json")
            for q in asked["a"]["queries"] if asked else []:
                if q.get("error") is None and q.get(figure) is not None:
                    found.setdefault(q["name"], {}).setdefault(server, []).append(q[figure])
    return {name: {s: statistics.median(v) for s, v in by.items()} for name, by in found.items()}


def print_received(work, runs, servers):
    found = {}
    for server in servers:
        for run in range(1, runs + 1):
            for name, ms in (report(work, f"{server}.received.{run}.json") or {}).items():
                found.setdefault(name, {}).setdefault(server, []).append(ms)
    rows = [(name, {s: statistics.median(v) for s, v in by.items()}) for name, by in found.items()]
    sums = {s: sum(by.get(s, 0) for _, by in rows) for s in servers}
    rows.append(("**sum**", sums))
    print_table("cold, until the last byte is received, p50, ms", servers, rows)


def table(work, hosts, samples, runs, *servers):
    runs = int(runs)
    print(f"\n== {hosts} hosts, {samples} samples a series; medians of {runs} rounds")
    for mode in ["cold", "refreshed"]:
        asked = [s for s in servers if mode == "cold" or s != "prometheus"]
        for figure, unit in [("p50_ms", "p50, ms"), ("server_cpu_ms", "CPU ms of the server (ticks of 10 ms)")]:
            rows = fixed_set(work, mode, runs, asked, figure)
            if rows:
                sums = {s: sum(by.get(s, 0) for by in rows.values()) for s in asked}
                print_table(f"{mode}, {unit}", asked, [*rows.items(), ("**sum**", sums)])
        if mode == "cold":
            print_received(work, runs, servers)
    parts = {s: report(work, f"{s}.everything.json") or {} for s in servers}
    if any(parts.values()):
        rows = [
            ("time, ms", {s: parts[s].get("ms") for s in servers}),
            ("CPU, ms", {s: parts[s].get("cpu_ms") for s in servers}),
            ("peak memory over what it was before, MiB", {s: ratio(parts[s].get("peak_bytes"), 1 << 20) for s in servers}),
        ]
        print_table("sum by (job) (rate(…[5m])) of every name, all of the time", servers, rows)
    parts = {s: report(work, f"{s}.one.json") or {} for s in servers}
    if any(parts.values()):
        rows = [(k, {s: parts[s].get(k) for s in servers}) for k in ["p50_ms", "p99_ms", "max_ms", "n", "found"]]
        print_table("one series while 100,000 samples a second come in", servers, rows)
    compared = report(work, "compare.json")
    if compared:
        fields = ["only_in_a", "only_in_b", "points_unpaired", "points_beyond_tolerance"]
        apart = [d for d in compared["differences"] if any(d[f] for f in fields)]
        print(f"\nanswers: {len(compared['differences']) - len(apart)} equal to Prometheus', {len(apart)} not")
        for d in apart:
            print(f"- {d['name']}: " + ", ".join(f"{f} {d[f]}" for f in fields) + f"; {d.get('example')}")


if __name__ == "__main__":
    {"everything": everything, "one": one, "received": received, "table": table}[sys.argv[1]](*sys.argv[2:])
