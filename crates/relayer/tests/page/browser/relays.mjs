// The list of 10,000 relays and the details of one, some of which have hostile texts.

import { check, same } from "./harness.mjs";

const ROWS = ".table tbody tr[aria-rowindex]:not(.row-loading)";
const NAMES = `${ROWS} td:first-child`;

/** Waits until the first row is this relay. */
const firstRow = (browser, name) =>
  browser.until(`${name} in the first row`, (selector, name) => document.querySelector(selector)?.textContent === name, NAMES, name);

const sorted = async (browser, column, name) => {
  await browser.click("th button", column);
  await firstRow(browser, name);
};

export async function sorting(browser) {
  await browser.go("relays");
  await firstRow(browser, "relay-00000.example");
  await browser.find(".panel-head", "10,000");
  const rows = await browser.page.$$(ROWS);
  check(rows.length < 100, `${rows.length} rows are drawn`);
  // Numbers begin with the greatest, names with the first.
  await sorted(browser, "Offences", "relay-00042.example");
  same(await browser.page.$eval("th[aria-sort=descending]", (one) => one.textContent.trim()), "Offences", "the sorted column");
  await sorted(browser, "Events", "relay-09999.example");
  await sorted(browser, "Events", "relay-00000.example");
  await sorted(browser, "Relay", "relay-00000.example");
  await sorted(browser, "Relay", "relay-09999.example");
  // The order is part of the address.
  check(browser.page.url().endsWith("#/relays?sort=url&order=desc"), browser.page.url());
  await browser.page.reload();
  await firstRow(browser, "relay-09999.example");
}

export async function scrolling(browser) {
  await browser.go("relays?sort=url");
  await firstRow(browser, "relay-00000.example");
  for (const [at, name] of [[0.5, "relay-05000.example"], [1, "relay-09999.example"], [0, "relay-00000.example"]]) {
    await browser.page.$eval(".table-box", (box, at) => { box.scrollTop = at * box.scrollHeight; }, at);
    await browser.find(NAMES, name);
  }
}

export async function filtering(browser) {
  await browser.go("relays?sort=url");
  await browser.type(".search input", "relay-0004");
  await browser.find(".panel-head", "10 match");
  same((await browser.texts(NAMES)).length, 10, "the rows");
  await browser.click(".chip", "With offences");
  await browser.find(".panel-head", "1 match");
  same(await browser.texts(NAMES), ["relay-00042.example"], "the relay with offences");
  await browser.click(".chip", "With gaps");
  await browser.find(".empty", "No relay matches");
  await browser.click(".empty .link");
  await browser.find(".panel-head", "10,000");
  await browser.click(".chip", "Quarantined");
  await browser.find(".panel-head", "2 match");
  same(await browser.texts(`${ROWS} td:nth-child(2)`), ["Quarantined", "Quarantined"], "their states");
}

/** Texts from relays are shown as text, and have no effect. */
export async function hostile(browser, { texts }) {
  await browser.go("relays?state=quarantined,backing_off&sort=url");
  await browser.find(".panel-head", "3 match");
  const shown = (await browser.texts(`${ROWS} td:nth-child(3)`)).join("\n");
  check(shown.includes("<script>window.hacked = 1</script>"), shown);
  for (const { relay, reason } of texts) {
    await browser.go(`relays?relay=${encodeURIComponent(relay)}`);
    await browser.find(".side h2", relay);
    const quote = await browser.find(".quote", "");
    const text = await quote.evaluate((one) => one.querySelector("bdi").textContent);
    // Characters that are invisible or change the order of others are written out.
    check(!/[\p{C}\p{Zl}\p{Zp}]/u.test(text), `hidden characters in ${JSON.stringify(text)}`);
    const written = reason.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (one) => (one === "\n" ? "\\n" : `\\u{${one.codePointAt(0).toString(16)}}`));
    if (reason.length > 1_000) {
      check(text.length < 300, `${text.length} characters of a long text`);
      await browser.click(".quote .more", "Show all 10,240 characters");
      same(await quote.evaluate((one) => one.querySelector("bdi").textContent), written, "the whole text");
    } else {
      same(text, written, "the text");
    }
    same(await quote.evaluate((one) => getComputedStyle(one.querySelector("bdi")).unicodeBidi), "isolate", "the isolation");
    same(await quote.evaluate((one) => one.querySelectorAll("script, img, a, b").length), 0, "elements in the text");
  }
  same(await browser.page.evaluate(() => globalThis.hacked ?? null), null, "what scripts in texts left behind");
}

export async function details(browser) {
  await browser.go("relays?sort=url");
  await browser.click(`${NAMES} a`, "relay-00003.example");
  await browser.find(".side h2", "wss://relay-00003.example");
  await browser.find(".side", "Nothing was refused.");
  await browser.find(".side .history", "Connecting");
  // Keyboards continue in the details, and Escape closes them.
  same(await browser.page.evaluate(() => document.activeElement.textContent), "wss://relay-00003.example", "the focus");
  await browser.press("Escape");
  await browser.until("the details are closed", () => !document.querySelector(".side"));
  await browser.go("relays?relay=wss%3A%2F%2Fgone.example");
  await browser.find(".side .problem", "This relay is not in the list");
}

// The browser itself reports answers that are errors.
export const allowed = [/status of 404/];

export async function accessible(browser) {
  await browser.go("relays?sort=url&relay=wss%3A%2F%2Frelay-00007.example");
  await browser.find(".side .quote", "");
  await browser.find(NAMES, "relay-00000.example");
  await browser.accessible("the relays");
  await browser.size(390, 844);
  await browser.accessible("a relay on a phone");
  const fits = await browser.page.evaluate(() => document.documentElement.scrollWidth <= innerWidth);
  check(fits, "the page is wider than the phone");
}
