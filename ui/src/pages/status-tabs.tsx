// The pages under Status, side by side.
import { useLocation } from "wouter-preact";
import { Segmented } from "../components/kit/kit";
import { useHref } from "../state/url";

const PATHS = { status: "/status", cardinality: "/status/cardinality" } as const;

export function StatusTabs({ here }: { here: keyof typeof PATHS }) {
  const [, navigate] = useLocation();
  const href = useHref();
  return (
    <Segmented
      label="Pages of status"
      value={here}
      onChange={(to) => navigate(href(PATHS[to]))}
      testid="status-tabs"
      options={[
        { value: "status", label: "Overview" },
        { value: "cardinality", label: "Cardinality" },
      ]}
    />
  );
}
