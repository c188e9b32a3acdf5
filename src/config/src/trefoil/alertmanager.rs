//! The built-in Alertmanager: the part of its configuration that is run, the rest with warnings.

use std::path::PathBuf;

use crate::decode::{Sink, repeats, section};
use crate::duration::PromDuration;
use crate::http_client::HttpClientConfig;
use crate::secret::Secret;
use crate::values::{ConfigUrl, NotRun};
use crate::yaml::Node;

section! {
    /// A receiver that gets alerts as JSON.
    pub struct WebhookConfig {
        /// Where to; not shown. This or `url_file`.
        pub url: Option<Secret> = None,
        /// File that holds the URL.
        pub url_file: Option<PathBuf> = None,
        /// Tell about resolved alerts too. Default true.
        pub send_resolved: bool = true,
        /// Most alerts of a message; 0: all. Default 0.
        pub max_alerts: u64 = 0,
        /// Longest time of a request; 0s: 10s. Default 0s.
        pub timeout: PromDuration = PromDuration::ZERO,
        /// How the URL is reached.
        pub http_config: HttpClientConfig = HttpClientConfig::default(),
    }
    check WebhookConfig::check
}

impl WebhookConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        match (&self.url, &self.url_file) {
            (None, None) => sink.error(node.pos, "one of url or url_file must be configured"),
            (Some(_), Some(_)) => sink.error(node.pos, "at most one of url & url_file must be configured"),
            (Some(url), None) => match ConfigUrl::parse(url.expose()) {
                Ok(parsed) if matches!(parsed.scheme(), "http" | "https") && !parsed.host().is_empty() => {}
                // A masked URL is what an effective configuration shows.
                _ if url.expose() == crate::secret::MASK => {}
                _ => sink.error(node.key_pos("url"), "webhook url must begin with http:// or https:// and name a host"),
            },
            (None, Some(_)) => {}
        }
    }
}

/// Receivers of Alertmanager's that are read over.
macro_rules! receiver {
    ($($other:ident),*) => {
        section! {
            /// A named set of ways to notify; only webhooks are run.
            pub struct Receiver {
                /// Name, unique. Required.
                pub name: String = String::new(),
                /// Webhooks.
                pub webhook_configs: Vec<WebhookConfig> = Vec::new(),
                $(
                    /// Accepted, not run.
                    pub $other: NotRun = NotRun,
                )*
            }
            check Receiver::check
        }
    };
}

receiver!(
    discord_configs,
    email_configs,
    incidentio_configs,
    jira_configs,
    mattermost_configs,
    msteams_configs,
    msteamsv2_configs,
    opsgenie_configs,
    pagerduty_configs,
    pushover_configs,
    rocketchat_configs,
    slack_configs,
    sns_configs,
    telegram_configs,
    victorops_configs,
    webex_configs,
    wechat_configs
);

impl Receiver {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        sink.require(!self.name.is_empty(), node.pos, "missing name in receiver");
    }
}

section! {
    /// Which alerts go where. Only the root is run: every alert goes to its receiver.
    pub struct Route {
        /// Name of the receiver. Required.
        pub receiver: String = String::new(),
        /// Labels by which alerts are put together; `...` for all labels. Default none: all alerts together.
        pub group_by: Vec<String> = Vec::new(),
        /// Wait before the first message about a group. Default 30s.
        pub group_wait: PromDuration = PromDuration::from_secs(30),
        /// Wait before a message about changes of a group. Default 5m, not 0s.
        pub group_interval: PromDuration = PromDuration::from_secs(300),
        /// Wait before a message is repeated. Default 4h, not 0s.
        pub repeat_interval: PromDuration = PromDuration::from_secs(14_400),
        /// Accepted, not run.
        pub r#continue: NotRun = NotRun,
        /// Accepted, not run.
        pub routes: NotRun = NotRun,
        /// Accepted, not run.
        pub mute_time_intervals: NotRun = NotRun,
        /// Accepted, not run.
        pub active_time_intervals: NotRun = NotRun,
    }
    check Route::check
}

impl Route {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let message = "group_interval cannot be zero";
        sink.require(!self.group_interval.is_zero(), node.key_pos("group_interval"), message);
        let message = "repeat_interval cannot be zero";
        sink.require(!self.repeat_interval.is_zero(), node.key_pos("repeat_interval"), message);
        let repeated = repeats(self.group_by.iter().map(String::as_str));
        for (i, label) in self.group_by.iter().enumerate() {
            sink.require(!repeated[i], node.key_pos("group_by"), format!("duplicated label {label:?} in group_by"));
        }
        let all = self.group_by.iter().any(|l| l == "...");
        let message = "cannot have wildcard group_by (`...`) and other other labels at the same time";
        sink.require(!all || self.group_by.len() == 1, node.key_pos("group_by"), message);
    }
}

section! {
    /// The built-in Alertmanager, inline or from a file in Alertmanager's format.
    pub struct InlineAlertmanager {
        /// File in Alertmanager's format, in place of the keys below. Default none.
        pub file: Option<PathBuf> = None,
        /// Receivers.
        pub receivers: Vec<Receiver> = Vec::new(),
        /// The root route. Required unless `file` is given.
        pub route: Option<Route> = None,
        /// Accepted, not run.
        pub global: NotRun = NotRun,
        /// Accepted, not run.
        pub templates: NotRun = NotRun,
        /// Accepted, not run.
        pub inhibit_rules: NotRun = NotRun,
        /// Accepted, not run.
        pub mute_time_intervals: NotRun = NotRun,
        /// Accepted, not run.
        pub time_intervals: NotRun = NotRun,
        /// Accepted, not run.
        pub tracing: NotRun = NotRun,
    }
    check InlineAlertmanager::check
}

impl InlineAlertmanager {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let repeated = repeats(self.receivers.iter().map(|r| r.name.as_str()));
        for (i, receiver) in self.receivers.iter().enumerate() {
            let pos = node.get("receivers").and_then(|n| n.item(i)).map_or(node.pos, |n| n.pos);
            sink.require(!repeated[i], pos, format!("notification config name {:?} is not unique", receiver.name));
        }
        let pos = node.key_pos("route");
        match (&self.route, &self.file) {
            (Some(_), Some(_)) => sink.error(node.key_pos("file"), "at most one of file and route must be configured"),
            (None, Some(_)) => {}
            (None, None) => sink.error(pos, "no route provided in config"),
            (Some(route), None) if route.receiver.is_empty() => {
                sink.error(pos, "root route must specify a default receiver");
            }
            (Some(route), None) => {
                let known = self.receivers.iter().any(|r| r.name == route.receiver);
                sink.require(known, pos, format!("undefined receiver {:?} used in route", route.receiver));
            }
        }
    }
}
