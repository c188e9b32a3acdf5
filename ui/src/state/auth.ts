// Credentials for this tab: kept in session storage, sent with every request, never in a URL.

const KEY = "trefoil.authorization";
const listeners = new Set<() => void>();
let needed = false;

const store = (): Storage | undefined => {
  try {
    return window.sessionStorage;
  } catch {
    return undefined; // storage may be switched off
  }
};

let memory = "";

export const authorization = (): string => store()?.getItem(KEY) ?? memory;

function set(header: string): void {
  memory = header;
  if (header) store()?.setItem(KEY, header);
  else store()?.removeItem(KEY);
  needed = false;
  for (const listener of listeners) listener();
}

export const signInBasic = (user: string, password: string): void => {
  const bytes = new TextEncoder().encode(`${user}:${password}`);
  set(`Basic ${btoa(String.fromCharCode(...bytes))}`);
};

export const signInBearer = (token: string): void => set(`Bearer ${token.trim()}`);

export const signOut = (): void => set("");

/** Called on a 401: the frame shows the login panel. */
export function requireLogin(): void {
  if (needed) return;
  needed = true;
  for (const listener of listeners) listener();
}

export const loginNeeded = (): boolean => needed;

export function onAuthChange(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
