// What would be shared stands in the URL: reading and changing its parameters.
import { useCallback, useMemo } from "preact/hooks";
import { useLocation, useSearch } from "wouter-preact";

/** The path under which the page is served, without the closing slash. */
export const basePath = new URL(document.baseURI).pathname.replace(/\/[^/]*$/, "");

export type Patch = Record<string, string | undefined>;

/** Parameters that stay when moving from page to page. */
const KEPT = ["from", "to", "refresh"];

export function patched(search: string, patch: Patch): string {
  const params = new URLSearchParams(search);
  for (const [key, value] of Object.entries(patch)) {
    if (value === undefined || value === "") params.delete(key);
    else params.set(key, value);
  }
  const text = params.toString();
  return text ? `?${text}` : "";
}

export function useUrl(): { params: URLSearchParams; set: (patch: Patch, replace?: boolean) => void } {
  const search = useSearch();
  const [path, navigate] = useLocation();
  const params = useMemo(() => new URLSearchParams(search), [search]);
  const set = useCallback(
    (patch: Patch, replace = false) => {
      // The address bar is newer than this render when two changes follow each other at once.
      navigate(path + patched(window.location.search, patch), { replace });
    },
    [path, navigate],
  );
  return { params, set };
}

/** A link to `path` that keeps the time range. */
export function useHref(): (path: string, params?: Patch) => string {
  const search = useSearch();
  return useCallback(
    (path, params = {}) => {
      const now = new URLSearchParams(search);
      const kept: Patch = {};
      for (const key of KEPT) kept[key] = now.get(key) ?? undefined;
      return path + patched("", { ...kept, ...params });
    },
    [search],
  );
}
