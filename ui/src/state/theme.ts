// Light, dark or as the system says: a preference of this browser.
import { useEffect, useState } from "preact/hooks";

export type Theme = "system" | "light" | "dark";
const KEY = "trefoil.theme";
const listeners = new Set<() => void>();
const dark = window.matchMedia("(prefers-color-scheme: dark)");

function saved(): Theme {
  try {
    const value = window.localStorage.getItem(KEY);
    return value === "light" || value === "dark" ? value : "system";
  } catch {
    return "system"; // storage may be switched off
  }
}

let theme = saved();

const resolved = (): "light" | "dark" => (theme === "system" ? (dark.matches ? "dark" : "light") : theme);

export function applyTheme(): void {
  document.documentElement.dataset["theme"] = resolved();
  for (const listener of listeners) listener();
}

dark.addEventListener("change", applyTheme);

export function setTheme(next: Theme): void {
  theme = next;
  try {
    window.localStorage.setItem(KEY, next);
  } catch {
    // the choice lasts for this page then
  }
  applyTheme();
}

/** The choice and what it comes to; drawings on canvas depend on the second. */
export function useTheme(): { theme: Theme; resolved: "light" | "dark" } {
  const [, redraw] = useState(0);
  useEffect(() => {
    const listener = (): void => redraw((n) => n + 1);
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }, []);
  return { theme, resolved: resolved() };
}
