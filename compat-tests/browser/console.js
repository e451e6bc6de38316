// The console page of a running gateway in a headless browser: what it shows, how it looks, and what it does not let happen.
//
// usage: console.js <admin address> <empty | full> <expectations as JSON> [folder for screenshots]
//
// Prints one line for each check. In `full` it prints `stop the gateway` in the end and waits for the page to notice.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import process from "node:process";
import puppeteer from "puppeteer-core";

const [admin, scene, expectations, folder] = process.argv.slice(2);
const expected = JSON.parse(expectations);
const BROWSERS = ["/usr/bin/chromium-headless-shell", "/usr/bin/chromium", "/usr/bin/google-chrome"];
const program = process.env.STREAMHOUSE_BROWSER || BROWSERS.find(existsSync);
if (!program) {
  console.error("no browser: install chromium-headless-shell, or set STREAMHOUSE_BROWSER");
  process.exit(1);
}
const WITHIN = 90_000;
// WCAG 2.1, contrast of text (AA).
const CONTRAST = 4.5;

const browser = await puppeteer.launch({ executablePath: program, headless: "shell", timeout: WITHIN, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
const page = await browser.newPage();
page.setDefaultTimeout(WITHIN);
const errors = [], asked = new Set();
page.on("pageerror", (error) => errors.push(String(error)));
page.on("console", (message) => { if (message.type() === "error") errors.push(message.text()); });
page.on("request", (request) => { if (!request.url().startsWith("data:")) asked.add(new URL(request.url()).host); });

async function check(name, body) {
  await body();
  console.log(`ok ${name}`);
}
const picture = async (name) => { if (folder) await page.screenshot({ path: `${folder}/${name}.png`, fullPage: true }); };
const text = (selector) => page.$eval(selector, (found) => found.textContent.trim());
const until = (what, ...given) => page.waitForFunction(what, { timeout: WITHIN, polling: 50 }, ...given);
/** Cells of the rows of a table, without those of opened details. */
const rows = (side) => page.$$eval(`#${side} > table > tbody > tr:not(.detail)`, (lines) =>
  lines.map((line) => [...line.children].map((cell) => cell.textContent)));
const row = async (side, name) => (await rows(side)).find((cells) => cells[0] === name);
const fact = (name) => page.$$eval("#facts dt", (names, name) =>
  names.find((found) => found.textContent === name)?.nextElementSibling.textContent, name);
const press = (side, name) => page.$$eval(`#${side} button`, (buttons, name) => {
  const found = buttons.find((button) => button.textContent === name);
  if (!found) throw new Error(`no button ${name}`);
  found.click();
}, name);
const fits = async (width) => {
  await page.setViewport({ width, height: 800 });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(wide <= width, `at ${width} px the page is ${wide} px wide`);
};

/** The worst contrast of any text that is seen, and where. */
const contrast = () => page.evaluate(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const part = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = rgba(getComputedStyle(at).backgroundColor);
      if (color[3] === 255) return color;
    }
    return [255, 255, 255, 255];
  };
  let worst = [99, ""];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !element.checkVisibility() || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
    const [a, b] = [light(rgba(getComputedStyle(element).color)), light(ground(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < worst[0]) worst = [ratio, walk.currentNode.data.trim()];
  }
  return worst;
});
const groundIsDark = () => page.evaluate(() => {
  const canvas = document.createElement("canvas").getContext("2d");
  canvas.fillStyle = getComputedStyle(document.body).backgroundColor;
  canvas.fillRect(0, 0, 1, 1);
  return canvas.getImageData(0, 0, 1, 1).data[0] < 80;
});

async function open() {
  await page.setViewport({ width: 1440, height: 900 });
  const answer = await page.goto(`http://${admin}/`, { waitUntil: "load" });
  assert.equal(answer.status(), 200);
  await until(() => document.body.dataset.answered === "yes");
  assert.equal(await text("#state"), "ready");
  return answer;
}

async function empty() {
  await open();
  await check("an empty gateway says what to do next", async () => {
    assert.match(await text("#try-produce"), new RegExp(`^echo hello \\| kcat -b ${expected.bootstrap} -P -t \\S+$`));
    assert.match(await text("#try-group"), new RegExp(`^kcat -b ${expected.bootstrap} .*-G readers greetings$`));
    assert.equal(await page.$eval("#topics table", (table) => table.checkVisibility()), false);
  });
  await check("it fits a phone", async () => { await fits(375); });
  await page.setViewport({ width: 1440, height: 900 });
  await picture("empty");
}

async function whatItShows() {
  await check("topics are as they were written", async () => {
    for (const [name, partitions, records, size] of expected.topics) {
      await page.$eval("#topics input", (input, name) => { input.value = name; input.dispatchEvent(new Event("input")); }, name);
      await until((name) => document.querySelector("#topics tbody td")?.textContent === name, name);
      const cells = await row("topics", name);
      assert.deepEqual(cells.slice(0, 3), [name, partitions, records]);
      assert.equal(cells[3], size);
    }
  });
  await check("a long list is cut, and says so", async () => {
    await page.$eval("#topics input", (input) => { input.value = ""; input.dispatchEvent(new Event("input")); });
    await until((total) => document.querySelector("#topics .count").textContent.startsWith(total), expected.topicsTotal);
    assert.equal(await text("#topics .count"), `${expected.topicsTotal}: the first 1,000 are shown, filter for the others`);
    assert.equal((await rows("topics")).length, 1_000);
  });
  await check("a click on a column orders by it, largest first, and again the other way", async () => {
    await press("topics", "Records");
    await until((name) => document.querySelector("#topics tbody td")?.textContent === name, expected.largest);
    const sorted = () => page.$$eval("#topics thead th", (heads) => heads.map((head) => head.getAttribute("aria-sort")));
    assert.deepEqual(await sorted(), [null, null, "descending", null, null]);
    await press("topics", "Topic");
    await until(() => document.querySelector("#topics th").getAttribute("aria-sort") === "ascending");
  });
  await check("groups and their lag", async () => {
    for (const [name, state, members, partitions, lag] of expected.groups) {
      // A member has no lag before it has committed anything: only the whole row tells that it has.
      await until((wanted) => [...document.querySelectorAll("#groups tbody tr")].some((line) =>
        [...line.children].map((cell) => cell.textContent).join("|") === wanted),
      [name, state, members, partitions, lag].join("|"));
      assert.deepEqual(await row("groups", name), [name, state, members, partitions, lag]);
    }
  });
  await check("traffic, cost and plots", async () => {
    for (const name of ["In", "Out", "Requests", "Appends", "Append, p50", "Size"]) {
      assert.match(await fact(name), /^[1-9]|^0\.\d/, name);
    }
    assert.equal(await fact("Partitions"), expected.partitions);
    assert.match(await fact("PUT / GET"), /^[1-9][\d,]* \/ /);
    assert.equal(await fact("Spent"), "$0", "a folder costs nothing");
    await until(() => [...document.querySelectorAll(".plot")].filter((plot) => plot.querySelector("path.l0").getAttribute("d")).length >= 7);
    const label = await page.$eval(".plot svg", (svg) => svg.getAttribute("aria-label"));
    assert.match(label, /^Throughput in the last hour: in .*\/s, out .*\/s; at most [\d.,]+ \w+\/s$/);
    const top = await page.$$eval(".plot", (plots) => plots[1].querySelector(".top").textContent);
    assert.match(top, /^top [\d.]+ m?s$/, "produces took time");
  });
}

async function details() {
  await check("a topic opens to its partitions", async () => {
    const [name, ends] = expected.opened;
    await page.$eval("#topics input", (input, name) => { input.value = name; input.dispatchEvent(new Event("input")); }, name);
    await until((name) => document.querySelectorAll("#topics > table > tbody > tr").length === 1 && document.querySelector("#topics tbody td").textContent === name, name);
    await press("topics", name);
    await until(() => document.querySelector("#topics .detail table"));
    const found = await page.$$eval("#topics .detail tbody tr", (lines) => lines.map((line) => line.children[2].textContent));
    assert.deepEqual(found, ends);
    assert.equal(await page.$eval("#topics td button", (button) => button.getAttribute("aria-expanded")), "true");
  });
  await check("a group opens to its members, whatever they call themselves", async () => {
    const [name, client] = expected.member;
    await press("groups", name);
    await until((client) => [...document.querySelectorAll("#groups .detail td")].some((cell) => cell.textContent === client), client);
  });
}

async function safety(answer) {
  await check("names of users are text, never markup", async () => {
    const names = (await rows("groups")).map((cells) => cells[0]);
    for (const name of expected.hostile) {
      assert.ok(names.includes(name), `${name} is not shown as it is: ${names}`);
      await press("groups", name);
      await until((name) => [...document.querySelectorAll("#groups [aria-expanded=true]")].some((b) => b.textContent === name), name);
    }
    assert.equal(await page.evaluate(() => window.hacked), undefined);
    assert.equal(await page.$("main img, main script, main iframe, main [onerror], main [onload]"), null);
  });
  await check("nothing foreign runs or is asked", async () => {
    const policy = answer.headers()["content-security-policy"];
    assert.match(policy, /^default-src 'none'; script-src 'nonce-[0-9a-f]{32}'/);
    assert.deepEqual([...asked], [admin]);
    assert.deepEqual(errors, []);
    // What would run if markup got in after all.
    await page.evaluate(() => {
      const script = document.createElement("script");
      script.textContent = "window.injected = 1";
      document.body.append(script);
      const holder = document.createElement("div");
      holder.innerHTML = "<img src=x onerror='window.injected = 1'>";
      document.body.append(holder);
    });
    await new Promise((done) => setTimeout(done, 300));
    assert.equal(await page.evaluate(() => window.injected), undefined);
    errors.length = 0; // what the policy said to this
  });
}

async function looks() {
  await check("every control has a name, every column a head", async () => {
    const nameless = await page.evaluate(() => {
      const inputs = [...document.querySelectorAll("input")].filter((input) => !input.labels.length);
      const buttons = [...document.querySelectorAll("button, a")].filter((button) => !button.textContent.trim());
      const tables = [...document.querySelectorAll("table")].filter((table) => !table.querySelector("th[scope=col]") ||
        !(table.getAttribute("aria-label") || table.getAttribute("aria-labelledby")));
      return inputs.length + buttons.length + tables.length + (document.documentElement.lang === "en" ? 0 : 1);
    });
    assert.equal(nameless, 0);
  });
  for (const dark of [false, true]) {
    const name = dark ? "dark" : "light";
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: name }]);
    await check(`${name}, as the system is, and legible`, async () => {
      assert.equal(await groundIsDark(), dark);
      const [ratio, where] = await contrast();
      assert.ok(ratio >= CONTRAST, `contrast ${ratio.toFixed(2)} of "${where}"`);
    });
    await page.setViewport({ width: 1440, height: 900 });
    await picture(`wide-${name}`);
    await check(`${name} fits a phone with everything open`, async () => { await fits(375); await fits(320); });
    await page.setViewport({ width: 375, height: 800, deviceScaleFactor: 2 });
    await picture(`phone-${name}`);
  }
  await check("the button sets a theme, which is kept", async () => {
    await page.click("#theme");
    assert.equal(await text("#theme"), "Theme: light");
    assert.equal(await groundIsDark(), false, "though the system is dark");
    await page.reload();
    await until(() => document.body.dataset.answered === "yes");
    assert.equal(await text("#theme"), "Theme: light");
    await page.click("#theme");
    assert.equal(await groundIsDark(), true);
  });
}

async function full() {
  const answer = await open();
  await whatItShows();
  await details();
  await safety(answer);
  await looks();
  await check("a gateway that is gone is said", async () => {
    console.log("stop the gateway");
    await until(() => /^no answer since \d/.test(document.querySelector("#state").textContent));
    assert.ok((await rows("groups")).length > 0, "what was known stays");
  });
}

try {
  await (scene === "empty" ? empty() : full());
} finally {
  await picture("last");
  await browser.close();
}
console.log("passed");
