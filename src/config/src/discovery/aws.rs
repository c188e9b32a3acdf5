//! Kinds of Amazon Web Services.

use crate::decode::{Sink, choice, section};
use crate::duration::PromDuration;
use crate::http_client::HttpClientConfig;
use crate::secret::Secret;
use crate::yaml::Node;

section! {
    /// A filter of the AWS API: name and values, any of which may match.
    pub struct AwsFilter {
        /// Name of the filter.
        pub name: String = String::new(),
        /// Values, not empty for EC2.
        pub values: Vec<String> = Vec::new(),
    }
}

choice! {
    /// Which AWS service `aws_sd_configs` asks.
    pub enum AwsRole: "AWS SD role" {
        /// As `ec2_sd_configs`.
        Ec2 = "ec2",
        /// As `ecs_sd_configs`.
        Ecs = "ecs",
        /// As `elasticache_sd_configs`.
        Elasticache = "elasticache",
        /// As `lightsail_sd_configs`.
        Lightsail = "lightsail",
        /// As `msk_sd_configs`.
        Msk = "msk",
        /// As `rds_sd_configs`.
        Rds = "rds",
    }
}

/// One AWS kind: the keys all of them share, then its own, then a check.
macro_rules! aws_kind {
    (
        $(#[$meta:meta])* $name:ident {
            $( $(#[$fmeta:meta])* $field:ident : $ty:ty = $default:expr ),* $(,)?
        }
        $( check $check:path )?
    ) => {
        section! {
            $(#[$meta])*
            pub struct $name {
                /// Region. Default: the instance's own.
                pub region: String = String::new(),
                /// Another endpoint of the API.
                pub endpoint: String = String::new(),
                /// Access key. Default: from the environment.
                pub access_key: String = String::new(),
                /// Secret key. Default: from the environment.
                pub secret_key: Option<Secret> = None,
                /// Named profile.
                pub profile: String = String::new(),
                /// Role to take on.
                pub role_arn: String = String::new(),
                /// External id for the role.
                pub external_id: String = String::new(),
                /// Time between refreshes. Default 1m.
                pub refresh_interval: PromDuration = PromDuration::from_secs(60),
                /// Port of the targets. Default 80.
                pub port: u16 = 80,
                $( $(#[$fmeta])* pub $field: $ty = $default, )*
            }
            flatten {
                /// How the API is reached.
                pub http: HttpClientConfig = HttpClientConfig::default(),
            }
            $( check $check )?
        }
    };
}

aws_kind! {
    /// `aws_sd_configs`
    AwsSdConfig {
        /// Which service. Required.
        role: Option<AwsRole> = None,
        /// Filters of EC2 and RDS.
        filters: Vec<AwsFilter> = Vec::new(),
        /// Clusters of ECS, ElastiCache, MSK and RDS.
        clusters: Vec<String> = Vec::new(),
    }
    check AwsSdConfig::check
}

impl AwsSdConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        super::require_role(self.role, node, "unknown AWS SD role \"\"", sink);
    }
}

aws_kind! {
    /// `ec2_sd_configs`
    Ec2SdConfig {
        /// Filters.
        filters: Vec<AwsFilter> = Vec::new(),
    }
    check Ec2SdConfig::check
}

impl Ec2SdConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        for (i, filter) in self.filters.iter().enumerate() {
            let pos = node.get("filters").and_then(|n| n.item(i)).map_or(node.pos, |n| n.pos);
            sink.require(!filter.values.is_empty(), pos, "EC2 SD configuration filter values cannot be empty");
        }
    }
}

aws_kind! {
    /// `ecs_sd_configs`
    EcsSdConfig {
        /// Clusters.
        clusters: Vec<String> = Vec::new(),
        /// Requests at once. Default 20.
        request_concurrency: u32 = 20,
    }
}

aws_kind! {
    /// `elasticache_sd_configs`
    ElasticacheSdConfig {
        /// Clusters.
        clusters: Vec<String> = Vec::new(),
        /// Requests at once. Default 10.
        request_concurrency: u32 = 10,
    }
}

aws_kind! {
    /// `lightsail_sd_configs`
    LightsailSdConfig {}
}

aws_kind! {
    /// `msk_sd_configs`
    MskSdConfig {
        /// Clusters.
        clusters: Vec<String> = Vec::new(),
        /// Requests at once. Default 10.
        request_concurrency: u32 = 10,
    }
}

aws_kind! {
    /// `rds_sd_configs`
    RdsSdConfig {
        /// Filters.
        filters: Vec<AwsFilter> = Vec::new(),
        /// Clusters.
        clusters: Vec<String> = Vec::new(),
        /// Requests at once. Default 10.
        request_concurrency: u32 = 10,
    }
}
