// What a new user copies to send the first data, with this server's address in it.

export interface SnippetGroup {
  readonly id: string;
  readonly name: string;
  readonly snippets: readonly { readonly title: string; readonly text: string }[];
}

/** Nothing but the server's own telemetry has arrived. */
export const ownTelemetryOnly = (names: readonly string[]): boolean => names.every((name) => name === "" || name === "trefoil" || name.startsWith("trefoil-"));

/** `base` is the address under which the page was loaded. */
export function snippets(base: URL): SnippetGroup[] {
  const root = `${base.origin}${base.pathname.replace(/[^/]*$/, "").replace(/\/$/, "")}`;
  const host = base.hostname;
  return [
    {
      id: "otel",
      name: "OpenTelemetry",
      snippets: [
        {
          title: "Any SDK, by environment",
          text: `export OTEL_EXPORTER_OTLP_ENDPOINT=http://${host}:4318\nexport OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf\nexport OTEL_SERVICE_NAME=my-service\n`,
        },
        {
          title: "Collector",
          text: `exporters:\n  otlp:\n    endpoint: ${host}:4317\n    tls:\n      insecure: true\nservice:\n  pipelines:\n    metrics: { receivers: [otlp], exporters: [otlp] }\n    logs: { receivers: [otlp], exporters: [otlp] }\n    traces: { receivers: [otlp], exporters: [otlp] }\n`,
        },
      ],
    },
    {
      id: "prometheus",
      name: "Prometheus",
      snippets: [
        {
          title: "Scrape from this server (its configuration file)",
          text: `scrape_configs:\n  - job_name: node\n    static_configs:\n      - targets: ["localhost:9100"]\n`,
        },
        {
          title: "Remote write from a Prometheus you have",
          text: `remote_write:\n  - url: ${root}/api/v1/write\n`,
        },
      ],
    },
    {
      id: "loki",
      name: "Loki push",
      snippets: [
        {
          title: "Promtail, Alloy, Fluent Bit",
          text: `clients:\n  - url: ${root}/loki/api/v1/push\n`,
        },
        {
          title: "One line, by hand",
          text: `curl -s ${root}/loki/api/v1/push \\\n  -H 'Content-Type: application/json' \\\n  -d "{\\"streams\\":[{\\"stream\\":{\\"service_name\\":\\"hello\\"},\n       \\"values\\":[[\\"$(date +%s%N)\\",\\"hello trefoil\\"]]}]}"\n`,
        },
      ],
    },
  ];
}
