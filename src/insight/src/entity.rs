//! Who a metric, a log record or a span is of: one entity under the names of OpenTelemetry, Prometheus and Kubernetes,
//! without any configuration.
//!
//! `job` is `service.namespace/service.name` or `service.name`, `instance` is `service.instance.id` (OpenTelemetry's
//! mapping to Prometheus), `pod`, `namespace`, `container` and `node` are what kube-state-metrics and cAdvisor write.
//! Dots and underscores in names are the same.

use trefoil_model::labels::underscored;

/// Names of each part, underscored, the best first.
const SERVICE: [&str; 12] = [
    "service_name",
    "service",
    "app_kubernetes_io_name",
    "k8s_deployment_name",
    "app",
    "application",
    "app_name",
    "deployment",
    "job",
    "k8s_container_name",
    "container",
    "container_name",
];
const NAMESPACE: [&str; 1] = ["service_namespace"];
const INSTANCE: [&str; 2] = ["service_instance_id", "instance"];
const HOST: [&str; 4] = ["host_name", "host", "hostname", "nodename"];
const POD: [&str; 4] = ["k8s_pod_name", "pod", "pod_name", "kubernetes_pod_name"];
const K8S_NAMESPACE: [&str; 4] = ["k8s_namespace_name", "namespace", "kubernetes_namespace", "exported_namespace"];
const NODE: [&str; 2] = ["k8s_node_name", "node"];
/// Services that mean nothing.
const UNKNOWN: &str = "unknown_service";

/// An entity, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Entity {
    /// Service.
    pub service: Option<String>,
    /// Namespace of the service.
    pub namespace: Option<String>,
    /// Instance of the service.
    pub instance: Option<String>,
    /// Host.
    pub host: Option<String>,
    /// Namespace of Kubernetes.
    pub k8s_namespace: Option<String>,
    /// Pod.
    pub pod: Option<String>,
    /// Node.
    pub node: Option<String>,
}

/// Conditions on labels that all hold: what they say together, names with their values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// By what the entity is known there.
    pub by: &'static str,
    /// Label, its value, and whether it is a whole pattern (RE2) instead of the value.
    pub labels: Vec<(String, String, bool)>,
}

impl Selector {
    fn new(by: &'static str, labels: &[(&str, &str)]) -> Self {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned(), false)).collect();
        Self { by, labels }
    }
}

impl std::fmt::Display for Selector {
    /// As PromQL and LogQL write it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("{")?;
        for (at, (name, value, is_pattern)) in self.labels.iter().enumerate() {
            let (comma, operator) = (if at > 0 { ", " } else { "" }, if *is_pattern { "=~" } else { "=" });
            write!(f, "{comma}{name}{operator}{}", quoted(value))?;
        }
        f.write_str("}")
    }
}

/// A text in double quotes, as the query languages read it.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

impl Entity {
    /// Of labels or attributes by any of their names. Empty values are none.
    pub fn of<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let pairs: Vec<(String, &str)> =
            pairs.filter(|(_, v)| !v.is_empty()).map(|(n, v)| (underscored(n).into_owned(), v)).collect();
        let find = |names: &[&str]| {
            names.iter().find_map(|name| pairs.iter().find(|(n, _)| n == name)).map(|(_, v)| (*v).to_owned())
        };
        let mut entity = Self {
            service: None,
            namespace: find(&NAMESPACE),
            instance: find(&INSTANCE),
            host: find(&HOST),
            k8s_namespace: find(&K8S_NAMESPACE),
            pod: find(&POD),
            node: find(&NODE),
        };
        let is_known = |v: &str| !v.is_empty() && v != UNKNOWN && !v.starts_with("unknown_service:");
        let service = SERVICE.iter().filter_map(|name| pairs.iter().find(|(n, _)| n == name));
        if let Some((name, value)) = service.into_iter().find(|(_, v)| is_known(v)) {
            match value.split_once('/') {
                Some((namespace, service)) if name == "job" && is_known(service) => {
                    entity.service = Some(service.to_owned());
                    entity.namespace.get_or_insert_with(|| namespace.to_owned());
                }
                _ => entity.service = Some((*value).to_owned()),
            }
        }
        entity
    }

    /// A service and nothing else.
    pub fn of_service(name: &str) -> Self {
        Self { service: Some(name.to_owned()), ..Self::default() }
    }

    /// True when nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// How its series may be found, the narrowest first: by instance, pod, service, host, node.
    pub fn metrics(&self) -> Vec<Selector> {
        let mut out = Vec::new();
        let jobs: Vec<String> = match (&self.service, &self.namespace) {
            (Some(service), Some(namespace)) => vec![format!("{namespace}/{service}"), service.clone()],
            (Some(service), None) => vec![service.clone()],
            _ => Vec::new(),
        };
        if let Some(instance) = &self.instance {
            jobs.iter().for_each(|job| out.push(Selector::new("instance", &[("job", job), ("instance", instance)])));
            out.push(Selector::new("instance", &[("service_instance_id", instance)]));
            if jobs.is_empty() {
                out.push(Selector::new("instance", &[("instance", instance)]));
            }
        }
        if let Some(pod) = &self.pod {
            let mut by_pod = |pod_label: &str, namespace_label: &str| match &self.k8s_namespace {
                Some(namespace) => {
                    out.push(Selector::new("pod", &[(namespace_label, namespace), (pod_label, pod)]));
                }
                None => out.push(Selector::new("pod", &[(pod_label, pod)])),
            };
            by_pod("pod", "namespace");
            by_pod("k8s_pod_name", "k8s_namespace_name");
        }
        jobs.iter().for_each(|job| out.push(Selector::new("service", &[("job", job)])));
        if let Some(service) = &self.service {
            for label in ["service_name", "service", "app", "container", "server", "client"] {
                out.push(Selector::new("service", &[(label, service)]));
            }
        }
        if let Some(host) = &self.host {
            let labels = vec![("instance".to_owned(), format!("{}(:[0-9]+)?", escaped(host)), true)];
            out.push(Selector { by: "host", labels });
            out.push(Selector::new("host", &[("host_name", host)]));
            out.push(Selector::new("host", &[("nodename", host)]));
        }
        if let Some(node) = &self.node {
            out.push(Selector::new("node", &[("node", node)]));
            out.push(Selector::new("node", &[("k8s_node_name", node)]));
        }
        out
    }

    /// How its log records may be found, likewise.
    pub fn logs(&self) -> Vec<Selector> {
        let mut out = Vec::new();
        if let Some(pod) = &self.pod {
            out.push(Selector::new("pod", &[("k8s_pod_name", pod)]));
            out.push(Selector::new("pod", &[("pod", pod)]));
        }
        if let Some(service) = &self.service {
            out.push(Selector::new("service", &[("service_name", service)]));
            for label in ["app", "job", "container"] {
                out.push(Selector::new("service", &[(label, service)]));
            }
        }
        if let Some(host) = &self.host {
            out.push(Selector::new("host", &[("host_name", host)]));
            out.push(Selector::new("host", &[("host", host)]));
        }
        out
    }

    /// The TraceQL that finds its spans, `None` when nothing that spans have is known.
    pub fn traces(&self) -> Option<String> {
        if let Some(service) = &self.service {
            return Some(format!("{{ resource.service.name = {} }}", quoted(service)));
        }
        let by = |name: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!("{{ resource.{name} = {} }}", quoted(value)))
        };
        by("k8s.pod.name", &self.pod)
            .or_else(|| by("service.instance.id", &self.instance))
            .or_else(|| by("host.name", &self.host))
            .or_else(|| by("k8s.node.name", &self.node))
    }
}

/// A text as a pattern that matches it alone.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if !c.is_alphanumeric() && c != '-' && c != '_' {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Entity {
        Entity::of(pairs.iter().copied())
    }

    #[test]
    fn all_namings_are_one_entity() {
        let check = |pairs: &[(&str, &str)], service: &str, namespace: &str, instance: &str| {
            let entity = of(pairs);
            let text = |part: &Option<String>| part.clone().unwrap_or_default();
            let got = (text(&entity.service), text(&entity.namespace), text(&entity.instance));
            assert_eq!(got, (service.to_owned(), namespace.to_owned(), instance.to_owned()), "{pairs:?}");
        };
        let otel = [("service.name", "cart"), ("service.namespace", "shop"), ("service.instance.id", "7")];
        check(&otel, "cart", "shop", "7");
        check(&[("job", "shop/cart"), ("instance", "7")], "cart", "shop", "7");
        check(&[("job", "cart"), ("instance", "h:80"), ("service_name", "unknown_service")], "cart", "", "h:80");
        check(&[("app", "cart"), ("pod", "cart-1"), ("namespace", "shop")], "cart", "", "");
        check(&[("service.name", ""), ("le", "1")], "", "", "");
        assert!(of(&[("le", "1")]).is_empty());
    }

    #[test]
    fn the_ways_to_an_entity() {
        let entity = of(&[
            ("service.name", "cart"),
            ("service.namespace", "shop"),
            ("service.instance.id", "7"),
            ("k8s.pod.name", "cart-1"),
            ("k8s.namespace.name", "prod"),
            ("host.name", "node1.x"),
        ]);
        let metrics: Vec<String> = entity.metrics().iter().map(ToString::to_string).collect();
        for want in [
            r#"{job="shop/cart", instance="7"}"#,
            r#"{namespace="prod", pod="cart-1"}"#,
            r#"{k8s_namespace_name="prod", k8s_pod_name="cart-1"}"#,
            r#"{job="cart"}"#,
            r#"{service="cart"}"#,
            r#"{instance=~"node1\\.x(:[0-9]+)?"}"#,
        ] {
            assert!(metrics.iter().any(|m| m == want), "{want} in {metrics:?}");
        }
        assert_eq!(entity.logs()[0].to_string(), r#"{k8s_pod_name="cart-1"}"#);
        assert_eq!(entity.traces().unwrap(), r#"{ resource.service.name = "cart" }"#);
        assert_eq!(of(&[("pod", "a\"b")]).traces().unwrap(), r#"{ resource.k8s.pod.name = "a\"b" }"#);
        assert_eq!(Entity::default().traces(), None);
    }
}
