// The small parts every page is made of.
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import type { ApiError } from "../../api/client";
import type { Labels as LabelSet } from "../../lib/labels";
import { Icon, type IconName } from "./icon";
import css from "./kit.module.css";

const cx = (...names: (string | false | undefined)[]): string => names.filter(Boolean).join(" ");

interface ButtonProps {
  kind?: "primary" | "ghost" | undefined;
  icon?: IconName | undefined;
  label?: string | undefined; // accessible name of an icon-only button, also its tooltip
  small?: boolean | undefined;
  pressed?: boolean | undefined;
  expanded?: boolean | undefined;
  disabled?: boolean | undefined;
  type?: "button" | "submit" | undefined;
  testid?: string | undefined;
  onClick?: (event: MouseEvent) => void;
  children?: ComponentChildren;
}

export function Button({ kind, icon, label, small, pressed, expanded, disabled, type = "button", testid, onClick, children }: ButtonProps) {
  return (
    <button
      type={type}
      class={cx(css["button"], kind && css[kind], small && css["small"], !children && css["icon"])}
      aria-label={label}
      title={label}
      aria-pressed={pressed}
      aria-expanded={expanded}
      disabled={disabled}
      data-testid={testid}
      onClick={onClick}
    >
      {icon && <Icon name={icon} size={small ? 13 : 15} />}
      {children}
    </button>
  );
}

export type Tone = "ok" | "warn" | "bad" | "info" | "plain";

export function Badge({ tone = "plain", dot, children, testid }: { tone?: Tone; dot?: boolean; children: ComponentChildren; testid?: string }) {
  return (
    <span class={cx(css["badge"], css[tone])} data-testid={testid}>
      {dot && <span class={css["dot"]} />}
      {children}
    </span>
  );
}

export function ColorDot({ color }: { color: string }) {
  return <span class={css["dot"]} style={{ color }} aria-hidden="true" />;
}

interface SegmentedProps<T extends string> {
  label: string;
  value: T;
  options: readonly { readonly value: T; readonly label: string }[];
  onChange: (value: T) => void;
  testid?: string;
}

/** A tab list; arrow keys move between the tabs. */
export function Segmented<T extends string>({ label, value, options, onChange, testid }: SegmentedProps<T>) {
  const onKeyDown = (event: KeyboardEvent): void => {
    const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (step === 0) return;
    event.preventDefault();
    const at = options.findIndex((option) => option.value === value);
    const next = options[(at + step + options.length) % options.length];
    if (!next) return;
    onChange(next.value);
    const buttons = (event.currentTarget as HTMLElement).querySelectorAll("button");
    buttons[options.indexOf(next)]?.focus();
  };
  return (
    <div class={css["segmented"]} role="tablist" aria-label={label} data-testid={testid} onKeyDown={onKeyDown}>
      {options.map((option) => (
        <button
          type="button"
          role="tab"
          key={option.value}
          aria-selected={option.value === value}
          tabIndex={option.value === value ? 0 : -1}
          data-testid={testid && `${testid}-${option.value}`}
          onClick={() => onChange(option.value)}
        >
          {option.label}
        </button>
      ))}
    </div>
  );
}

export function Card({ title, aside, children, class: className, testid }: { title?: ComponentChildren; aside?: ComponentChildren; children: ComponentChildren; class?: string | undefined; testid?: string }) {
  return (
    <section class={cx(css["card"], className)} data-testid={testid}>
      {title && (
        <header class={css["cardHead"]}>
          <h2>{title}</h2>
          {aside}
        </header>
      )}
      {children}
    </section>
  );
}

export function Notice({ tone, title, children, testid }: { tone: "bad" | "warn" | "info"; title?: string | undefined; children?: ComponentChildren; testid?: string }) {
  return (
    <div class={cx(css["notice"], css[tone])} role={tone === "bad" ? "alert" : "status"} data-testid={testid}>
      <Icon name={tone === "bad" ? "error" : tone === "warn" ? "warning" : "info"} />
      <div class={css["noticeBody"]}>
        {title && <strong>{title}</strong>} {children}
      </div>
    </div>
  );
}

/** What the server said, with the query and the place in it. */
export function ErrorNotice({ error, query, retry }: { error: ApiError; query?: string; retry?: () => void }) {
  const { position } = error;
  const line = position && query ? query.split("\n")[position.line - 1] : undefined;
  return (
    <div class={cx(css["notice"], css["bad"])} role="alert" data-testid="error">
      <Icon name="error" />
      <div class={css["noticeBody"]}>
        <span data-testid="error-message">{error.message}</span>
        {position && line !== undefined && (
          <pre data-testid="error-position">{`${line}\n${" ".repeat(Math.max(0, position.column - 1))}^`}</pre>
        )}
      </div>
      {retry && (
        <Button small icon="refresh" onClick={retry} testid="error-retry">
          Retry
        </Button>
      )}
    </div>
  );
}

export function Warnings({ warnings, infos = [] }: { warnings: readonly string[]; infos?: readonly string[] }) {
  const said: { tone: "warn" | "info"; text: string }[] = [
    ...[...new Set(warnings)].map((text) => ({ tone: "warn" as const, text })),
    ...[...new Set(infos)].map((text) => ({ tone: "info" as const, text })),
  ];
  return (
    <>
      {said.slice(0, 5).map(({ tone, text }) => (
        <Notice key={text} tone={tone} testid={tone === "warn" ? "warning" : "info"}>
          {text}
        </Notice>
      ))}
      {said.length > 5 && <p class="muted">and {said.length - 5} more</p>}
    </>
  );
}

export function Empty({ icon = "info", title, children, actions, testid = "empty" }: { icon?: IconName; title: string; children?: ComponentChildren; actions?: ComponentChildren; testid?: string }) {
  return (
    <div class={css["empty"]} data-testid={testid}>
      <Icon name={icon} size={24} />
      <strong>{title}</strong>
      {children && <p>{children}</p>}
      {actions && <div class={css["actions"]}>{actions}</div>}
    </div>
  );
}

const WIDTHS = ["86%", "62%", "74%", "48%", "80%", "57%", "69%", "41%"];

export function Skeleton({ lines = 4 }: { lines?: number }) {
  return (
    <div class={css["skeleton"]} role="status" aria-label="Loading" data-testid="loading">
      {Array.from({ length: lines }, (_, index) => (
        <i key={index} style={{ width: WIDTHS[index % WIDTHS.length] ?? "60%" }} />
      ))}
    </div>
  );
}

/** A thin moving line at the top edge while something newer is on its way. */
export const Progress = ({ active }: { active: boolean }) => (active ? <div class={css["progress"]} aria-hidden="true" /> : null);

interface PopoverProps {
  trigger: (open: boolean, toggle: () => void) => ComponentChildren;
  label: string;
  start?: boolean;
  open: boolean;
  onOpen: (open: boolean) => void;
  children: ComponentChildren;
}

/** A panel under its trigger; closes on Escape, on a click elsewhere, and when focus leaves. */
export function Popover({ trigger, label, start, open, onOpen, children }: PopoverProps) {
  const ref = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!open) return;
    const onDown = (event: PointerEvent): void => {
      if (event.target instanceof Node && !ref.current?.contains(event.target)) onOpen(false);
    };
    const onKey = (event: KeyboardEvent): void => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      event.preventDefault();
      onOpen(false);
      ref.current?.querySelector<HTMLElement>("button")?.focus();
    };
    document.addEventListener("pointerdown", onDown);
    document.addEventListener("keydown", onKey, true);
    return () => {
      document.removeEventListener("pointerdown", onDown);
      document.removeEventListener("keydown", onKey, true);
    };
  }, [open, onOpen]);
  return (
    <div class={css["popover"]} ref={ref}>
      {trigger(open, () => onOpen(!open))}
      {open && (
        <div class={cx(css["panel"], start && css["start"])} role="dialog" aria-label={label}>
          {children}
        </div>
      )}
    </div>
  );
}

export async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Plain HTTP has no clipboard API; the old way still works there.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

export function CopyButton({ text, label = "Copy", small = true }: { text: string; label?: string; small?: boolean }) {
  const [done, setDone] = useState(false);
  useEffect(() => {
    if (!done) return;
    const timer = setTimeout(() => setDone(false), 1500);
    return () => clearTimeout(timer);
  }, [done]);
  return (
    <Button kind="ghost" small={small} icon={done ? "check" : "copy"} label={done ? "Copied" : label} onClick={() => void copyText(text).then(setDone)} />
  );
}

export function Code({ text, testid }: { text: string; testid?: string }) {
  return (
    <div class={css["code"]}>
      <pre data-testid={testid} tabIndex={0}>
        {text}
      </pre>
      <CopyButton text={text} />
    </div>
  );
}

export function LabelList({ labels, hide = [] }: { labels: LabelSet; hide?: readonly string[] }) {
  const keys = Object.keys(labels).filter((key) => !hide.includes(key)).sort();
  return (
    <span class={css["labels"]}>
      {keys.map((key) => (
        <span class={css["label"]} key={key} title={`${key}="${labels[key] ?? ""}"`}>
          <b>{key}=</b>
          {labels[key]}
        </span>
      ))}
    </span>
  );
}

export function Field({ label, children }: { label: string; children: (id: string) => JSX.Element }) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {children(id)}
    </div>
  );
}

export const tableClass = css["table"] ?? "";
export const denseTableClass = `${css["table"]} ${css["dense"]}`;
export const rightClass = css["right"] ?? "";
export const labelClass = css["label"] ?? "";
