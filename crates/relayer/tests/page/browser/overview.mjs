// The overview of a gateway that receives events.

import { check, same } from "./harness.mjs";

const figure = (browser, label) => browser.page.evaluate((label) => {
  const stat = [...document.querySelectorAll(".stat")].find((one) => one.querySelector("dt").textContent === label);
  return stat?.querySelector(".stat-value").textContent ?? null;
}, label);

export async function live(browser) {
  await browser.go("");
  await browser.find(".health h2", "");
  same(await browser.page.title(), "Overview · Relayer", "the title");
  await browser.find(".reachable", "Connected");
  for (const label of ["Frames", "New", "Duplicates", "Delivered", "Latency to commit", "Head", "Memory", "Disk"]) {
    check((await figure(browser, label)) !== null, `there is no ${label}`);
  }
  same(await figure(browser, "Relays"), "6", "the connected relays");
  // The figures move without a request of ours.
  const head = await figure(browser, "Head");
  await browser.until("the head moves", (head) => [...document.querySelectorAll(".stat")].some((one) =>
    one.querySelector("dt").textContent === "Head" && one.querySelector(".stat-value").textContent !== head), head);
  // A warning in words.
  await browser.find(".warnings", "sink nowhere");
}

export async function plots(browser) {
  await browser.go("overview");
  same((await browser.until("the plots", () => {
    const all = [...document.querySelectorAll(".plot")];
    return all.length && all.every((one) => one.querySelector("canvas")?.width > 0) && all.map((one) => one.querySelector("h2").textContent);
  })).length, 6, "the plots");
  await browser.until("a point", () => !/Frames unknown/.test(document.querySelector(".canvas").getAttribute("aria-label")));
}

export async function colours(browser) {
  await browser.go("overview");
  const back = () => browser.page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await back();
  await browser.colours("dark");
  const dark = await back();
  check(light !== dark, `${light} in both`);
  // The choice wins over the system, and lasts.
  await browser.click(".tools button[aria-label^=Colours]");
  same(await back(), light, "light by choice");
  await browser.page.reload();
  await browser.find(".health h2", "");
  same(await back(), light, "light after a reload");
}

export async function keyboard(browser) {
  await browser.go("overview");
  await browser.find(".health h2", "");
  await browser.press("Tab");
  same(await browser.page.evaluate(() => document.activeElement.textContent), "Skip to the content", "the first stop");
  await browser.press("Enter");
  same(await browser.page.evaluate(() => document.activeElement.tagName), "MAIN", "where it leads");
  await browser.click(".nav a", "Relays");
  await browser.until("the relays", () => document.title === "Relays · Relayer");
  same(await browser.page.evaluate(() => document.activeElement.tagName), "MAIN", "the focus in the new view");
  await browser.go("nothing");
  await browser.find(".empty", "There is no such view");
}

export async function accessible(browser) {
  await browser.go("overview");
  await browser.find(".plot canvas");
  await browser.accessible("the overview");
  await browser.size(390, 844);
  await browser.accessible("the overview on a phone");
  const fits = await browser.page.evaluate(() => document.documentElement.scrollWidth <= innerWidth);
  check(fits, "the page is wider than the phone");
}
