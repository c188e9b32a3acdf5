// Shown when the server answers 401. The credentials stay in this tab.
import { useState } from "preact/hooks";
import { authorization, signInBasic, signInBearer } from "../../state/auth";
import { Logo } from "../kit/icon";
import { Button, Notice, Segmented } from "../kit/kit";
import { Dialog } from "./dialog";
import css from "./frame.module.css";

export function Login() {
  const [way, setWay] = useState<"basic" | "bearer">("basic");
  const [user, setUser] = useState("");
  const [secret, setSecret] = useState("");
  const refused = authorization() !== "";
  return (
    <Dialog label="Sign in" testid="login" class={css["login"]}>
      <h2>
        <Logo size={24} /> Sign in to Trefoil
      </h2>
      {refused && <Notice tone="bad">These credentials were not accepted.</Notice>}
      <Segmented
        label="How to sign in"
        value={way}
        onChange={setWay}
        testid="login-way"
        options={[
          { value: "basic", label: "Password" },
          { value: "bearer", label: "Token" },
        ]}
      />
      <form
        class={css["loginForm"]}
        onSubmit={(event) => {
          event.preventDefault();
          if (way === "basic") signInBasic(user, secret);
          else signInBearer(secret);
        }}
      >
        {way === "basic" && (
          <label>
            User
            <input value={user} autocomplete="username" required data-testid="login-user" onInput={(event) => setUser(event.currentTarget.value)} />
          </label>
        )}
        <label>
          {way === "basic" ? "Password" : "Bearer token"}
          <input type="password" value={secret} autocomplete="current-password" required data-testid="login-secret" onInput={(event) => setSecret(event.currentTarget.value)} />
        </label>
        <Button type="submit" kind="primary" testid="login-submit">
          Sign in
        </Button>
      </form>
    </Dialog>
  );
}
