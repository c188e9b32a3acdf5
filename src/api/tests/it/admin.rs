//! Deletion, snapshots and cardinality over HTTP.

use serde_json::{Value, json};

use crate::support::{TestServer, client, text};

const ON: &str = "  enable_admin_api: true\n";

fn parsed(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}"))
}

#[tokio::test]
async fn the_admin_api_is_off_by_default() {
    let server = TestServer::start("").await;
    for call in ["delete_series?match[]=up", "clean_tombstones", "snapshot"] {
        let (status, body) = server.post(&format!("/api/v1/admin/tsdb/{call}"), &[]).await;
        let want = json!({"status": "error", "errorType": "unavailable", "error": "admin APIs disabled"});
        assert_eq!((status, parsed(&body)), (500, want), "{call}");
    }
    server.stop().await;
}

#[tokio::test]
async fn series_are_deleted() {
    let server = TestServer::start(ON).await;
    let path = "/api/v1/admin/tsdb/delete_series";
    let both = format!("{path}?match[]=up%7Bjob=%22api%22%7D&match[]=fresh&start=1&end=2.5");
    assert_eq!(text(client().put(server.url(&both))).await, (204, String::new()));
    assert_eq!(server.post(path, &[("match[]", "gone"), ("end", "1970-01-01T00:00:03Z")]).await.0, 204);
    assert_eq!(server.post("/api/v1/admin/tsdb/clean_tombstones", &[]).await.0, 204);
    assert_eq!(
        *server.memory.admin_calls.lock(),
        [
            "delete job=api,__name__=up from 1000 to 2501",
            "delete __name__=fresh from 1000 to 2501",
            "delete __name__=gone from -9000000000000000 to 3001",
            "clean",
        ]
    );
    for (form, want) in [
        (&[][..], "no match[] parameter provided"),
        (&[("match[]", "{}")], "invalid parameter \"match[]\": match[] must contain at least one non-empty matcher"),
        (
            &[("match[]", "up"), ("start", "x")],
            "invalid parameter \"start\": invalid time value for 'start': cannot parse \"x\" to a valid timestamp",
        ),
    ] {
        let (status, body) = server.post(path, form).await;
        let want = json!({"status": "error", "errorType": "bad_data", "error": want});
        assert_eq!((status, parsed(&body)), (400, want), "{form:?}");
    }
    assert_eq!(server.get(path).await.0, 405);
    assert_eq!(server.memory.admin_calls.lock().len(), 4);
    server.stop().await;
}

#[tokio::test]
async fn snapshots_are_taken() {
    let server = TestServer::start(ON).await;
    let path = "/api/v1/admin/tsdb/snapshot";
    for (form, name) in [
        (&[][..], "whole"),
        (&[("skip_head", "true")], "parts"),
        (&[("skip_head", "0")], "whole"),
        (&[("for_backup", "true")], "backup"),
    ] {
        let (status, body) = server.post(path, form).await;
        assert_eq!((status, parsed(&body)), (200, json!({"status": "success", "data": {"name": name}})), "{form:?}");
    }
    let (status, body) = server.post(path, &[("skip_head", "x")]).await;
    let want =
        "invalid parameter \"skip_head\": unable to parse boolean: strconv.ParseBool: parsing \"x\": invalid syntax";
    assert_eq!((status, &parsed(&body)["error"]), (400, &json!(want)));
    server.stop().await;
}

#[tokio::test]
async fn cardinality_is_told_in_two_forms() {
    let server = TestServer::start(ON).await;
    let (_, body) = server.get("/api/v1/status/tsdb?limit=1").await;
    assert_eq!(
        parsed(&body)["data"],
        json!({
            "headStats": {"numSeries": 7, "numLabelPairs": 9, "chunkCount": 0, "minTime": 1000, "maxTime": 2000},
            "seriesCountByMetricName": [{"name": "http_requests_total", "value": 4}],
            "labelValueCountByLabelName": [{"name": "user", "value": 4}],
            "memoryInBytesByLabelName": [{"name": "user", "value": 40}],
            "seriesCountByLabelValuePair": [{"name": "__name__=up", "value": 5}],
        })
    );
    let (_, body) = server.get("/api/v1/status/cardinality?limit=2").await;
    let data = &parsed(&body)["data"];
    assert_eq!(data["seriesByJob"], json!([{"name": "api", "value": 4}, {"name": "db", "value": 2}]));
    assert_eq!(data["seriesByPair"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        data["offenders"],
        json!([{
            "job": "api", "limit": "series_per_job_max", "limitValue": 4, "series": 4, "refused": 11,
            "firstRefused": "2023-11-14T22:13:20Z", "lastRefused": "2023-11-14T22:14:20Z",
            "label": "user", "labelValues": 12, "metric": "http_requests_total",
        }])
    );
    for path in ["tsdb?limit=0", "tsdb?limit=10001", "cardinality?limit=1001", "cardinality?limit=x"] {
        assert_eq!(server.get(&format!("/api/v1/status/{path}")).await.0, 400, "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_store_without_books_is_counted() {
    let server = TestServer::start("").await;
    let (_, body) = server.get("/api/v1/status/cardinality").await;
    let data = &parsed(&body)["data"];
    assert_eq!(data["seriesByMetric"], json!([{"name": "fresh", "value": 1}]));
    assert_eq!(data["seriesByJob"], json!([{"name": "api", "value": 1}]));
    assert_eq!(data["offenders"], json!([]));
    server.stop().await;
}
