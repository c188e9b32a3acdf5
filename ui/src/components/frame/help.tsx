import { keyActions } from "../../state/keys";
import { Button } from "../kit/kit";
import { Dialog } from "./dialog";
import css from "./frame.module.css";

/** The keys there are now: written from the table that runs them. */
export function Help({ onClose }: { onClose: () => void }) {
  const groups = new Map<string, Map<string, string>>();
  for (const action of keyActions()) {
    const group = groups.get(action.group) ?? new Map<string, string>();
    group.set(action.keys, action.label);
    groups.set(action.group, group);
  }
  return (
    <Dialog label="Keyboard" testid="help" onClose={onClose}>
      <header>
        <h2>Keyboard</h2>
        <Button kind="ghost" icon="close" label="Close" onClick={onClose} />
      </header>
      <div class={css["help"]}>
        {[...groups].map(([name, actions]) => (
          <section key={name}>
            <h3>{name}</h3>
            <ul>
              {[...actions].map(([keys, label]) => (
                <li key={keys}>
                  <span>{label}</span>
                  <span>
                    {keys.split(" ").map((key) => (
                      <kbd key={key}>{KEY_NAMES[key] ?? key}</kbd>
                    ))}
                  </span>
                </li>
              ))}
            </ul>
          </section>
        ))}
      </div>
    </Dialog>
  );
}

const KEY_NAMES: Record<string, string> = { Escape: "Esc", ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→" };
