// The frame round every page, and which page a path shows.
import { QueryClientProvider } from "@tanstack/preact-query";
import { lazy, Suspense } from "preact/compat";
import { useEffect, useMemo, useState } from "preact/hooks";
import { Redirect, Route, Router, Switch, useLocation, useSearch } from "wouter-preact";
import { Help } from "./components/frame/help";
import { Login } from "./components/frame/login";
import { PeekDrawer } from "./components/frame/peek-drawer";
import { Rail } from "./components/frame/rail";
import { Empty, Skeleton } from "./components/kit/kit";
import { grafanaExplore, promGraphParams } from "./lib/foreign-links";
import { HomePage } from "./pages/home";
import { loginNeeded, onAuthChange } from "./state/auth";
import { queryClient } from "./state/data";
import { listenForKeys, useKeys, type KeyAction } from "./state/keys";
import { TimeProvider } from "./state/time";
import { basePath, patched, useHref, useUrl } from "./state/url";
import css from "./app.module.css";

const Palette = lazy(() => import("./components/frame/palette").then((m) => ({ default: m.Palette })));
const MetricsPage = lazy(() => import("./pages/explore-metrics").then((m) => ({ default: m.MetricsPage })));
const LogsPage = lazy(() => import("./pages/logs").then((m) => ({ default: m.LogsPage })));
const TracesPage = lazy(() => import("./pages/traces").then((m) => ({ default: m.TracesPage })));
const TracePage = lazy(() => import("./pages/trace").then((m) => ({ default: m.TracePage })));
const DashboardsPage = lazy(() => import("./pages/dashboards").then((m) => ({ default: m.DashboardsPage })));
const DashboardPage = lazy(() => import("./pages/dashboard").then((m) => ({ default: m.DashboardPage })));
const AlertsPage = lazy(() => import("./pages/alerts").then((m) => ({ default: m.AlertsPage })));
const CardinalityPage = lazy(() => import("./pages/cardinality").then((m) => ({ default: m.CardinalityPage })));
const StatusPage = lazy(() => import("./pages/status").then((m) => ({ default: m.StatusPage })));

export function App() {
  return (
    <QueryClientProvider client={queryClient}>
      <Router base={basePath}>
        <TimeProvider>
          <Frame />
        </TimeProvider>
      </Router>
    </QueryClientProvider>
  );
}

function Frame() {
  const [help, setHelp] = useState(false);
  const [palette, setPalette] = useState(false);
  const [login, setLogin] = useState(loginNeeded());
  const [, navigate] = useLocation();
  const { params, set } = useUrl();
  const href = useHref();
  const peek = params.get("peek") ?? "";

  useEffect(listenForKeys, []);
  useEffect(
    () =>
      onAuthChange(() => {
        setLogin(loginNeeded());
        if (!loginNeeded()) void queryClient.resetQueries();
      }),
    [],
  );

  const keys = useMemo<KeyAction[]>(() => {
    const go = (key: string, label: string, path: string): KeyAction => ({ keys: `g ${key}`, label, group: "Go to", run: () => navigate(href(path)) });
    return [
      go("h", "Home", "/"),
      go("m", "Metrics", "/explore/metrics"),
      go("l", "Logs", "/logs"),
      go("t", "Traces", "/traces"),
      go("d", "Dashboards", "/dashboards"),
      go("a", "Alerts", "/alerts"),
      go(",", "Status", "/status"),
      go("c", "Cardinality", "/status/cardinality"),
      { keys: "/", label: "Focus the search box", group: "Page", run: () => document.querySelector<HTMLElement>("[data-focus=search]")?.focus() },
      { keys: "Ctrl+K", label: "Go to anything, run anything", group: "Page", run: () => setPalette(true) },
      { keys: "?", label: "This help", group: "Page", run: () => setHelp((open) => !open) },
      {
        keys: "Escape",
        label: "Close the drawer",
        group: "Page",
        run: () => {
          const active = document.activeElement;
          if (help) setHelp(false);
          else if (active instanceof HTMLElement && /^(INPUT|TEXTAREA)$/.test(active.tagName)) active.blur();
          else if (peek) set({ peek: undefined });
        },
      },
    ];
  }, [navigate, href, set, help, peek]);
  useKeys(keys);

  return (
    <div class={css["frame"]}>
      <a class={css["skip"]} href="#main" onClick={(event) => {
        event.preventDefault();
        document.getElementById("main")?.focus();
      }}>
        Skip to content
      </a>
      <Rail onHelp={() => setHelp(true)} onSearch={() => setPalette(true)} />
      <main class={css["main"]} id="main" tabIndex={-1}>
        <Suspense fallback={<Skeleton lines={6} />}>
          <Switch>
            <Route path="/" component={HomePage} />
            <Route path="/explore/metrics" component={MetricsPage} />
            <Route path="/explore" component={FromGrafana} />
            <Route path="/graph" component={FromPrometheus} />
            <Route path="/query" component={FromPrometheus} />
            <Route path="/logs" component={LogsPage} />
            <Route path="/traces" component={TracesPage} />
            <Route path="/search">
              <Moved to="/traces" />
            </Route>
            <Route path="/trace/:id">{(p) => <TracePage id={p.id} />}</Route>
            <Route path="/dashboards" component={DashboardsPage} />
            <Route path="/d/:uid/:slug?">{(p) => <DashboardPage key={p.uid} uid={p.uid} />}</Route>
            <Route path="/d-solo/:uid/:slug?">{(p) => <Moved to={`/d/${encodeURIComponent(p.uid)}`} />}</Route>
            <Route path="/alerts" component={AlertsPage} />
            <Route path="/rules">
              <Moved to="/alerts" />
            </Route>
            <Route path="/alerting/list">
              <Moved to="/alerts" />
            </Route>
            <Route path="/targets">
              <Moved to="/status" />
            </Route>
            <Route path="/status/cardinality" component={CardinalityPage} />
            <Route path="/status/*?" component={StatusPage} />
            <Route>
              <Empty icon="search" title="There is no such page" testid="not-found" actions={<a class="link" href={`${basePath}/`}>Go home</a>} />
            </Route>
          </Switch>
        </Suspense>
      </main>
      {peek && <PeekDrawer what={peek} onClose={() => set({ peek: undefined })} />}
      {palette && (
        <Suspense fallback={null}>
          <Palette onClose={() => setPalette(false)} />
        </Suspense>
      )}
      {help && <Help onClose={() => setHelp(false)} />}
      {login && <Login />}
    </div>
  );
}

/** Prometheus's own links, `/graph?g0.expr=...`, open the same expression here. */
function FromPrometheus() {
  const search = useSearch();
  return <Redirect replace to={`/explore/metrics${patched("", promGraphParams(new URLSearchParams(search)))}`} />;
}

function FromGrafana() {
  const search = useSearch();
  const { path, params } = grafanaExplore(new URLSearchParams(search));
  return <Redirect replace to={path + patched("", params)} />;
}

function Moved({ to }: { to: string }) {
  const search = useSearch();
  return <Redirect replace to={to + (search ? `?${search}` : "")} />;
}
