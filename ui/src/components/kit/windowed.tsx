// A long list of which only the rows in view exist. Rows are of one height; opened rows carry an
// extra part below them whose height is measured.
import type { ComponentChildren } from "preact";
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { computeWindow, offsetOf, type Extra } from "../../lib/window";

interface Props {
  readonly count: number;
  readonly rowHeight: number;
  readonly row: (index: number) => ComponentChildren;
  /** Rows that are open, with a stable key for each. */
  readonly opened?: ReadonlyMap<number, string>;
  readonly extra?: (index: number) => ComponentChildren;
  readonly footer?: ComponentChildren;
  readonly class?: string | undefined;
  readonly label: string;
  readonly role?: "list" | "tree";
  readonly testid?: string;
  /** Scrolls this row into view when it changes. */
  readonly reveal?: number | undefined;
  readonly onKeyDown?: (event: KeyboardEvent) => void;
  readonly onNearEnd?: () => void;
}

/** What stands directly in a list or tree has to be an item of it. */
const ITEM = { list: "listitem", tree: "treeitem" } as const;

const NONE: ReadonlyMap<number, string> = new Map();

export function Windowed({ count, rowHeight, row, opened = NONE, extra, footer, class: className, label, role = "list", testid, reveal, onKeyDown, onNearEnd }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const [scrollTop, setScrollTop] = useState(0);
  const [viewport, setViewport] = useState(600);
  const [heights, setHeights] = useState<ReadonlyMap<string, number>>(new Map());

  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    const measure = (): void => setViewport(element.clientHeight);
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  const extras = useMemo<Extra[]>(
    () => [...opened].map(([index, key]) => ({ index, height: heights.get(key) ?? 200 })).sort((a, b) => a.index - b.index),
    [opened, heights],
  );
  const view = computeWindow({ count, rowHeight, extras, scrollTop, viewport });

  const measured = useCallback((key: string, height: number) => {
    setHeights((old) => (old.get(key) === height ? old : new Map(old).set(key, height)));
  }, []);

  useEffect(() => {
    const element = box.current;
    if (!element || reveal === undefined || reveal < 0) return;
    const top = offsetOf(reveal, rowHeight, extras);
    if (top < element.scrollTop) element.scrollTop = Math.max(0, top - rowHeight * 2);
    else if (top + rowHeight > element.scrollTop + element.clientHeight) element.scrollTop = top - element.clientHeight + rowHeight * 4;
    // Only when the row to reveal changes: measuring must not scroll.
  }, [reveal]);

  const rows: ComponentChildren[] = [];
  for (let index = view.start; index < view.end; index++) {
    rows.push(row(index));
    const key = opened.get(index);
    if (key !== undefined && extra) {
      rows.push(
        <Measured key={`extra ${key}`} id={key} role={ITEM[role]} onHeight={measured}>
          {extra(index)}
        </Measured>,
      );
    }
  }

  return (
    <div
      ref={box}
      class={className}
      role={role}
      aria-label={label}
      tabIndex={0}
      data-testid={testid}
      onKeyDown={onKeyDown}
      onScroll={(event) => {
        const element = event.currentTarget;
        setScrollTop(element.scrollTop);
        if (onNearEnd && element.scrollTop + element.clientHeight > element.scrollHeight - 400) onNearEnd();
      }}
    >
      <div style={{ height: `${view.total}px`, position: "relative" }}>
        <div style={{ position: "absolute", top: `${view.offset}px`, left: "0", right: "0" }}>{rows}</div>
      </div>
      {footer && <div role={ITEM[role]}>{footer}</div>}
    </div>
  );
}

function Measured({ id, role, onHeight, children }: { id: string; role: "listitem" | "treeitem"; onHeight: (id: string, height: number) => void; children: ComponentChildren }) {
  const ref = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    const element = ref.current;
    if (!element) return;
    const measure = (): void => onHeight(id, element.offsetHeight);
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, [id, onHeight]);
  return (
    <div ref={ref} role={role}>
      {children}
    </div>
  );
}
