//! Kubernetes.

use std::path::PathBuf;

use crate::decode::{Sink, choice, section};
use crate::http_client::HttpClientConfig;
use crate::values::ConfigUrl;
use crate::yaml::Node;

choice! {
    /// Which objects become targets.
    pub enum KubernetesRole: "Kubernetes SD role" {
        /// Nodes.
        Node = "node",
        /// Ports of pods.
        Pod = "pod",
        /// Ports of services.
        Service = "service",
        /// Addresses of endpoints.
        Endpoints = "endpoints",
        /// Addresses of endpoint slices.
        EndpointSlice = "endpointslice",
        /// Paths of ingresses.
        Ingress = "ingress",
    }
}

impl KubernetesRole {
    fn selectors(self) -> &'static [Self] {
        match self {
            Self::Pod => &[Self::Pod, Self::Node],
            Self::Service => &[Self::Service],
            Self::EndpointSlice => &[Self::Pod, Self::Service, Self::EndpointSlice],
            Self::Endpoints => &[Self::Pod, Self::Service, Self::Endpoints],
            Self::Node => &[Self::Node],
            Self::Ingress => &[Self::Ingress],
        }
    }
}

section! {
    /// Which namespaces are looked at. Default all.
    pub struct KubernetesNamespaces {
        /// The namespace of this process too. Default false.
        pub own_namespace: bool = false,
        /// Names.
        pub names: Vec<String> = Vec::new(),
    }
}

section! {
    /// A selector that the API server applies.
    pub struct KubernetesSelector {
        /// The kind of object it is for.
        pub role: Option<KubernetesRole> = None,
        /// Label selector.
        pub label: String = String::new(),
        /// Field selector.
        pub field: String = String::new(),
    }
}

section! {
    /// Which further metadata targets get.
    pub struct KubernetesMetadata {
        /// Of the node. Default false.
        pub node: bool = false,
        /// Of the namespace. Default false.
        pub namespace: bool = false,
        /// Of the deployment. Default false.
        pub deployment: bool = false,
        /// Of the job. Default false.
        pub job: bool = false,
        /// Of the cron job. Default false.
        pub cronjob: bool = false,
    }
}

section! {
    /// `kubernetes_sd_configs`
    pub struct KubernetesSdConfig {
        /// API server. Default: that of the cluster this process runs in.
        pub api_server: Option<ConfigUrl> = None,
        /// Which objects become targets. Required.
        pub role: Option<KubernetesRole> = None,
        /// kubeconfig file in place of `api_server`.
        pub kubeconfig_file: Option<PathBuf> = None,
        /// Namespaces.
        pub namespaces: KubernetesNamespaces = KubernetesNamespaces::default(),
        /// Selectors, at most one for a kind of object.
        pub selectors: Vec<KubernetesSelector> = Vec::new(),
        /// Further metadata.
        pub attach_metadata: KubernetesMetadata = KubernetesMetadata::default(),
    }
    flatten {
        /// How the API server is reached.
        pub http: HttpClientConfig = HttpClientConfig::default(),
    }
    check KubernetesSdConfig::check
}

impl KubernetesSdConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let missing = "role missing (one of: pod, service, endpoints, endpointslice, node, ingress)";
        super::require_role(self.role, node, missing, sink);
        let custom = self.http != HttpClientConfig::default();
        let (server, file, own) =
            (self.api_server.is_some(), self.kubeconfig_file.is_some(), self.namespaces.own_namespace);
        let pos = node.pos;
        sink.require(!(server && file), pos, "cannot use 'kubeconfig_file' and 'api_server' simultaneously");
        sink.require(
            !(file && custom),
            pos,
            "cannot use a custom HTTP client configuration together with 'kubeconfig_file'",
        );
        let message = "to use custom HTTP client configuration please provide the 'api_server' URL explicitly";
        sink.require(server || file || !custom, pos, message);
        sink.require(!(server && own), pos, "cannot use 'api_server' and 'namespaces.own_namespace' simultaneously");
        sink.require(!(file && own), pos, "cannot use 'kubeconfig_file' and 'namespaces.own_namespace' simultaneously");
        self.check_selectors(node, sink);
    }

    fn check_selectors(&self, node: &Node, sink: &mut Sink) {
        for (i, selector) in self.selectors.iter().enumerate() {
            let pos = node.get("selectors").and_then(|n| n.item(i)).map_or(node.pos, |n| n.pos);
            if let (Some(role), Some(kind)) = (self.role, selector.role) {
                let seen = self.selectors[..i].iter().any(|s| s.role == Some(kind));
                sink.require(!seen, pos, format!("duplicated selector role: {kind}"));
                let allowed = role.selectors();
                let names: Vec<_> = allowed.iter().map(|r| r.as_str()).collect();
                let message = format!("{role} role supports only {} selectors", names.join(", "));
                sink.require(allowed.contains(&kind), pos, message);
            }
            for term in selector.field.split(',').filter(|t| !t.is_empty()) {
                let message = format!("invalid selector: '{}'; can't understand '{term}'", selector.field);
                sink.require(term.contains('='), pos, message);
            }
        }
    }
}
