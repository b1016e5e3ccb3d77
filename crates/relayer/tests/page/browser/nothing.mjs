// The messages of empty views.

export async function words(browser) {
  await browser.go("fanout");
  await browser.find(".empty", "The fan-out is disabled");
  await browser.accessible("a disabled fan-out");
  await browser.go("sinks");
  await browser.find(".empty", "There are no sinks");
  await browser.find(".empty", "There are no named consumers");
  await browser.go("log");
  await browser.find(".empty", "No events yet");
  await browser.click(".parts a", "Refusals");
  await browser.find(".empty", "Nothing was refused");
  await browser.accessible("no refusals");
}
