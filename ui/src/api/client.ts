// One way to the server: relative to the page's base, with the session's credentials, errors in one form.
import { authorization, requireLogin } from "../state/auth";

export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly kind: string,
    /** Where in the query, when the server says; both start at 1. */
    readonly position: { readonly line: number; readonly column: number } | undefined = undefined,
  ) {
    super(message);
  }
}

export type Params = Record<string, string | number | readonly string[] | undefined>;

export interface Request {
  readonly params?: Params;
  readonly form?: Params; // sent as a POST body
  readonly headers?: Record<string, string>;
  readonly signal?: AbortSignal;
}

export function encode(params: Params): URLSearchParams {
  const out = new URLSearchParams();
  for (const [key, value] of Object.entries(params)) {
    if (value === undefined) continue;
    for (const item of Array.isArray(value) ? (value as readonly string[]) : [value]) out.append(key, `${item}`);
  }
  return out;
}

/** Under whatever prefix the page is served. */
export function apiUrl(path: string, params: Params = {}): string {
  const url = new URL(path, document.baseURI);
  url.search = encode(params).toString();
  return url.toString();
}

/** `1:5: parse error: ...` and `parse error at line 1, col 5: ...`. */
export function findPosition(message: string): ApiError["position"] {
  const match = /\b(\d+):(\d+)\b/.exec(message) ?? /line (\d+),? col(?:umn)? (\d+)/i.exec(message);
  return match ? { line: Number(match[1]), column: Number(match[2]) } : undefined;
}

function errorOf(status: number, body: string): ApiError {
  let message = body.trim();
  let kind = "";
  try {
    const json = JSON.parse(body) as Record<string, unknown>;
    const first = Array.isArray(json["errors"]) ? (json["errors"][0] as Record<string, unknown> | undefined) : undefined;
    const said = json["error"] ?? json["message"] ?? first?.["msg"];
    if (typeof said === "string") message = said;
    if (typeof json["errorType"] === "string") kind = json["errorType"];
  } catch {
    if (/^\s*</.test(message)) message = ""; // a proxy's page says nothing a reader wants
  }
  return new ApiError(message.slice(0, 2000) || `the server answered ${status}`, status, kind, findPosition(message));
}

/**
 * A browser opens six connections to a plain HTTP server. One stays free, so that a slow answer never
 * holds up the next page or a piece of this one.
 */
const IN_FLIGHT_MAX = 5;
let inFlight = 0;
const waiting: (() => void)[] = [];

async function turn(signal: AbortSignal | undefined): Promise<void> {
  if (inFlight >= IN_FLIGHT_MAX) {
    await new Promise<void>((resolve, reject) => {
      const go = (): void => {
        signal?.removeEventListener("abort", stop);
        resolve();
      };
      const stop = (): void => {
        waiting.splice(waiting.indexOf(go), 1);
        reject(new DOMException("aborted while waiting", "AbortError"));
      };
      waiting.push(go);
      signal?.addEventListener("abort", stop, { once: true });
    });
  }
  inFlight++;
}

function done(): void {
  inFlight--;
  waiting.shift()?.();
}

async function send(path: string, request: Request): Promise<string> {
  await turn(request.signal);
  try {
    return await answer(path, request);
  } finally {
    done();
  }
}

async function answer(path: string, request: Request): Promise<string> {
  const headers: Record<string, string> = { Accept: "application/json", ...request.headers };
  const auth = authorization();
  if (auth) headers["Authorization"] = auth;
  const init: RequestInit = { headers, credentials: "same-origin" };
  if (request.signal) init.signal = request.signal;
  if (request.form) {
    init.method = "POST";
    init.body = encode(request.form);
  }
  let response: Response;
  let text: string;
  try {
    response = await fetch(apiUrl(path, request.params), init);
    text = await response.text();
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError("the server cannot be reached", 0, "network");
  }
  if (response.ok) return text;
  if (response.status === 401) requireLogin();
  throw errorOf(response.status, text);
}

/** Saves what stands at a URL as a file: for credentials that a link would not send. */
export async function download(url: string, name: string): Promise<void> {
  const response = await fetch(url, { headers: { Authorization: authorization() }, credentials: "same-origin" });
  if (response.status === 401) requireLogin();
  if (!response.ok) throw errorOf(response.status, await response.text());
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

export async function getJson(path: string, request: Request = {}): Promise<unknown> {
  const text = await send(path, request);
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new ApiError(`the answer of ${path} is not JSON`, 200, "shape");
  }
}
