// Trefoil's own API: the dashboards the server knows.
import { readDashboard, type Dashboard } from "../lib/dashboard/model";
import { anything, list, obj, or, str } from "./check";
import { getJson } from "./client";

const entry = obj({ uid: or(str, ""), title: or(str, ""), tags: or(list(str), []) });
export type DashboardEntry = ReturnType<typeof entry>;

export const dashboards = async (signal?: AbortSignal): Promise<DashboardEntry[]> =>
  obj({ data: or(list(entry), []) })(await getJson("api/v1/trefoil/dashboards", { ...(signal && { signal }) }), "").data.filter((d) => d.uid !== "");

/** The dashboard's JSON comes bare, or as `data` of an envelope with a status. */
export async function dashboard(uid: string, signal?: AbortSignal): Promise<Dashboard> {
  const json = await getJson(`api/v1/trefoil/dashboards/${encodeURIComponent(uid)}`, { ...(signal && { signal }) });
  const { status, data } = obj({ status: or(str, ""), data: anything })(json, "");
  return readDashboard(status === "success" && data !== undefined ? data : json);
}
