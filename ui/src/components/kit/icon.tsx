// Icons in one hand: 24 px grid, 1.75 px strokes, drawn for this page.

const PATHS = {
  home: "M4 11.5 12 5l8 6.5M6 10v9h4.500v-5h3v5H18v-9",
  metrics: "M4 19V5M4 19h16M7.5 15l3.5-4.5 3 2.5 4.5-6.5",
  logs: "M5 6h14M5 10h9M5 14h12M5 18h7",
  traces: "M4 6h9M8 11h8M12 16h8M4 6v0M8 8.500V11M12 13.500V16",
  dashboards: "M4 4.500h7v8H4zM13.5 4.500H20v5h-6.500zM13.5 12H20v7.500h-6.500zM4 15h7v4.500H4z",
  alerts: "M6.5 16.500V11a5.5 5.5 0 0 1 11 0v5.500l1.5 1.500H5zM10 20.500h4",
  status: "M3.5 12h4l2.5-6.5 4 13 2.5-6.500h4",
  search: "M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13zM15.5 15.5 20 20",
  clock: "M12 20a8 8 0 1 0 0-16 8 8 0 0 0 0 16zM12 7.500V12l3 2",
  refresh: "M19.5 5v4.500H15M4.5 19v-4.500H9M18.7 9.500A7.2 7.2 0 0 0 6 7.500M5.3 14.500A7.2 7.2 0 0 0 18 16.5",
  close: "M6 6l12 12M18 6 6 18",
  down: "M6 9.500l6 6 6-6",
  right: "M9.5 6l6 6-6 6",
  left: "M14.5 6l-6 6 6 6",
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  copy: "M9 9h10.500v10.500H9zM5.5 15H4.500V4.500H15v1",
  check: "M5 12.500l4.5 4.500L19 7.5",
  warning: "M12 4.5 21 19.500H3zM12 10v4.500M12 17v.2",
  error: "M12 20.500a8.5 8.5 0 1 0 0-17 8.5 8.5 0 0 0 0 17zM12 8v5M12 15.800v.2",
  info: "M12 20.500a8.5 8.5 0 1 0 0-17 8.5 8.5 0 0 0 0 17zM12 11v5M12 8v.2",
  sun: "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM12 3v2M12 19v2M3 12h2M19 12h2M5.6 5.6 7 7M17 17l1.4 1.400M5.6 18.4 7 17M17 7l1.4-1.4",
  moon: "M19.5 14A8 8 0 0 1 10 4.500a8 8 0 1 0 9.5 9.500z",
  system: "M4 5h16v11H4zM9 20h6M12 16v4",
  external: "M13.5 4.500h6v6M19.5 4.5 11 13M17 13.500v6H4.500V7h6",
  zoomout: "M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13zM15.5 15.5 20 20M7.5 10.500h6",
  help: "M9.2 9a2.9 2.9 0 1 1 4.3 2.600c-1 .5-1.5 1.1-1.5 2.400M12 17.300v.2M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18z",
  filter: "M4 5.500h16l-6 7.500v6l-4-2v-4z",
  expand: "M4.5 9.500v-5h5M19.5 14.500v5h-5M4.5 4.500l6 6M19.5 19.500l-6-6",
  play: "M8 5.500v13l10.5-6.500z",
  tag: "M4.5 4.500h7l8 8-7 7-8-8zM8.2 8.200v.1",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 16, class: className }: { name: IconName; size?: number; class?: string }) {
  return (
    <svg class={className} width={size} height={size} viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.75" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

/** Three rings and a stem. */
export function Logo({ size = 22 }: { size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 32 32" fill="none" stroke="var(--accent)" stroke-width="3" stroke-linecap="round" aria-hidden="true">
      <circle cx="16" cy="9.6" r="5.6" />
      <circle cx="9.4" cy="19.4" r="5.6" />
      <circle cx="22.6" cy="19.4" r="5.6" />
      <path d="M16 17.400c.2 4.6-.8 8-3 11.2" />
    </svg>
  );
}
