// One page: its bar with title, the page's own tools and the time control; its body below.
import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import { Progress } from "../kit/kit";
import css from "./frame.module.css";
import { TimeControl } from "./time-control";

interface Props {
  title: string;
  heading?: ComponentChildren; // instead of the plain title
  tools?: ComponentChildren;
  time?: boolean;
  busy?: boolean;
  flush?: boolean; // the body manages its own scrolling and padding
  testid: string;
  children: ComponentChildren;
}

export function Page({ title, heading, tools, time = true, busy = false, flush = false, testid, children }: Props) {
  useEffect(() => {
    document.title = title === "Trefoil" ? title : `${title} · Trefoil`;
  }, [title]);
  return (
    <>
      <header class={css["bar"]}>
        <div class={css["title"]}>{heading ?? <h1>{title}</h1>}</div>
        {tools}
        {time && <TimeControl />}
        <Progress active={busy} />
      </header>
      <div class={flush ? `${css["body"]} ${css["flush"]}` : css["body"]} data-testid={testid} data-page>
        {children}
      </div>
    </>
  );
}
