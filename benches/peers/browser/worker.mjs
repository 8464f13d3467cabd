// A browser's runtime as a worker of the comparison; the protocol is in `../rust/protocol/src/lib.rs`.
//
//   node worker.mjs FOLDER INPUT OUTPUT CHANNELS HEIGHT WIDTH runtime=onnxruntime|sonolume device=webgpu|wasm [variant=-fused]
//
// A Chromium of its own runs `page.html`, which loads the runtime and does what this process is told. CHROMIUM names the
// program; its WebGPU adapter is the software one unless `adapter=hardware` is said.

import { createReadStream, existsSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { dirname, extname, join, normalize, resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

const here = dirname(fileURLToPath(import.meta.url));
const [folder, input, output, channels, height, width, ...rest] = process.argv.slice(2);
const options = Object.fromEntries(rest.map((text) => text.split(/=(.*)/s).slice(0, 2)));

const ROOTS = {
  model: resolve(folder),
  runtime: join(here, "node_modules/onnxruntime-web/dist"),
  sonolume: join(here, "../../../examples/web/dist"),
  "": here,
};
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm" };

/** Serves the page, the models and the runtimes, isolated as threads in WebAssembly need it. */
async function serve() {
  const server = createServer((request, response) => {
    const [, first, ...more] = normalize(decodeURIComponent(new URL(request.url, "http://x").pathname)).split("/");
    const path = first in ROOTS && more.length ? join(ROOTS[first], ...more) : join(here, first);
    if (path.includes("..") || !existsSync(path) || !statSync(path).isFile()) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, {
      "Content-Type": TYPES[extname(path)] ?? "application/octet-stream",
      "Cross-Origin-Opener-Policy": "same-origin",
      "Cross-Origin-Embedder-Policy": "require-corp",
    });
    createReadStream(path).pipe(response);
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return server;
}

function say(line) {
  process.stdout.write(`${line}\n`);
}

say("loading");
const server = await serve();
const adapter = options.adapter === "hardware" ? ["--enable-features=Vulkan"] : ["--use-webgpu-adapter=swiftshader"];
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--headless", "--no-sandbox", "--enable-unsafe-webgpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run", ...adapter,
  ],
});
try {
  const page = await browser.newPage();
  page.on("console", (message) => console.error(message.text()));
  page.on("pageerror", (error) => console.error(error));
  page.setDefaultTimeout(0);
  await page.goto(`http://127.0.0.1:${server.address().port}/page.html`);
  const shape = [channels, height, width].map(Number);
  const name = input.split("/").at(-1);
  const started = performance.now();
  const first = await page.evaluate((job) => window.load(job), { ...options, shape, input: name });
  const milliseconds = performance.now() - started;
  writeFileSync(output, Buffer.from(first.values, "base64"));
  say(`ready ${milliseconds} ${first.name}, Chromium ${browser.version()}`);
  for await (const line of createInterface({ input: process.stdin })) {
    if (line.trim() === "report") say("{}");
    else say((await page.evaluate((runs) => window.turn(runs), Number(line))).join(" "));
  }
} catch (error) {
  console.error(String(error).split("\n")[0]);
  process.exitCode = 1;
} finally {
  await browser.close();
  server.close();
}
