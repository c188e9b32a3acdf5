import { render } from "preact";
import { App } from "./app";
import { applyTheme } from "./state/theme";
import "./styles/tokens.css";
import "./styles/base.css";

applyTheme();
const host = document.getElementById("app");
if (host) render(<App />, host);
