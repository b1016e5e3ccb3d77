// The bots of the fan-out, which only the operator sees.

import { check, inert, same } from "./harness.mjs";

const ROWS = ".table-box[aria-label=Bots] tbody tr[aria-rowindex]";

// The browser itself reports answers that are errors.
export const allowed = [/status of 40[134]/];

export async function bots(browser, { token, signal }) {
  await browser.go("fanout");
  await browser.find(".empty", "The list of bots needs the admin token");
  await browser.accessible("the fan-out without a token");
  await browser.click(".empty .button", "Enter the admin token");
  await browser.type(".dialog input", "wrong");
  await browser.press("Enter");
  await browser.find(".dialog .field-problem", "does not accept this token");
  await browser.type(".dialog input", token);
  await browser.press("Enter");
  await browser.find(".panel-head", "3");
  // Bots with the newest signals come first.
  await browser.find(`${ROWS}:nth-child(1)`, "Momentum");
  same(await browser.page.$eval(`${ROWS}:nth-child(1) td:nth-child(5) a`, (one) => one.getAttribute("href")), `#/log?event=${signal}`, "the last signal");
  await browser.click("th button", "Bot");
  await browser.until("the order", (rows) => document.querySelector(rows)?.textContent.includes("Bold"), ROWS);
  await inert(browser, `${ROWS}:nth-child(1) td:first-child`, "<b onclick='hacked = 1'>Bold</b>");
  same((await browser.texts(`${ROWS} td:nth-child(4)`)), ["0", "0", "0"], "the followers");

  await browser.click("button[aria-label='Approve Newcomer']");
  await browser.click(".dialog button[type=submit]", "Approve");
  await browser.find(".notice", "Approved Newcomer.");
  await browser.until("nobody is pending", () => !document.body.textContent.includes("Pending"));
  await browser.type(".search input", "momen");
  await browser.until("one bot", (rows) => document.querySelectorAll(rows).length === 1, ROWS);
  await browser.accessible("the fan-out");
  await browser.size(390, 844);
  await browser.accessible("the fan-out on a phone");
  await browser.fits();
  check(!/secret/i.test(await browser.page.evaluate(() => document.body.textContent)), "a secret");
}
