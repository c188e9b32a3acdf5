// The time range of the page: raw in the URL, resolved once per refresh so that all panels agree.
import { createContext, type ComponentChildren } from "preact";
import { useCallback, useContext, useEffect, useMemo, useState } from "preact/hooks";
import { unixMs } from "../lib/brand";
import { parseDuration } from "../lib/time/duration";
import { absolute, DEFAULT_RANGE, isRelative, resolveRange, type RawRange, type TimeRange } from "../lib/time/range";
import { useUrl } from "./url";

export interface TimeState {
  readonly raw: RawRange;
  readonly range: TimeRange;
  /** Changes with each refresh; part of every query key. */
  readonly tick: number;
  readonly refreshEvery: string;
  setRaw(raw: RawRange, replace?: boolean): void;
  setRange(range: TimeRange): void;
  setRefresh(every: string): void;
  refresh(): void;
}

const Context = createContext<TimeState | undefined>(undefined);

export function TimeProvider({ children }: { children: ComponentChildren }) {
  const { params, set } = useUrl();
  const from = params.get("from") ?? DEFAULT_RANGE.from;
  const to = params.get("to") ?? DEFAULT_RANGE.to;
  const refreshEvery = params.get("refresh") ?? "";
  const [tick, setTick] = useState(0);
  const refresh = useCallback(() => setTick((n) => n + 1), []);

  useEffect(() => {
    const every = parseDuration(refreshEvery);
    if (every === undefined || every < 1000 || !isRelative({ from, to })) return;
    const timer = setInterval(() => {
      if (!document.hidden) refresh();
    }, every);
    return () => clearInterval(timer);
  }, [refreshEvery, from, to, refresh]);

  const state = useMemo<TimeState>(() => {
    const raw = { from, to };
    const setRaw = (next: RawRange, replace = false): void => {
      set({ from: next.from, to: next.to }, replace);
      setTick((n) => n + 1);
    };
    return {
      raw,
      range: resolveRange(raw, unixMs(Date.now())),
      tick,
      refreshEvery,
      setRaw,
      setRange: (range) => setRaw(absolute(range)),
      setRefresh: (every) => set({ refresh: every || undefined }, true),
      refresh,
    };
  }, [from, to, tick, refreshEvery, set, refresh]);

  return <Context.Provider value={state}>{children}</Context.Provider>;
}

export function useTime(): TimeState {
  const state = useContext(Context);
  if (!state) throw new Error("useTime needs a TimeProvider above it");
  return state;
}
