// Changing the gateway: with a wrong token, without one, and with the right one.

import { check, same } from "./harness.mjs";

// The browser itself reports answers that are errors.
export const allowed = [/status of 40[01]/];

const NAMES = ".table tbody tr[aria-rowindex] td:first-child";

const tokens = (browser) => browser.page.evaluate(() => JSON.stringify({ ...sessionStorage }));

async function addRelay(browser, url) {
  await browser.click(".panel-head .button", "Add a relay");
  await browser.type(".dialog:last-of-type input", url);
  await browser.click(".dialog:last-of-type button[type=submit]");
}

export async function addAndRemove(browser, { token }) {
  await browser.go("relays?sort=url");
  await browser.find(NAMES, "relay-00000.example");
  await addRelay(browser, "wss://new-1.example");
  // The first dialog waits for the answer while the second one asks for the token.
  await browser.find(".dialog:last-of-type h2", "Admin token");
  await browser.accessible("the dialog for the token");
  await browser.type(".dialog:last-of-type input", "wrong");
  await browser.press("Enter");
  await browser.find(".dialog:last-of-type .field-problem", "The gateway does not accept this token, so it was forgotten.");
  check(!(await tokens(browser)).includes("wrong"), "the wrong token is kept");
  await browser.type(".dialog:last-of-type input", token);
  await browser.press("Enter");
  await browser.find(".notice", "Added wss://new-1.example.");
  await browser.find(NAMES, "new-1.example");
  same(await tokens(browser), JSON.stringify({ "relayer-admin-token": token }), "what is kept");

  // The token is not asked for again, and a relay is removed only after a question.
  await browser.click(`${NAMES} a`, "new-1.example");
  await browser.click(".side-foot .button", "Remove this relay");
  await browser.find(".dialog h2", "Remove this relay?");
  await browser.press("Escape");
  await browser.until("the dialog is closed", () => !document.querySelector(".dialog"));
  await browser.find(NAMES, "new-1.example");
  await browser.click(".side-foot .button", "Remove this relay");
  await browser.click(".dialog:last-of-type button[type=submit]", "Remove");
  await browser.find(".notice", "Removed wss://new-1.example.");
  await browser.until("the relay is gone", (names) => ![...document.querySelectorAll(names)].some((one) => one.textContent.includes("new-1")), NAMES);

  // An error says what is wrong.
  await addRelay(browser, "https://new-1.example");
  await browser.find(".dialog:last-of-type .field-problem", "its scheme is not ws:// or wss://");
  await browser.press("Escape");

  // The token ends with the session, or when it is forgotten.
  await browser.click(".tools button[aria-label='Forget the token of this session']");
  same(await tokens(browser), "{}", "what is kept");
}
