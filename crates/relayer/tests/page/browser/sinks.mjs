// Sinks and named consumers: their display, and the operator's actions.

import { check, inert, same } from "./harness.mjs";

const SINKS = ".table-box[aria-label=Sinks] tbody tr";
const CONSUMERS = ".table-box[aria-label='Named consumers'] tbody tr";
const LETTERS = ".letters > li";

// The browser itself reports answers that are errors.
export const allowed = [/status of 40[014]/];

/** Confirms the question, and enters the token if asked for it, which happens once a session. */
async function confirmed(browser, question, action, token) {
  await browser.find(".dialog h2", question);
  await browser.click(".dialog button[type=submit]", action);
  if (!token) return;
  await browser.find(".dialog h2", "Admin token");
  await browser.type(".dialog input", token);
  await browser.press("Enter");
}

const cells = (browser, row) => browser.texts(`${row} td`);

async function shown(browser, { hostile }) {
  await browser.go("sinks");
  await browser.find(".panel-head", "2, the log is at 6");
  const analytics = await cells(browser, `${SINKS}:nth-child(2)`);
  same([analytics[0], analytics[2], analytics[3], analytics[5], analytics[6]], ["analytics", "0", "–", "6", "6"], "name, lag, behind, cursor, letters");
  await browser.find(`${SINKS}:nth-child(1)`, "Retrying");
  await browser.find(`${SINKS}:nth-child(1)`, "Connection refused");
  await browser.find(`${CONSUMERS}:nth-child(1)`, "indexer");
  await browser.find(`${CONSUMERS}:nth-child(1)`, "Connected");
  await browser.find(`${CONSUMERS}:nth-child(2)`, "Away");
  same((await cells(browser, `${CONSUMERS}:nth-child(2)`))[2], "5", "the lag of the consumer that has left");

  // Reasons and events of dead letters are shown, and do nothing.
  await browser.click(`${SINKS} a`, "analytics");
  await browser.find(".side h2", "analytics");
  same((await browser.until("the letters", () => document.querySelectorAll(".letters > li").length)), 6, "the letters");
  await inert(browser, `${LETTERS}:first-child > .quote`, "<script>window.hacked = 1</script>");
  await browser.click(`${LETTERS}:first-child summary`);
  await inert(browser, `${LETTERS}:first-child details .quote`, hostile);
  await inert(browser, `${LETTERS}:first-child .event-tags li:last-child`, JSON.stringify(["title", hostile]));
  await browser.press("Escape");
  await browser.until("the details are closed", () => !document.querySelector(".side"));
  await browser.go("sinks?sink=unknown");
  await browser.find(".side .problem", "No sink of this name is configured");
}

async function pausing(browser, { token }) {
  await browser.go("sinks?sink=analytics");
  await browser.click(".side .button", "Pause");
  await confirmed(browser, "Pause this sink?", "Pause", "wrong");
  await browser.find(".dialog .field-problem", "does not accept this token");
  await browser.type(".dialog input", token);
  await browser.press("Enter");
  await browser.find(".notice", "Paused analytics.");
  await browser.find(".side .state-line", "Paused");
  await browser.find(SINKS, "Paused");
  await browser.click(".side .button", "Resume");
  await browser.find(".notice", "Resumed analytics.");
  await browser.find(".side .state-line", "Live");
}

async function deadLetters(browser, { token, receiver }) {
  await browser.go("sinks?sink=analytics");
  await browser.find(LETTERS);
  // It rejects the event again.
  await browser.click("button[aria-label='Replay sequence 1']");
  await browser.find(".dialog h2", "Admin token");
  await browser.type(".dialog input", token);
  await browser.press("Enter");
  await browser.find(".notice", "Sending 1 dead letter to analytics again.");
  await browser.find(LETTERS, "2 times");
  await browser.find(".side", "6 dead letters.");
  // It accepts it.
  await fetch(`${receiver}/accept`, { method: "POST" });
  await browser.click("button[aria-label='Replay sequence 1']");
  await browser.find(".side", "5 dead letters.");
  same(await browser.texts(`${LETTERS} a`), [2, 3, 4, 5, 6].map((seq) => `Sequence ${seq}`), "the other letters");
  await browser.click("button[aria-label='Drop sequence 3']");
  await confirmed(browser, "Drop this dead letter?", "Drop");
  await browser.find(".notice", "Dropped 1 dead letter.");
  await browser.find(".side", "4 dead letters.");
  same(await browser.texts(`${LETTERS} a`), [2, 4, 5, 6].map((seq) => `Sequence ${seq}`), "the other letters");
  await browser.click(".side .button", "Replay all");
  await confirmed(browser, "Replay all dead letters?", "Replay all");
  await browser.find(".side", "None: the sink has rejected no event");
  await browser.find(`${SINKS}:nth-child(2) td:nth-child(7)`, "0");
}

async function moving(browser, { token }) {
  await browser.go("sinks?sink=nowhere");
  await browser.find(".side .facts", "127.0.0.1:1");
  await browser.click(".side summary", "Move the cursor");
  await browser.click(".choice", "after a sequence");
  await browser.type(".side fieldset input:not([type=radio])", "many");
  await browser.find(".side form", "A sequence is a whole number, such as 6.");
  check(await browser.page.$eval(".side form button", (one) => one.disabled), "it can be sent");
  await browser.type(".side fieldset input:not([type=radio])", "7");
  await browser.click(".side form button", "Move");
  await browser.find(".dialog", "from 0 to 7. 7 sequences are skipped");
  await confirmed(browser, "Move the cursor?", "Move", token);
  await browser.find(".notice.bad", "beyond");
  await browser.click(".choice", "with new events only");
  await browser.click(".side form button", "Move");
  await confirmed(browser, "Move the cursor?", "Move");
  await browser.find(".notice", "Moved the cursor of nowhere to 6.");
  await browser.find(`${SINKS}:nth-child(1) td:nth-child(6)`, "6");
}

async function forgetting(browser, { token }) {
  await browser.go("sinks");
  await browser.click("button[aria-label='Forget old']");
  await browser.find(".dialog", "the last 5 events.");
  await confirmed(browser, "Forget this consumer?", "Forget", token);
  await browser.find(".notice", "Forgot old.");
  await browser.until("the consumer is gone", (rows) => document.querySelectorAll(rows).length === 1, CONSUMERS);
}

async function accessible(browser) {
  await browser.go("sinks?sink=nowhere");
  await browser.find(".side .facts", "127.0.0.1:1");
  await browser.find(CONSUMERS, "indexer");
  await browser.click(".side summary", "Move the cursor");
  await browser.accessible("the sinks");
  await browser.size(390, 844);
  await browser.accessible("a sink on a phone");
  await browser.fits();
  await browser.go("sinks");
  await browser.find(CONSUMERS, "indexer");
  await browser.fits();
}

/** Later steps depend on the state that earlier ones leave. */
export const steps = [shown, accessible, pausing, deadLetters, moving, forgetting];
