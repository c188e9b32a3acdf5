// A query editor: a text area that grows, completes the word at the caret, runs on Enter.
import { useEffect, useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import css from "./query-input.module.css";

export interface Suggestion {
  readonly text: string;
  readonly kind: string;
}

interface Props {
  readonly value: string;
  readonly label: string;
  readonly placeholder?: string;
  readonly testid: string;
  readonly suggestions: readonly Suggestion[];
  readonly onChange: (value: string) => void;
  readonly onRun: (value: string) => void;
}

const SHOWN = 50;

/** Those that start with `word` first, then those that contain it; shorter first. */
export function rank(suggestions: readonly Suggestion[], word: string): Suggestion[] {
  const want = word.toLowerCase();
  if (want.length < 1) return [];
  const score = (s: Suggestion): number => {
    const text = s.text.toLowerCase();
    return text === want ? -1 : text.startsWith(want) ? 0 : text.includes(want) ? 1 : 2;
  };
  return suggestions
    .map((s) => ({ s, score: score(s) }))
    .filter((entry) => entry.score < 2)
    .sort((a, b) => a.score - b.score || a.s.text.length - b.s.text.length || (a.s.text < b.s.text ? -1 : 1))
    .slice(0, SHOWN)
    .map((entry) => entry.s);
}

/** Where the word that ends at `caret` begins; -1 inside a quoted string. */
export function wordStart(text: string, caret: number): number {
  const before = text.slice(0, caret);
  const quotes = before.replace(/\\./g, "").match(/"/g)?.length ?? 0;
  if (quotes % 2 === 1) return -1;
  return caret - (/[\w:.]*$/.exec(before)?.[0].length ?? 0);
}

export function QueryInput({ value, label, placeholder, testid, suggestions, onChange, onRun }: Props) {
  const area = useRef<HTMLTextAreaElement>(null);
  const listId = useId();
  const [word, setWord] = useState("");
  const [chosen, setChosen] = useState(0);
  const [moved, setMoved] = useState(false);
  const options = rank(suggestions, word);
  const only = options.length === 1 && options[0]?.text === word;
  const open = options.length > 0 && !only;

  useLayoutEffect(() => {
    const element = area.current;
    if (!element) return;
    element.style.height = "auto";
    element.style.height = `${element.scrollHeight + 2}px`;
  }, [value]);

  useEffect(() => {
    if (open) document.getElementById(`${listId}-${chosen}`)?.scrollIntoView({ block: "nearest" });
  }, [open, chosen, listId]);

  const look = (): void => {
    const element = area.current;
    if (!element) return;
    const start = wordStart(element.value, element.selectionStart);
    setWord(start < 0 ? "" : element.value.slice(start, element.selectionStart));
    setChosen(0);
    setMoved(false);
  };

  const accept = (suggestion: Suggestion | undefined): void => {
    const element = area.current;
    if (!element || !suggestion) return;
    const caret = element.selectionStart;
    const start = Math.max(0, wordStart(element.value, caret));
    const insert = suggestion.kind === "function" ? `${suggestion.text}(` : suggestion.text;
    const next = element.value.slice(0, start) + insert + element.value.slice(caret);
    onChange(next);
    setWord("");
    requestAnimationFrame(() => {
      element.focus();
      element.setSelectionRange(start + insert.length, start + insert.length);
    });
  };

  const onKeyDown = (event: KeyboardEvent): void => {
    if (open && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      event.preventDefault();
      const step = event.key === "ArrowDown" ? 1 : -1;
      setChosen(moved ? (chosen + step + options.length) % options.length : step > 0 ? Math.min(1, options.length - 1) : options.length - 1);
      setMoved(true);
    } else if (open && (event.key === "Tab" || (event.key === "Enter" && moved && !event.shiftKey))) {
      event.preventDefault();
      accept(options[chosen]);
    } else if (open && event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      setWord("");
    } else if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      setWord("");
      onRun(area.current?.value ?? value);
    }
  };

  return (
    <div class={css["box"]}>
      <textarea
        ref={area}
        class={css["area"]}
        rows={1}
        value={value}
        placeholder={placeholder}
        aria-label={label}
        data-testid={testid}
        data-focus="search"
        spellcheck={false}
        autocomplete="off"
        autocapitalize="off"
        aria-autocomplete="list"
        aria-controls={open ? listId : undefined}
        aria-activedescendant={open ? `${listId}-${chosen}` : undefined}
        onInput={(event) => {
          onChange(event.currentTarget.value);
          look();
        }}
        onKeyDown={onKeyDown}
        onBlur={() => setTimeout(() => setWord(""), 120)}
      />
      {open && (
        <ul class={css["list"]} role="listbox" id={listId} aria-label="Suggestions" data-testid={`${testid}-suggestions`}>
          {options.map((option, index) => (
            <li
              key={`${option.kind} ${option.text}`}
              id={`${listId}-${index}`}
              class={css["option"]}
              role="option"
              aria-selected={index === chosen}
              onPointerDown={(event) => {
                event.preventDefault();
                accept(option);
              }}
            >
              <span class="cut">{option.text}</span>
              <span>{option.kind}</span>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
