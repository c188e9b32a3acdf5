//! Where targets come from. Every kind of Prometheus is read and checked; only `static_configs` is run.
//!
//! The fields of a kind mean what Prometheus' configuration reference says under the same name.

pub mod aws;
pub mod cloud;
pub mod files;
pub mod kubernetes;
pub mod services;

use crate::decode::{Sink, section};
use crate::values::LabelMap;
use crate::yaml::{Kind, Node};

use aws::{AwsSdConfig, Ec2SdConfig, EcsSdConfig, ElasticacheSdConfig, LightsailSdConfig, MskSdConfig, RdsSdConfig};
use cloud::{
    AzureSdConfig, DigitaloceanSdConfig, GceSdConfig, HetznerSdConfig, IonosSdConfig, LinodeSdConfig, OciSdConfig,
    OpenstackSdConfig, OutscaleSdConfig, OvhcloudSdConfig, ScalewaySdConfig, StackitSdConfig, VultrSdConfig,
};
use files::{DnsSdConfig, FileSdConfig, HttpSdConfig};
use kubernetes::KubernetesSdConfig;
use services::{
    ConsulSdConfig, DockerSdConfig, DockerswarmSdConfig, EurekaSdConfig, KumaSdConfig, MarathonSdConfig, NerveSdConfig,
    NomadSdConfig, PuppetdbSdConfig, ServersetSdConfig, TritonSdConfig, UyuniSdConfig,
};

section! {
    /// Targets that the file itself names.
    pub struct StaticConfig {
        /// `host:port` each. Default none.
        pub targets: Vec<String> = Vec::new(),
        /// Labels of all of them. Default none.
        pub labels: LabelMap = LabelMap::default(),
    }
}

/// Declares [`DiscoveryConfigs`] with one list per kind.
macro_rules! kinds {
    ($($key:ident: $ty:ty,)*) => {
        section! {
            /// Sources of targets by kind.
            pub struct DiscoveryConfigs {
                /// Targets named in the file. The one kind that is run.
                pub static_configs: Vec<StaticConfig> = Vec::new(),
                $(
                    /// Read and checked, not run; the fields are those of Prometheus.
                    pub $key: Vec<$ty> = Vec::new(),
                )*
            }
            check DiscoveryConfigs::check
        }

        /// The keys of kinds that are not run.
        const NOT_RUN: &[&str] = &[$(stringify!($key)),*];
    };
}

kinds! {
    aws_sd_configs: AwsSdConfig,
    azure_sd_configs: AzureSdConfig,
    consul_sd_configs: ConsulSdConfig,
    digitalocean_sd_configs: DigitaloceanSdConfig,
    dns_sd_configs: DnsSdConfig,
    docker_sd_configs: DockerSdConfig,
    dockerswarm_sd_configs: DockerswarmSdConfig,
    ec2_sd_configs: Ec2SdConfig,
    ecs_sd_configs: EcsSdConfig,
    elasticache_sd_configs: ElasticacheSdConfig,
    eureka_sd_configs: EurekaSdConfig,
    file_sd_configs: FileSdConfig,
    gce_sd_configs: GceSdConfig,
    hetzner_sd_configs: HetznerSdConfig,
    http_sd_configs: HttpSdConfig,
    ionos_sd_configs: IonosSdConfig,
    kubernetes_sd_configs: KubernetesSdConfig,
    kuma_sd_configs: KumaSdConfig,
    lightsail_sd_configs: LightsailSdConfig,
    linode_sd_configs: LinodeSdConfig,
    marathon_sd_configs: MarathonSdConfig,
    msk_sd_configs: MskSdConfig,
    nerve_sd_configs: NerveSdConfig,
    nomad_sd_configs: NomadSdConfig,
    oci_sd_configs: OciSdConfig,
    openstack_sd_configs: OpenstackSdConfig,
    outscale_sd_configs: OutscaleSdConfig,
    ovhcloud_sd_configs: OvhcloudSdConfig,
    puppetdb_sd_configs: PuppetdbSdConfig,
    rds_sd_configs: RdsSdConfig,
    scaleway_sd_configs: ScalewaySdConfig,
    serverset_sd_configs: ServersetSdConfig,
    stackit_sd_configs: StackitSdConfig,
    triton_sd_configs: TritonSdConfig,
    uyuni_sd_configs: UyuniSdConfig,
    vultr_sd_configs: VultrSdConfig,
}

impl DiscoveryConfigs {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        for key in NOT_RUN {
            let used = node.get(key).is_some_and(|n| matches!(&n.kind, Kind::Seq(items) if !items.is_empty()));
            if used {
                sink.warn(node.key_pos(key), key, "this service discovery is not run yet: it finds no targets");
            }
        }
    }

    /// Refuses URLs where `host:port` belongs.
    pub(crate) fn check_static_targets(&self, node: &Node, sink: &mut Sink) {
        let groups = node.get("static_configs");
        for (i, group) in self.static_configs.iter().enumerate() {
            let list = groups.and_then(|n| n.item(i)).and_then(|n| n.get("targets"));
            for (k, target) in group.targets.iter().enumerate() {
                let pos = list.and_then(|n| n.item(k)).map_or(node.pos, |n| n.pos);
                sink.require(!target.contains('/'), pos, format!("{target:?} is not a valid hostname"));
            }
        }
    }
}

/// Reports a missing role, but not where the role was given and faulty.
fn require_role<T>(role: Option<T>, node: &Node, message: &str, sink: &mut Sink) {
    let given = node.get("role").is_some_and(|n| !n.is_null());
    sink.require(role.is_some() || given, node.pos, message);
}
