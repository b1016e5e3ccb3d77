// Runs a scenario: node run.mjs NAME URL [JSON]. The module NAME.mjs exports its steps: functions
// that get a `Browser` and the arguments. If their order matters, they are in its array `steps`. A
// step has a page of its own; Chromium is started once.

import { Browser, launch } from "./harness.mjs";

const [name, url, json = "{}"] = process.argv.slice(2);
const { allowed = [], steps, ...all } = await import(`./${name}.mjs`);
const chromium = await launch();
try {
  for (const [step, run] of steps?.map((run) => [run.name, run]) ?? Object.entries(all)) {
    const browser = await Browser.open(chromium, url, allowed);
    try {
      await run(browser, JSON.parse(json));
      await browser.close();
    } catch (error) {
      throw new Error(`${name}, ${step}: ${error.message}`, { cause: error });
    }
  }
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  await chromium.close();
}
