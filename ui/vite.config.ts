import { defineConfig } from "vitest/config";

// Relative base: the server injects <base href>, so one build serves any path prefix.
export default defineConfig({
  base: "./",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    target: "es2022",
    outDir: "dist",
    emptyOutDir: true,
    assetsInlineLimit: 0, // data: URLs are not allowed by the Content-Security-Policy
    modulePreload: { polyfill: false },
    manifest: true,
    sourcemap: false,
  },
  server: {
    proxy: Object.fromEntries(
      ["/api", "/loki/api", "/prometheus/api", "/jaeger/api"].map((path) => [path, "http://127.0.0.1:9090"]),
    ),
  },
  test: { environment: "happy-dom", include: ["src/**/*.test.{ts,tsx}"] },
});
