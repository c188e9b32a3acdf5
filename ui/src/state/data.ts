// Server data: one cache, stale requests aborted, the last answer kept while the next is loading.
import { keepPreviousData, QueryClient, useQuery } from "@tanstack/preact-query";
import { useEffect, useRef } from "preact/hooks";
import { ShapeError } from "../api/check";
import { ApiError } from "../api/client";

export const queryClient = new QueryClient({
  defaultOptions: {
    queries: {
      gcTime: 60_000,
      staleTime: 5_000,
      refetchOnWindowFocus: false,
      retry: (count, error) => error instanceof ApiError && (error.status === 0 || error.status >= 502) && count < 1,
      retryDelay: 600,
    },
  },
});

export interface Loaded<T> {
  readonly data: T | undefined;
  readonly error: ApiError | undefined;
  /** Nothing to show yet. */
  readonly loading: boolean;
  /** Something is on its way; old data may be shown. */
  readonly busy: boolean;
  retry(): void;
}

export interface DataOptions {
  readonly enabled?: boolean;
  readonly everyMs?: number;
  /** Show the answer to the previous key meanwhile; false when it would mislead. */
  readonly keep?: boolean;
}

const asApiError = (error: unknown): ApiError =>
  error instanceof ApiError
    ? error
    : new ApiError(error instanceof Error ? error.message : "unexpected error", 0, error instanceof ShapeError ? "shape" : "page");

export function useData<T>(key: readonly unknown[], load: (signal: AbortSignal) => Promise<T>, options: DataOptions = {}): Loaded<T> {
  const { enabled = true, everyMs, keep = true } = options;
  const query = useQuery({
    queryKey: key,
    queryFn: ({ signal }: { signal: AbortSignal }) => load(signal),
    enabled,
    ...(everyMs ? { refetchInterval: everyMs } : {}),
    ...(keep ? { placeholderData: keepPreviousData } : {}),
  });
  return {
    data: enabled ? (query.data as T | undefined) : undefined,
    error: query.error && enabled ? asApiError(query.error) : undefined,
    loading: enabled && query.isPending,
    busy: query.isFetching,
    retry: () => void query.refetch(),
  };
}

/** The last value given, for callbacks that outlive a render. */
export function useLatest<T>(value: T): { readonly current: T } {
  const ref = useRef(value);
  useEffect(() => {
    ref.current = value;
  });
  return ref;
}
