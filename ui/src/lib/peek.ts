// What the drawer shows, as written in the URL.

export interface Peek {
  readonly traceId: string;
  readonly spanId: string | undefined;
}

export const tracePeek = (traceId: string, spanId?: string): string => (spanId ? `trace:${traceId}:span:${spanId}` : `trace:${traceId}`);

/** Undefined when the text is not a peek this page knows. */
export function parsePeek(text: string): Peek | undefined {
  const match = /^trace:([0-9a-f]{1,32})(?::(?:span:)?([0-9a-f]{1,16}))?$/i.exec(text);
  return match?.[1] ? { traceId: match[1].toLowerCase(), spanId: match[2]?.toLowerCase() } : undefined;
}
