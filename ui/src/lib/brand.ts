// Branded units: a number of one unit cannot be passed where another is meant.

export type UnixMs = number & { readonly unit: "unix_ms" };
export type UnixUs = number & { readonly unit: "unix_us" };
export type UnixNs = bigint & { readonly unit: "unix_ns" };
export type DurationMs = number & { readonly unit: "duration_ms" };
export type DurationUs = number & { readonly unit: "duration_us" };

export const unixMs = (n: number): UnixMs => Math.round(n) as UnixMs;
export const unixUs = (n: number): UnixUs => Math.round(n) as UnixUs;
export const unixNs = (n: bigint | string): UnixNs => BigInt(n) as UnixNs;
export const durationMs = (n: number): DurationMs => n as DurationMs;
export const durationUs = (n: number): DurationUs => n as DurationUs;

export const nsToMs = (ns: UnixNs): UnixMs => Number(ns / 1_000_000n) as UnixMs;
export const msToNs = (ms: UnixMs): UnixNs => (BigInt(Math.round(ms)) * 1_000_000n) as UnixNs;
export const usToMs = (us: UnixUs): UnixMs => Math.round(us / 1000) as UnixMs;
export const msToUs = (ms: UnixMs): UnixUs => Math.round(ms * 1000) as UnixUs;
