// Ctrl+K: jump to any page, dashboard, service or metric; or run what was typed.
import { useEffect, useMemo, useState } from "preact/hooks";
import { useLocation } from "wouter-preact";
import { dashboards } from "../../api/dashboards";
import { services } from "../../api/jaeger";
import { labelValues } from "../../api/prometheus";
import { slug } from "../../lib/dashboard/slug";
import { search, type Entry } from "../../lib/palette";
import { useData } from "../../state/data";
import { useHref } from "../../state/url";
import { Dialog } from "./dialog";
import css from "./palette.module.css";

const PAGES: readonly Entry[] = [
  ["Home", "/"],
  ["Metrics", "/explore/metrics"],
  ["Logs", "/logs"],
  ["Traces", "/traces"],
  ["Dashboards", "/dashboards"],
  ["Alerts", "/alerts"],
  ["Status", "/status"],
  ["Cardinality", "/status/cardinality"],
].map(([title = "", path = ""]) => ({ id: path, title, kind: "page", path }));

export function Palette({ onClose }: { onClose: () => void }) {
  const [text, setText] = useState("");
  const [chosen, setChosen] = useState(0);
  const [, navigate] = useLocation();
  const href = useHref();
  const known = useData(["palette"], async (signal) => {
    const [boards, traced, metrics] = await Promise.all([dashboards(signal).catch(() => []), services(signal).catch(() => []), labelValues("__name__", "", undefined, signal).catch(() => [])]);
    const entries: Entry[] = [
      ...boards.map((d) => ({ id: `d ${d.uid}`, title: d.title || d.uid, kind: "dashboard", path: `/d/${encodeURIComponent(d.uid)}/${slug(d.title)}` })),
      ...traced.flatMap((name) => [
        { id: `t ${name}`, title: name, kind: "traces of service", path: "/traces", params: { service: name } },
        { id: `l ${name}`, title: name, kind: "logs of service", path: "/logs", params: { q: `{service_name=${JSON.stringify(name)}}` } },
      ]),
      ...metrics.map((name) => ({ id: `m ${name}`, title: name, kind: "metric", path: "/explore/metrics", params: { q: name } })),
    ];
    return entries;
  });
  const found = useMemo(() => search([...PAGES, ...(known.data ?? [])], text), [known.data, text]);
  useEffect(() => setChosen(0), [text]);
  useEffect(() => document.getElementById(`palette-${chosen}`)?.scrollIntoView({ block: "nearest" }), [chosen]);

  const open = (entry: Entry | undefined): void => {
    if (!entry) return;
    onClose();
    navigate(href(entry.path, entry.params));
  };

  return (
    <Dialog label="Go to or run" testid="palette" class={css["palette"]} onClose={onClose}>
      <input
        class={css["input"]}
        value={text}
        placeholder="Page, service, metric, dashboard, trace id, query, or words to find in logs"
        aria-label="Go to or run"
        aria-autocomplete="list"
        aria-controls="palette-list"
        aria-activedescendant={`palette-${chosen}`}
        role="combobox"
        aria-expanded={found.length > 0}
        autocomplete="off"
        spellcheck={false}
        data-testid="palette-input"
        onInput={(event) => setText(event.currentTarget.value)}
        onKeyDown={(event) => {
          const move = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
          if (move !== 0 && found.length > 0) setChosen((chosen + move + found.length) % found.length);
          else if (event.key === "Enter") open(found[chosen]);
          else return;
          event.preventDefault();
        }}
      />
      <ul class={css["list"]} role="listbox" id="palette-list" aria-label="Found">
        {found.map((entry, index) => (
          <li
            key={entry.id}
            id={`palette-${index}`}
            class={css["option"]}
            role="option"
            aria-selected={index === chosen}
            data-testid="palette-option"
            onPointerMove={() => setChosen(index)}
            onClick={() => open(entry)}
          >
            <span class="cut">{entry.title}</span>
            <span>{entry.kind}</span>
          </li>
        ))}
      </ul>
      <p class={css["hint"]}>↑ ↓ to choose, Enter to open, Esc to close</p>
    </Dialog>
  );
}
