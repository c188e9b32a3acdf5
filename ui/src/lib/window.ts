// Which rows of a long list are in view, when a few of them are opened and taller.

export interface Extra {
  readonly index: number;
  readonly height: number;
}

export interface WindowInput {
  readonly count: number;
  readonly rowHeight: number;
  readonly extras: readonly Extra[]; // sorted by index
  readonly scrollTop: number;
  readonly viewport: number;
  readonly overscan?: number;
}

export interface Window {
  readonly start: number; // first row drawn
  readonly end: number; // one past the last
  readonly offset: number; // pixels above the first row
  readonly total: number; // pixels of the whole list
}

/** Pixels above row `index`. */
export function offsetOf(index: number, rowHeight: number, extras: readonly Extra[]): number {
  let offset = index * rowHeight;
  for (const extra of extras) {
    if (extra.index >= index) break;
    offset += extra.height;
  }
  return offset;
}

/** The row at pixel `top`. */
export function rowAt(top: number, count: number, rowHeight: number, extras: readonly Extra[]): number {
  let above = 0;
  for (const extra of extras) {
    const extraTop = (extra.index + 1) * rowHeight + above;
    if (top < extraTop) break;
    if (top < extraTop + extra.height) return Math.min(count - 1, extra.index);
    above += extra.height;
  }
  return Math.max(0, Math.min(count - 1, Math.floor((top - above) / rowHeight)));
}

export function computeWindow(input: WindowInput): Window {
  const { count, rowHeight, extras, scrollTop, viewport, overscan = 8 } = input;
  const total = count * rowHeight + extras.reduce((sum, extra) => sum + extra.height, 0);
  if (count === 0) return { start: 0, end: 0, offset: 0, total: 0 };
  const first = rowAt(Math.max(0, scrollTop), count, rowHeight, extras);
  const last = rowAt(Math.max(0, scrollTop + viewport), count, rowHeight, extras);
  const start = Math.max(0, first - overscan);
  const end = Math.min(count, last + 1 + overscan);
  return { start, end, offset: offsetOf(start, rowHeight, extras), total };
}
