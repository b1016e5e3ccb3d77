// A page of a gateway in Chromium, with waits that have a limit and say what was missing.
//
// Whatever a scenario does, it fails if the page makes a request to another origin, violates its
// policy, writes an error or a warning to the console, throws, or opens a dialog of the browser.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.env.PACKAGES, "package.json"));
const puppeteer = require("puppeteer-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const PATIENCE_MS = 60_000;

export async function launch() {
  const sandbox = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
  return puppeteer.launch({
    executablePath: process.env.CHROMIUM,
    args: [...sandbox, "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update"],
    // Chromium ends with this process, however it ends.
    pipe: true,
    protocolTimeout: 60_000,
  });
}

export class Browser {
  /** `allowed` are patterns of console messages that a scenario causes on purpose. */
  static async open(chromium, url, allowed = []) {
    const browser = new Browser();
    const page = await (await chromium.createBrowserContext()).newPage();
    Object.assign(browser, { page, url, allowed, problems: [] });
    page.on("console", (message) => {
      const text = message.text();
      if (["error", "warn"].includes(message.type()) && !allowed.some((one) => one.test(text))) browser.problems.push(`console: ${text}`);
    });
    page.on("pageerror", (error) => browser.problems.push(`exception: ${error.stack ?? error}`));
    page.on("request", (request) => {
      if (!request.url().startsWith(`${url}/`)) browser.problems.push(`request to ${request.url()}`);
    });
    page.on("dialog", async (dialog) => {
      browser.problems.push(`dialog: ${dialog.message()}`);
      await dialog.dismiss();
    });
    await page.evaluateOnNewDocument(() => {
      document.addEventListener("securitypolicyviolation", (event) => {
        console.error(`policy violated: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
      });
    });
    await browser.size(1440, 900);
    await browser.colours("light");
    return browser;
  }

  size(width, height) {
    return this.page.setViewport({ width, height });
  }

  colours(scheme) {
    return this.page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  }

  /** Opens a view: go("relays?sort=url"). */
  async go(hash) {
    await this.page.goto(`${this.url}/#/${hash}`, { timeout: PATIENCE_MS });
  }

  /** Waits until a function of the page returns something truthy, and returns that. */
  async until(what, test, ...args) {
    const end = Date.now() + PATIENCE_MS;
    for (;;) {
      const value = await this.page.evaluate(test, ...args);
      if (value) return value;
      if (Date.now() > end) {
        const text = await this.page.evaluate(() => document.body.innerText.slice(0, 2_000));
        throw new Error(`waited in vain for ${what}; the page says:\n${text}\nproblems: ${this.problems.join("\n")}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
  }

  /** Waits for an element, by selector and, if given, by a part of its text. */
  async find(selector, text = "") {
    const what = `${selector} ${text && `with ${JSON.stringify(text)}`}`;
    await this.until(what, (selector, text) => [...document.querySelectorAll(selector)].some((one) => one.textContent.includes(text)), selector, text);
    const all = await this.page.$$(selector);
    for (const one of all) {
      if (await one.evaluate((element, text) => element.textContent.includes(text), text)) return one;
    }
    return this.find(selector, text);
  }

  async click(selector, text) {
    const element = await this.find(selector, text);
    await element.click();
  }

  async type(selector, text) {
    const element = await this.find(selector);
    await element.click({ count: 3 });
    await element.type(text);
  }

  press(key) {
    return this.page.keyboard.press(key);
  }

  /** The texts of all elements that a selector finds. */
  texts(selector) {
    return this.page.$$eval(selector, (all) => all.map((one) => one.textContent.trim()));
  }

  /** Fails if axe finds something serious or critical, in either colour scheme. */
  async accessible(what) {
    await this.page.evaluate(axe);
    for (const scheme of ["light", "dark"]) {
      await this.colours(scheme);
      const { violations } = await this.page.evaluate(async () => {
        // Transitions are disabled, so that no intermediate colour is checked.
        for (const animation of document.getAnimations()) animation.finish();
        return globalThis.axe.run(document, { preload: false, resultTypes: ["violations"] });
      });
      const serious = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
      const found = serious.map(({ id, help, nodes }) =>
        `${id} (${help}): ${nodes.slice(0, 3).map((node) => `${node.html} ${node.failureSummary}`).join("; ")}`);
      check(found.length === 0, `${what}, ${scheme}: ${found.join("\n")}`);
    }
    await this.colours("light");
  }

  /** Fails if the page must be scrolled sideways. */
  async fits() {
    const [width, has] = await this.page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    check(width <= has, `the page is ${width} pixels wide, on ${has}`);
  }

  async close() {
    check(this.problems.length === 0, this.problems.join("\n"));
    await this.page.browserContext().close();
  }
}

export function check(holds, message) {
  if (!holds) throw new Error(message);
}

export function same(found, expected, what) {
  const [one, other] = [found, expected].map((value) => JSON.stringify(value));
  check(one === other, `${what}: found ${one}, expected ${other}`);
}

/** Hidden characters, as the page writes them out. */
const written = (text) => text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (one) => (one === "\n" ? "\\n" : `\\u{${one.codePointAt(0).toString(16)}}`));

/** Fails if a text is not shown as it is: whatever it contains, it is neither elements nor code. */
export async function inert(browser, selector, text) {
  const element = await browser.find(selector, written(text));
  const found = await element.evaluate((one) => [one.querySelectorAll("script, img, b").length, getComputedStyle(one.querySelector("bdi")).unicodeBidi]);
  same(found, [0, "isolate"], `elements and isolation of ${selector}`);
  same(await browser.page.evaluate(() => globalThis.hacked ?? null), null, "what scripts in texts left behind");
}
