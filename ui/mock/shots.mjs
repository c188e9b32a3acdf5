// Pictures of every page against the mock server, to look at. Usage: node mock/shots.mjs OUT BASE [filter] [--width=1440] [--theme=dark]
import { mkdirSync } from "node:fs";
import { chromium } from "playwright-core";

const [out = "shots", base = "http://127.0.0.1:5180/", filter = ""] = process.argv.slice(2).filter((arg) => !arg.startsWith("--"));
const option = (name, fallback) => process.argv.find((arg) => arg.startsWith(`--${name}=`))?.split("=")[1] ?? fallback;
const width = Number(option("width", "1440"));
const theme = option("theme", "dark");
const settle = Number(option("settle", "900"));
mkdirSync(out, { recursive: true });

const PAGES = {
  home: "",
  metrics: "explore/metrics?q=" + encodeURIComponent("sum by (job) (rate(http_requests_total[5m]))"),
  "metrics-table": "explore/metrics?view=table&q=up",
  "metrics-start": "explore/metrics",
  "metrics-error": "explore/metrics?q=" + encodeURIComponent("sum(rate("),
  logs: "logs",
  "logs-error": "logs?q=" + encodeURIComponent('{service_name="x'),
  "logs-metric": "logs?q=" + encodeURIComponent('sum by (detected_level) (count_over_time({service_name=~".+"}[1m]))'),
  traces: "traces",
  dashboards: "dashboards",
  dashboard: "d/trefoil",
  alerts: "alerts",
  status: "status",
  cardinality: "status/cardinality",
  missing: "nowhere",
};

const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const context = await browser.newContext({ viewport: { width, height: width < 600 ? 844 : 900 }, colorScheme: theme, hasTouch: width < 600 });
const page = await context.newPage();
page.on("console", (message) => {
  if (message.type() === "error" || message.type() === "warning") console.log(`  [${message.type()}] ${message.text()}`);
});
page.on("pageerror", (error) => console.log(`  [page error] ${error.message}\n${error.stack}`));

const shot = async (name) => {
  await page.waitForTimeout(settle);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth + 1);
  await page.screenshot({ path: `${out}/${name}-${width}-${theme}.png` });
  console.log(`${name}${wide ? "  OVERFLOWS" : ""}`);
};

for (const [name, path] of Object.entries(PAGES)) {
  if (filter && !name.match(filter)) continue;
  await page.goto(base + path);
  await shot(name);
  if (name === "dashboard") {
    await page.locator("[data-page]").evaluate((element) => element.scrollTo(0, 900));
    await shot("dashboard-more");
    await page.locator("[data-page]").evaluate((element) => element.scrollTo(0, 9000));
    await shot("dashboard-end");
  }
  if (name === "metrics") {
    const box = await page.getByTestId("chart").boundingBox().catch(() => null);
    if (box) {
      await page.mouse.move(box.x + box.width * 0.4, box.y + box.height * 0.5);
      await page.getByTestId("promql").focus();
      await shot("metrics-hover");
    }
  }
  if (name === "logs" && (await page.getByTestId("log-row").count()) > 3) {
    await page.getByTestId("log-row").nth(2).click();
    await shot("logs-open");
    await page.getByTestId("log-trace").first().click();
    await shot("logs-peek");
    await page.keyboard.press("Escape");
  }
  if (name === "traces" && (await page.getByTestId("trace-row").count()) > 0) {
    const failed = page.locator("[data-testid=trace-row]", { hasText: "error" }).first();
    const id = await failed.getAttribute("data-trace");
    await page.goto(`${base}trace/${id}`);
    await shot("trace");
    await page.getByTestId("span-row").nth(1).click();
    await page.getByTestId("span-logs").click();
    await shot("trace-span");
  }
  if (name === "home") {
    await page.keyboard.press("?");
    await shot("help");
    await page.keyboard.press("Escape");
    await page.goto(`${base}explore/metrics?q=up`);
    await page.getByTestId("time-button").click();
    await shot("time");
    await page.keyboard.press("Escape");
    await page.getByTestId("promql").fill("sum(rate(tref");
    await shot("complete");
  }
}
await browser.close();
