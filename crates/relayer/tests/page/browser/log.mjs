// The live tail: with a filter, during a pause, and when more arrives than can be drawn.

import { check, inert, same } from "./harness.mjs";

const ROWS = ".table-box[aria-label='Live tail'] tbody tr[data-event]";

const column = (browser, number) => browser.texts(`${ROWS} td:nth-child(${number})`);

/** Waits until another event is the first one. */
const moved = (browser, what) => browser.page.$eval(`${ROWS} a`, (one) => one.textContent)
  .then((first) => browser.until(what, (rows, first) => document.querySelector(`${rows} a`)?.textContent !== first, ROWS, first));

export async function following(browser, { author, hostile }) {
  await browser.go("log?kinds=1,7");
  await browser.find(ROWS);
  await browser.find(".state-line", "Following");
  await moved(browser, "a new event");
  same([...new Set(await column(browser, 3))].sort(), ["1", "7"], "the kinds");
  await browser.type(".search input[placeholder^=Kinds]", "7");
  await browser.until("the filter", (rows) => [...document.querySelectorAll(`${rows} td:nth-child(3)`)].some((one) => one.textContent === "7")
    && ![...document.querySelectorAll(`${rows} td:nth-child(3)`)].some((one) => one.textContent !== "7"), ROWS);
  check(browser.page.url().endsWith("#/log?kinds=7"), browser.page.url());
  await moved(browser, "a new event of the kind");

  // Sequences fall from row to row, without one twice.
  const seqs = (await column(browser, 2)).map((text) => Number(text.replaceAll(",", "")));
  check(seqs.length > 1 && seqs.every((seq, at) => at === 0 || seq < seqs[at - 1]), `the order: ${seqs}`);

  // The browser searches for a text, and shows what is wrong with a filter.
  await browser.type(".search input[placeholder^=Kinds]", "1, x");
  await browser.find(".problem", "“x” is not a kind");
  await browser.type(".search input[placeholder^=Kinds]", "1, 7");
  await browser.type(".search input[placeholder^=Text]", "OF KIND 7");
  await browser.until("the text", (rows) => document.querySelector(rows)
    && [...document.querySelectorAll(`${rows} td:nth-child(4)`)].every((one) => one.textContent === "an event of kind 7"), ROWS);
  await browser.type(".search input[placeholder^=Authors]", "npub1wrong");
  await browser.find(".problem", "“npub1wrong” is not a public key");
  await browser.go(`log?authors=${author}`);
  await browser.find(`${ROWS} td:nth-child(4)`, "<script>");
  same([...new Set(await column(browser, 3))], ["1"], "the events of the author");
  await inert(browser, `${ROWS} td:nth-child(4)`, hostile);
}

export async function pausing(browser) {
  await browser.go("log?kinds=1,7");
  await browser.find(ROWS);
  await browser.click(".filters .button", "Pause");
  await browser.find(".state-line", "Paused");
  const before = await column(browser, 2);
  await browser.find(".filters .button", "new)");
  same(await column(browser, 2), before, "the rows during the pause");
  await browser.click(".filters .button", "Continue");
  await browser.until("the rows go on", (rows, count) => document.querySelectorAll(rows).length > count, ROWS, before.length);
  const seqs = (await column(browser, 2)).map((text) => Number(text.replaceAll(",", "")));
  check(seqs.every((seq, at) => at === 0 || seq < seqs[at - 1]), `the order: ${seqs}`);
}

/** More events than can be drawn: the page says so, and stays quick. */
export async function flooded(browser, { fast }) {
  await browser.go(`log?kinds=${fast}`);
  await browser.find(".remark", "were left out");
  await browser.until("the rate", () => Number.parseFloat(document.querySelector(".rate").textContent.replace(",", "")) > 150);
  const rows = (await browser.page.$$(ROWS)).length;
  check(rows <= 500, `${rows} rows`);
  // The page still answers, and a narrower filter shows all again.
  await browser.type(".search input[placeholder^=Kinds]", "1");
  await browser.until("the narrower filter", (rows) => document.querySelector(`${rows} td:nth-child(3)`)?.textContent === "1", ROWS);
  await browser.until("nothing is left out", () => document.querySelector(".remark").textContent.startsWith("The newest 500"));
}

export async function accessible(browser, { author }) {
  await browser.go(`log?authors=${author}`);
  await browser.find(ROWS);
  await browser.accessible("the tail");
  await browser.size(390, 844);
  await browser.find(ROWS);
  await browser.accessible("the tail on a phone");
  await browser.fits();
}
