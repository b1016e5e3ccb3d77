// The pictures in docs/images. `scripts/screenshots` runs this against any gateway.

import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

const FOLDER = fileURLToPath(new URL("../../../../../docs/images", import.meta.url));

const VIEWS = {
  overview: { hash: "overview", ready: ".plot canvas" },
  sinks: { hash: "sinks", ready: ".table-box[aria-label=Sinks] tbody tr", click: ".table-box[aria-label=Sinks] tr:has(.bad-text) a" },
  fanout: { hash: "fanout", ready: process.env.RELAYER_API__ADMIN_TOKEN ? "tbody tr[aria-rowindex]" : ".panel" },
  log: { hash: "log", ready: "tr[data-event]", click: "tr[data-event]:nth-child(3) a" },
  relays: { hash: "relays?sort=first_share&order=desc", ready: ".table tbody tr[aria-rowindex]:not(.row-loading)", click: ".table tbody a" },
};

const SIZES = { "": [1440, 900], "-phone": [390, 844] };

/** The wait before a screenshot, until fonts and plots are drawn. */
const SETTLED_MS = 1_500;

export async function take(browser) {
  mkdirSync(FOLDER, { recursive: true });
  const token = process.env.RELAYER_API__ADMIN_TOKEN;
  if (token) await browser.page.evaluateOnNewDocument((token) => sessionStorage.setItem("relayer-admin-token", token), token);
  for (const [name, { hash, ready, click }] of Object.entries(VIEWS)) {
    for (const [suffix, [width, height]] of Object.entries(SIZES)) {
      await browser.size(width, height);
      for (const scheme of ["light", "dark"]) {
        // Pictures of phones are needed in one of them only.
        if (suffix && scheme === "dark") continue;
        await browser.colours(scheme);
        await browser.go(hash);
        await browser.page.reload();
        await browser.find(ready);
        if (click && !suffix) await browser.click(click);
        await new Promise((resolve) => setTimeout(resolve, SETTLED_MS));
        await browser.page.screenshot({ path: `${FOLDER}/${name}-${suffix ? suffix.slice(1) : scheme}.png`, optimizeForSpeed: false });
      }
    }
  }
}
