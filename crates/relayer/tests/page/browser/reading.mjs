// A gateway with a reader: the page asks for the token, and again when the token is replaced.

import { check } from "./harness.mjs";

// The browser itself reports answers that are errors.
export const allowed = [/status of 401/];

const FIELD = ".dialog:last-of-type input";

async function enter(browser, token) {
  await browser.find(".dialog:last-of-type h2", "Token");
  await browser.type(FIELD, token);
  await browser.press("Enter");
}

export async function tokens(browser, { first, second }) {
  await browser.go("log");
  await enter(browser, "wrong");
  await browser.find(".dialog:last-of-type .field-problem", "The gateway does not accept this token, so it was forgotten.");
  await browser.type(FIELD, first);
  await browser.press("Enter");
  await browser.find(".state-line", "Following");
  check(!browser.page.url().includes(first), browser.page.url());

  // At a second stream, the test replaces the token, which closes the streams.
  await browser.page.evaluate(async (token) => {
    const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
    const answer = await fetch("api/tickets", { method: "POST", headers, body: "{}" });
    window.second = new EventSource(`api/events/stream?ticket=${(await answer.json()).ticket}`);
  }, first);
  await enter(browser, second);
  await browser.find(".state-line", "Following");
}
