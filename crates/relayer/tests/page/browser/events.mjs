// An event with its provenance, and refused events.

import { check, inert } from "./harness.mjs";

// The browser itself reports answers that are errors.
export const allowed = [/status of 404/];

export async function provenance(browser, { stored, relay, hostile }) {
  await browser.go("log");
  await browser.type(".find input", "note1wrong");
  await browser.press("Enter");
  await browser.find(".find", "This is not an event's id");
  await browser.type(".find input", stored);
  await browser.press("Enter");
  await browser.find(".side .state-line", "Stored");
  check(browser.page.url().endsWith(`#/log?event=${stored}`), browser.page.url());
  await browser.find(".side .facts", relay);
  const facts = await browser.page.$eval(".side .facts", (one) => one.innerText);
  check(/Received[^]*\d\d:\d\d:\d\d\.\d{3}/.test(facts) && /Copies/.test(facts), facts);
  await browser.find(".side .receivers li", "nowhere");
  await browser.find(".side .receivers li", "Not yet");
  await browser.find(".side", "There are no named consumers.");
  await inert(browser, ".side p.quote", hostile);
  await inert(browser, ".side .event-tags li:last-child", JSON.stringify(["title", hostile]));
  // The other form of the id that the page shows leads to the same event.
  const note = (await browser.texts(".side .id"))[1];
  check(note.startsWith("note1"), note);
  await browser.press("Escape");
  await browser.until("the details are closed", () => !document.querySelector(".side"));
  await browser.type(".find input", note);
  await browser.press("Enter");
  await browser.find(".side .id", stored);
  await browser.go(`log?event=${"0".repeat(64)}`);
  await browser.find(".side .problem", "event");
}

export async function refusals(browser, { refused }) {
  await browser.go("log");
  await browser.click(".parts a", "Refusals");
  await browser.find(".table-box[aria-label='Refused events'] tbody tr", "bad signature");
  await browser.click(".table-box[aria-label='Refused events'] tbody td:nth-child(3) a");
  await browser.find(".side .state-line", "Not stored");
  await browser.find(".side .refusals", "bad signature");
  await browser.find(".side .id", refused);
  await browser.accessible("the refusals");
}

export async function accessible(browser, { stored }) {
  await browser.go(`log?event=${stored}`);
  await browser.find(".side .receivers");
  await browser.accessible("an event");
  await browser.size(390, 844);
  await browser.accessible("an event on a phone");
  await browser.fits();
}
