// Builds the npm package (dist/) and the page (site/): `node tools/build.mjs`. With `--keep-modules`, only what is
// TypeScript, from the WebAssembly modules that are there.

import { execFileSync } from "node:child_process";
import { cpSync, existsSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const web = dirname(dirname(fileURLToPath(import.meta.url)));
const root = join(web, "../..");
const target = process.env.CARGO_TARGET_DIR ?? join(root, "target");

function run(command, args, options = {}) {
  execFileSync(command, args, { cwd: root, stdio: ["ignore", "inherit", "inherit"], ...options });
}

function has(command) {
  try {
    execFileSync(command, ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** The worker takes the last of these that its browser knows. */
const MODULES = {
  simd: { features: "+simd128", cargo: [] },
  "relaxed-simd": { features: "+simd128,+relaxed-simd", cargo: ["--features", "relaxed-simd"] },
};

function buildModules() {
  if (has("rustup")) run("rustup", ["target", "add", "wasm32-unknown-unknown"], { stdio: "ignore" });
  for (const [name, { features, cargo }] of Object.entries(MODULES)) {
    // A folder for each: other flags would have Cargo compile everything again.
    const folder = join(target, "web", name);
    const flags = { CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS: `-C target-feature=${features}` };
    const arguments_ = ["--quiet", "--profile", "web", "--target", "wasm32-unknown-unknown", "-p", "sonolume-web", ...cargo];
    // Flags of its own: RUSTFLAGS would go before them.
    const { RUSTFLAGS: _, ...environment } = process.env;
    run("cargo", ["build", "--target-dir", folder, ...arguments_], { env: { ...environment, ...flags } });
    const module = join(folder, "wasm32-unknown-unknown/web/sonolume_web.wasm");
    run("cargo", ["run", "--quiet", "--release", "-p", "sonolume-web-bindgen", "--", module, join(web, "js/wasm", name)]);
  }
}

function buildPackage() {
  const dist = join(web, "dist");
  rmSync(dist, { recursive: true, force: true });
  compile("tsconfig.json");
  for (const name of Object.keys(MODULES)) {
    for (const file of ["sonolume_web.js", "sonolume_web.d.ts", "sonolume_web_bg.wasm"]) {
      cpSync(join(web, "js/wasm", name, file), join(dist, "wasm", name, file));
    }
  }
}

function buildPage() {
  const site = join(web, "site");
  rmSync(site, { recursive: true, force: true });
  compile("page/tsconfig.json");
  for (const name of ["index.html", "style.css"]) cpSync(join(web, "page", name), join(site, name));
  cpSync(join(web, "dist"), join(site, "sonolume"), { recursive: true, filter: (path) => !path.endsWith(".d.ts") });
  cpSync(join(root, "examples/data/phantom.png"), join(site, "phantom.png"));
  // Every generator of weights/ but the one that is built in.
  const weights = join(root, "weights");
  const names = readdirSync(weights).filter((name) => name.endsWith(".safetensors") && name !== "sonolume-s.safetensors");
  for (const name of names) cpSync(join(weights, name), join(site, "models", name));
  writeFileSync(join(site, "models.json"), JSON.stringify(names));
}

function compile(project) {
  run(process.execPath, [join(web, "node_modules/typescript/bin/tsc"), "-p", join(web, project)]);
}

function report() {
  const size = (bytes) => `${(bytes / 1e6).toFixed(2)} MB`;
  for (const name of Object.keys(MODULES)) {
    const module = readFileSync(join(web, "dist/wasm", name, "sonolume_web_bg.wasm"));
    const brotli = brotliCompressSync(module, { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } });
    const gzip = gzipSync(module, { level: 9 });
    console.log(`module with weights, ${name}: ${size(module.length)}, gzip ${size(gzip.length)}, brotli ${size(brotli.length)}`);
  }
  const scripts = ["index.js", "worker.js", "wasm/simd/sonolume_web.js"].map((name) => statSync(join(web, "dist", name)).size);
  console.log(`scripts: ${size(scripts.reduce((sum, bytes) => sum + bytes, 0))}`);
}

if (!existsSync(join(web, "node_modules/typescript"))) {
  run("npm", ["ci", "--no-audit", "--no-fund"], { cwd: web });
}
if (!process.argv.includes("--keep-modules")) buildModules();
buildPackage();
buildPage();
report();
