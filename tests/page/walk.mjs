// A walk through the page over the demo, in headless Chromium: what a user does, with an eye on errors.
// Environment: BASE_URL, CHROMIUM; SCREENSHOTS: a folder for pictures of every page.
import { createRequire } from "node:module";
import { mkdirSync } from "node:fs";
import { join } from "node:path";

const require = createRequire(new URL("../peers/node/package.json", import.meta.url));
const { chromium } = require("playwright-core");
const base = process.env.BASE_URL;
const pictures = process.env.SCREENSHOTS;
const PATIENCE = 45_000;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
  ],
});
const faults = [];
let walked = ""; // the path of a trace that the walk came by

/** A page that notes everything that should not happen. */
async function open(options) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  await context.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`));
  });
  // Nothing leaves this machine, whatever the page wants.
  await context.route(
    (url) => !url.href.startsWith(base),
    (route) => {
      faults.push(`request to another host: ${route.request().url()}`);
      return route.abort();
    },
  );
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.on("console", (message) => message.type() === "error" && faults.push(`console at ${page.url()}: ${message.text()}`));
  page.on("pageerror", (error) => faults.push(`exception at ${page.url()}: ${error.message}`));
  page.on("response", (response) => response.status() >= 400 && faults.push(`${response.status()} ${response.url()}: at ${page.url()}`));
  return page;
}

const page = await open();
const id = (name) => page.getByTestId(name);
const params = (values) => new URLSearchParams(values).toString();

function check(holds, what) {
  if (!holds) throw new Error(what);
}

/** Waits until a function of the page gives something that holds. */
async function until(what, probe) {
  const deadline = Date.now() + PATIENCE;
  let last;
  while (Date.now() < deadline) {
    last = await probe();
    if (last) return last;
    await page.waitForTimeout(100);
  }
  throw new Error(`waited for ${what}: ${JSON.stringify(last)}`);
}

const steps = {
  async "home says what comes in"() {
    await page.goto(`${base}/`);
    await id("page-home").waitFor();
    for (const signal of ["samples", "lines", "spans", "series"]) {
      await until(`signal ${signal}`, async () => /[1-9]/.test(await id(`signal-${signal}-value`).textContent()));
    }
    await until("targets", async () => /^9 of 9 up|^8 of 8 up/.test(await id("home-targets-up").textContent()));
    await id("home-service").filter({ hasText: "payments" }).waitFor();
    await id("home-alert").filter({ hasText: "PaymentsFailing" }).waitFor();
  },

  async "from a line to its trace to its lines"() {
    await page.goto(`${base}/logs?${params({ q: '{service_name="orders"} |= "accepted"' })}`);
    await id("log-row").first().waitFor();
    await id("log-trace").first().click();
    await id("peek").waitFor();
    await id("peek").getByTestId("span-row").first().waitFor();
    await id("peek-open").click();
    await id("page-trace").waitFor();
    await id("waterfall").waitFor();
    check(/\/trace\/[0-9a-f]{32}/.test(page.url()), `a trace has an address: ${page.url()}`);
    const trace = /\/trace\/([0-9a-f]{32})/.exec(page.url())[1];
    walked = `/trace/${trace}`;
    await until("spans", async () => (await id("span-row").count()) >= 8);
    const services = await id("span-row").allTextContents();
    for (const service of ["gateway", "orders", "inventory", "payments", "worker"]) {
      check(services.some((text) => text.includes(service)), `${service} is in the waterfall: ${services}`);
    }
    // The span of the line may be open already.
    if ((await id("span-detail").count()) === 0) await id("span-row").filter({ hasText: "POST /orders" }).nth(1).click();
    await id("span-detail").first().waitFor();
    await id("span-logs").first().click();
    await id("span-logs-panel").first().waitFor();
    await id("span-logs-panel").getByTestId("log-row").first().waitFor();
    await id("span-logs-open").first().click();
    await id("page-logs").waitFor();
    await id("log-row").first().waitFor();
    check(decodeURIComponent(page.url()).includes(trace), `the lines are those of the trace: ${page.url()}`);
  },

  async "lines around a line, their shapes, their fields, all of them as a file"() {
    await page.goto(`${base}/logs?${params({ q: '{service_name="orders"}' })}`);
    await id("log-row").first().click();
    await id("log-detail-around").first().click();
    await until("lines around", async () => (await id("log-around-line").count()) > 5);
    await id("log-around-pivot-service").first().click();
    await page.locator('[data-testid="log-around-line"][data-here="true"]').first().waitFor();
    await id("log-view-patterns").click();
    await id("log-pattern-in").first().click();
    await until("a filter by shape", () => new URL(page.url()).searchParams.get("q")?.includes("|> "));
    await id("log-row").first().waitFor();
    await id("field-name").first().click();
    await id("field-value").first().waitFor();
    const file = await id("log-export-csv").getAttribute("href");
    const text = await page.evaluate(async (url) => (await fetch(url)).text(), file);
    check(text.startsWith("time,level,service_name,line\r\n") && text.includes(",orders,"), `a file of lines: ${text.slice(0, 200)}`);
  },

  async "a metric is drawn"() {
    const query = "sum by (service) (rate(shop_requests_total[1m]))";
    await page.goto(`${base}/explore/metrics?${params({ q: query, from: "now-5m", to: "now" })}`);
    await id("page-metrics").waitFor();
    await id("chart").waitFor();
    await until("series", async () => (await id("legend-item").count()) >= 4);
    check(await painted("[data-testid=chart] canvas"), "the chart is not empty");
  },

  async "the dashboard of the server itself"() {
    await page.goto(`${base}/d/trefoil`);
    await id("page-dashboard").waitFor();
    await until("panels", async () => (await id("panel").count()) >= 4);
    // Panels ask when they come into view.
    for (const panel of await id("panel").all()) {
      await panel.scrollIntoViewIfNeeded();
      const name = await panel.textContent();
      await until(`panel ${name}`, async () => (await panel.getByTestId("loading").count()) === 0);
      check((await panel.getByTestId("error").count()) === 0, `panel fails: ${await panel.textContent()}`);
    }
    check((await id("chart").count()) > 0, "the dashboard has charts");
    check((await id("panel-unsupported").count()) === 0, "a panel cannot be drawn");
  },

  async "a trace is searched"() {
    await page.goto(`${base}/traces?${params({ service: "gateway" })}`);
    await id("page-traces").waitFor();
    await id("trace-row").first().waitFor();
    await id("trace-row").first().click();
    await id("span-row").first().waitFor();
  },

  async "an alert that fires is shown"() {
    await page.goto(`${base}/alerts`);
    await id("page-alerts").waitFor();
    const firing = page.locator("[data-testid=alert-row][data-state=firing]").filter({ hasText: "PaymentsFailing" });
    await firing.waitFor();
    check((await firing.textContent()).includes("of payments fail"), await firing.textContent());
  },

  async "a faulty query says where"() {
    // The refusal is what is asked for here.
    const before = faults.length;
    await page.goto(`${base}/explore/metrics?${params({ q: "sum(rate(up)" })}`);
    await id("error").first().waitFor();
    check(/1:\d+|parse|unclosed|unexpected/i.test(await id("error").first().textContent()), await id("error").first().textContent());
    faults.splice(before, faults.length, ...faults.slice(before).filter((fault) => !/\b400\b/.test(fault)));
  },

  async "the state of the server"() {
    await page.goto(`${base}/status`);
    await id("page-status").waitFor();
    await id("target-row").first().waitFor();
  },

  async "what the active series are made of"() {
    await page.goto(`${base}/status`);
    await id("status-tabs-cardinality").click();
    await id("page-cardinality").waitFor();
    await id("by-metric-row").first().waitFor();
    await page.locator("[data-testid=cardinality-growth] canvas").first().waitFor();
    check(await painted("[data-testid=cardinality-growth] canvas"), "the growth is not drawn");
    await id("by-metric-row").first().click();
    await id("result-row").first().waitFor();
  },
};

/** Whether a canvas has pixels of more than one colour. */
function painted(selector) {
  return page.locator(selector).first().evaluate((canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const seen = new Set();
    for (let i = 0; i < data.length; i += 4) seen.add((data[i] << 24) | (data[i + 1] << 16) | (data[i + 2] << 8) | data[i + 3]);
    return seen.size > 3;
  });
}

/** Pictures of the pages at two widths, light and dark. */
async function takePictures() {
  mkdirSync(pictures, { recursive: true });
  const places = {
    home: "/",
    metrics: `/explore/metrics?${params({ q: "sum by (service) (rate(shop_requests_total[1m]))", from: "now-5m", to: "now" })}`,
    logs: "/logs?from=now-5m&to=now",
    traces: `/traces?${params({ service: "gateway" })}`,
    trace: walked,
    dashboard: "/d/trefoil?from=now-5m&to=now",
    alerts: "/alerts",
    status: "/status",
    cardinality: "/status/cardinality?from=now-5m&to=now",
  };
  for (const width of [1440, 390]) {
    for (const colorScheme of ["light", "dark"]) {
      const shot = await open({ colorScheme, viewport: { width, height: width === 390 ? 844 : 900 } });
      for (const [name, path] of Object.entries(places)) {
        await shot.goto(base + path);
        await shot.locator("[data-page]").first().waitFor();
        await shot.waitForLoadState("networkidle").catch(() => undefined);
        await shot.screenshot({ path: join(pictures, `${name}-${width}-${colorScheme}.png`) });
      }
      await shot.context().close();
    }
  }
}

let failed = 0;
for (const [name, step] of Object.entries(steps)) {
  try {
    await step();
    console.log(`ok: ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED: ${name}: ${error.message}\nat ${page.url()}`);
    console.log((await page.locator("body").innerText().catch(() => "")).slice(0, 1500));
  }
}
if (pictures) await takePictures();
for (const fault of faults) console.log(`FAULT: ${fault}`);
await browser.close();
process.exit(failed + faults.length === 0 ? 0 : 1);
