// The keyboard: one table of actions, from which the help is written too.
import { useEffect } from "preact/hooks";

export interface KeyAction {
  readonly keys: string; // "g h" is a chord
  readonly label: string;
  readonly group: string;
  run(event: KeyboardEvent): void;
}

const typing = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));

const registered = new Set<readonly KeyAction[]>();

/** All actions there are now, for the help. */
export const keyActions = (): KeyAction[] => [...registered].flat();

/** Keys stay with the page while it is shown. `Escape` also works while typing. */
export function useKeys(actions: readonly KeyAction[]): void {
  useEffect(() => {
    registered.add(actions);
    return () => void registered.delete(actions);
  }, [actions]);
}

let chord = "";
let chordAt = 0;

/** Installs the one listener; later registrations win, so that a page overrides the frame. */
export function listenForKeys(): () => void {
  const onKey = (event: KeyboardEvent): void => {
    if (event.defaultPrevented || event.altKey) return;
    if (event.ctrlKey || event.metaKey) {
      // Works while typing too; only keys of the table are taken from the browser.
      const action = keyActions().find((a) => a.keys === `Ctrl+${event.key.toUpperCase()}`);
      if (!action || event.shiftKey) return;
      event.preventDefault();
      action.run(event);
      return;
    }
    if (event.key !== "Escape" && typing(event.target)) return;
    const now = Date.now();
    const combined = chord && now - chordAt < 1200 ? `${chord} ${event.key}` : event.key;
    chord = "";
    const actions = keyActions().reverse();
    const action = actions.find((a) => a.keys === combined) ?? actions.find((a) => a.keys === event.key);
    if (action) {
      event.preventDefault();
      action.run(event);
    } else if (actions.some((a) => a.keys.startsWith(`${event.key} `))) {
      chord = event.key;
      chordAt = now;
    }
  };
  window.addEventListener("keydown", onKey);
  return () => window.removeEventListener("keydown", onKey);
}
