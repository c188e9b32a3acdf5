// The eight places, always one click away; on a phone the rail lies at the bottom.
import { Link, useLocation } from "wouter-preact";
import { setTheme, useTheme, type Theme } from "../../state/theme";
import { useHref } from "../../state/url";
import { Icon, Logo, type IconName } from "../kit/icon";
import css from "./frame.module.css";

const PLACES: readonly { path: string; name: string; icon: IconName; under: readonly string[] }[] = [
  { path: "/", name: "Home", icon: "home", under: [] },
  { path: "/explore/metrics", name: "Metrics", icon: "metrics", under: [] },
  { path: "/logs", name: "Logs", icon: "logs", under: [] },
  { path: "/traces", name: "Traces", icon: "traces", under: ["/trace/"] },
  { path: "/dashboards", name: "Dashboards", icon: "dashboards", under: ["/d/"] },
  { path: "/alerts", name: "Alerts", icon: "alerts", under: [] },
];

const NEXT: Record<Theme, { to: Theme; icon: IconName; name: string }> = {
  system: { to: "light", icon: "system", name: "Theme: as the system" },
  light: { to: "dark", icon: "sun", name: "Theme: light" },
  dark: { to: "system", icon: "moon", name: "Theme: dark" },
};

export function Rail({ onHelp, onSearch }: { onHelp: () => void; onSearch: () => void }) {
  const [path] = useLocation();
  const href = useHref();
  const { theme } = useTheme();
  const next = NEXT[theme];
  const place = (p: (typeof PLACES)[number]) => {
    const here = path === p.path || p.under.some((prefix) => path.startsWith(prefix));
    return (
      <Link key={p.path} class={css["place"]} href={href(p.path)} aria-label={p.name} aria-current={here ? "page" : undefined} data-name={p.name} data-testid={`nav-${p.name.toLowerCase()}`}>
        <Icon name={p.icon} size={19} />
      </Link>
    );
  };
  return (
    <nav class={css["rail"]} aria-label="Places" data-testid="rail">
      <Link class={css["logo"]} href={href("/")} aria-label="Trefoil home" tabIndex={-1}>
        <Logo />
      </Link>
      {PLACES.map(place)}
      <span class={css["spring"]} />
      <button type="button" class={`${css["place"]} ${css["extra"]}`} aria-label="Go to anything (Ctrl+K)" data-name="Go to anything" data-testid="palette-open" onClick={onSearch}>
        <Icon name="search" size={18} />
      </button>
      <button type="button" class={`${css["place"]} ${css["extra"]}`} aria-label={next.name} data-name={next.name} data-testid="theme-toggle" onClick={() => setTheme(next.to)}>
        <Icon name={next.icon} size={18} />
      </button>
      <button type="button" class={`${css["place"]} ${css["extra"]}`} aria-label="Keyboard help" data-name="Keyboard help" data-testid="help-open" onClick={onHelp}>
        <Icon name="help" size={18} />
      </button>
      {place({ path: "/status", name: "Status", icon: "status", under: ["/status/"] })}
    </nav>
  );
}
