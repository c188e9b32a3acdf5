//! Labels that the place of a file gives: Kubernetes' from its path, Docker's from the file beside it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

/// Largest description of a container that is read.
const DESCRIPTION_BYTES_MAX: u64 = 1 << 20;

/// The labels of a path; empty for an ordinary file.
pub(crate) fn labels(path: &Path) -> Vec<(String, String)> {
    of_pod(path).or_else(|| of_container_link(path)).or_else(|| of_docker(path)).unwrap_or_default()
}

fn kubernetes(namespace: &str, pod: &str, container: &str) -> Vec<(String, String)> {
    [
        ("namespace", namespace.to_owned()),
        ("pod", pod.to_owned()),
        ("container", container.to_owned()),
        ("job", format!("{namespace}/{container}")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// `.../pods/<namespace>_<pod>_<uid>/<container>/<n>.log`
fn of_pod(path: &Path) -> Option<Vec<(String, String)>> {
    let parts: Vec<&str> = path.iter().filter_map(|p| p.to_str()).collect();
    let [.., "pods", pod, container, _] = parts.as_slice() else { return None };
    let mut names = pod.split('_');
    match (names.next(), names.next(), names.next(), names.next()) {
        (Some(namespace), Some(name), Some(_uid), None) => Some(kubernetes(namespace, name, container)),
        _ => None,
    }
}

/// `.../containers/<pod>_<namespace>_<container>-<64 hex digits>.log`
fn of_container_link(path: &Path) -> Option<Vec<(String, String)>> {
    if path.parent()?.file_name()? != "containers" {
        return None;
    }
    let (names, id) = path.file_name()?.to_str()?.strip_suffix(".log")?.rsplit_once('-')?;
    if id.len() != 64 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut names = names.split('_');
    match (names.next(), names.next(), names.next(), names.next()) {
        (Some(pod), Some(namespace), Some(container), None) => Some(kubernetes(namespace, pod, container)),
        _ => None,
    }
}

/// `.../containers/<id>/<id>-json.log` beside `config.v2.json`.
fn of_docker(path: &Path) -> Option<Vec<(String, String)>> {
    let id = path.parent()?.file_name()?.to_str()?;
    if !path.file_name()?.to_str()?.starts_with(&format!("{id}-json.log")) {
        return None;
    }
    let mut text = String::new();
    let description = File::open(path.with_file_name("config.v2.json")).ok()?;
    description.take(DESCRIPTION_BYTES_MAX).read_to_string(&mut text).ok()?;
    let document: Value = serde_json::from_str(&text).ok()?;
    let name = document.get("Name")?.as_str()?.trim_start_matches('/');
    let mut out = vec![("container".to_owned(), name.to_owned())];
    for (label, key) in
        [("compose_project", "com.docker.compose.project"), ("compose_service", "com.docker.compose.service")]
    {
        let value = document.pointer("/Config/Labels").and_then(|labels| labels.get(key)).and_then(Value::as_str);
        out.extend(value.map(|value| (label.to_owned(), value.to_owned())));
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_kubernetes() {
        let show = |path: &str| {
            labels(Path::new(path)).into_iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join(",")
        };
        let want = "namespace=shop,pod=web-7d4-x2,container=app,job=shop/app";
        assert_eq!(show("/var/log/pods/shop_web-7d4-x2_0aa1-bb/app/3.log"), want);
        let id = "0123456789abcdef".repeat(4);
        assert_eq!(show(&format!("/var/log/containers/web-7d4-x2_shop_app-{id}.log")), want);
        assert_eq!(show("/var/log/pods/odd/app/3.log"), "");
        assert_eq!(show("/var/log/a.log"), "");
        assert_eq!(show("a"), "");
    }
}
