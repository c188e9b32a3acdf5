// A dialog over the page: focus goes in and stays in, Escape and a click beside it close it.
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import css from "./frame.module.css";

interface Props {
  label: string;
  testid: string;
  onClose?: () => void;
  class?: string | undefined;
  children: ComponentChildren;
}

export function Dialog({ label, testid, onClose, class: className, children }: Props) {
  const ref = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const before = document.activeElement;
    const first = ref.current?.querySelector<HTMLElement>("input") ?? ref.current?.querySelector<HTMLElement>("button");
    (first ?? ref.current)?.focus();
    return () => {
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.key === "Escape" && onClose) {
      event.preventDefault();
      event.stopPropagation();
      onClose();
    } else if (event.key === "Tab") {
      const all = [...(ref.current?.querySelectorAll<HTMLElement>("a[href], button:not(:disabled), input, select, textarea") ?? [])];
      const edge = event.shiftKey ? all[0] : all[all.length - 1];
      if (document.activeElement === edge) {
        event.preventDefault();
        (event.shiftKey ? all[all.length - 1] : all[0])?.focus();
      }
    }
  };
  return (
    <div
      class={css["veil"]}
      onPointerDown={(event) => {
        if (event.target === event.currentTarget) onClose?.();
      }}
    >
      <div class={`${css["dialog"]} ${className ?? ""}`} ref={ref} role="dialog" aria-modal="true" aria-label={label} tabIndex={-1} data-testid={testid} onKeyDown={onKeyDown}>
        {children}
      </div>
    </div>
  );
}
