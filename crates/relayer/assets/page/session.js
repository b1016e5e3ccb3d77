// State kept in the browser: tokens until its session ends, and the chosen colours.

import { shared } from "./ui.js";

/** Browsers may refuse to store anything. The page then remembers until it is closed. */
function storage(kind) {
  const memory = new Map();
  const use = (access, otherwise) => {
    try {
      return access(window[kind]);
    } catch {
      return otherwise();
    }
  };
  return {
    get: (key) => use((place) => place.getItem(key), () => memory.get(key) ?? null),
    set: (key, value) => use((place) => place.setItem(key, value), () => memory.set(key, value)),
    remove: (key) => use((place) => place.removeItem(key), () => memory.delete(key)),
  };
}

const session = storage("sessionStorage");
const local = storage("localStorage");

const keyOf = (use) => `relayer-${use}-token`;

/** Which tokens the session has: "read", "admin". */
const held = () => ["read", "admin"].filter((use) => session.get(keyOf(use))).join(" ");

/** The uses for which a token was entered, as a text. */
export const heldTokens = shared(held());

/**
 * The token for a use: "read" or "admin". The admin token also reads, and a token that was entered
 * for reading may be the admin token.
 */
export function tokenFor(use) {
  for (const slot of use === "admin" ? ["admin", "read"] : ["read", "admin"]) {
    const token = session.get(keyOf(slot));
    if (token) return { slot, token };
  }
  return null;
}

export function keepToken(use, token) {
  session.set(keyOf(use), token);
  heldTokens.set(held());
}

export function forgetToken(use) {
  session.remove(keyOf(use));
  heldTokens.set(held());
}

export function forgetTokens() {
  forgetToken("read");
  forgetToken("admin");
}

const THEME = "relayer-theme";

/** "system", "light" or "dark". */
export const theme = shared(local.get(THEME) ?? "system");

theme.subscribe((chosen) => {
  local.set(THEME, chosen);
  applyTheme();
});

export function applyTheme() {
  const chosen = theme.get();
  if (chosen === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
}
