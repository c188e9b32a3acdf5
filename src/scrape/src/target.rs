//! Targets: from a discovered address to a URL, labels and a place in time.

use std::time::Duration;

use trefoil_config::{PromDuration, ScrapeConfig};
use trefoil_model::{Labels, LabelsBuilder};
use url::Url;
use xxhash_rust::xxh3::xxh3_64;

use crate::relabel::Relabel;

/// What is scraped.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Labels before relabelling, `__address__` and the like included.
    pub discovered: Labels,
    /// Labels that samples get.
    pub labels: Labels,
    /// Where the page is.
    pub url: Url,
    /// Time between scrapes.
    pub interval: Duration,
    /// Longest time of a scrape.
    pub timeout: Duration,
}

/// A target that relabelling dropped or that cannot be scraped.
#[derive(Debug, Clone, PartialEq)]
pub enum NoTarget {
    /// Dropped by `relabel_configs`.
    Dropped,
    /// Not usable; the reason names the label.
    Invalid(String),
}

/// Makes a target from what discovery says of it.
pub fn make_target(
    config: &ScrapeConfig,
    relabel: &Relabel,
    discovered: &LabelsBuilder,
) -> Result<Target, (Labels, NoTarget)> {
    let mut labels = discovered.clone();
    let mut default = |name: &str, value: &str| {
        if labels.get(name).is_none() {
            labels.set(name, value);
        }
    };
    default("job", &config.job_name);
    default("__scrape_interval__", &config.scrape_interval.to_string());
    default("__scrape_timeout__", &config.scrape_timeout.to_string());
    default("__metrics_path__", &config.metrics_path);
    default("__scheme__", &config.scheme);
    for (name, values) in &config.params {
        if let Some(first) = values.first() {
            default(&format!("__param_{name}"), first);
        }
    }
    let before = labels.clone().build();
    if !relabel.apply(&mut labels) {
        return Err((before, NoTarget::Dropped));
    }
    let invalid = |reason: String| Err((before.clone(), NoTarget::Invalid(reason)));
    let Some(address) = labels.get("__address__").map(str::to_owned) else { return invalid("no address".to_owned()) };
    if address.contains('/') {
        return invalid(format!("{address:?} is not a valid hostname"));
    }
    let duration = |name: &str| match PromDuration::parse(labels.get(name).unwrap_or("")) {
        Ok(d) if d.as_ms() > 0 => Ok(d.as_std()),
        Ok(_) => Err(format!("{name} must not be zero")),
        Err(reason) => Err(format!("{name}: {reason}")),
    };
    let (interval, timeout) = match (duration("__scrape_interval__"), duration("__scrape_timeout__")) {
        (Ok(i), Ok(t)) if t <= i => (i, t),
        (Ok(i), Ok(t)) => return invalid(format!("scrape timeout {t:?} is greater than the interval {i:?}")),
        (Err(e), _) | (_, Err(e)) => return invalid(e),
    };
    let url = match target_url(config, &labels, &address) {
        Ok(url) => url,
        Err(reason) => return invalid(reason),
    };
    if labels.get("instance").is_none() {
        labels.set("instance", address);
    }
    labels.retain(|name, _| !name.starts_with("__"));
    Ok(Target { discovered: before, labels: labels.build(), url, interval, timeout })
}

fn target_url(config: &ScrapeConfig, labels: &LabelsBuilder, address: &str) -> Result<Url, String> {
    let scheme = labels.get("__scheme__").unwrap_or("http");
    let path = labels.get("__metrics_path__").unwrap_or("/metrics");
    let (path, own_query) = path.split_once('?').unwrap_or((path, ""));
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut url = Url::parse(&format!("{scheme}://{address}{slash}{path}"))
        .map_err(|e| format!("target address {address:?}: {e}"))?;
    if !matches!(scheme, "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(format!("target address {address:?} with scheme {scheme:?} makes no http url"));
    }
    {
        let mut query = url.query_pairs_mut();
        for (name, value) in url::form_urlencoded::parse(own_query.as_bytes()) {
            query.append_pair(&name, &value);
        }
        for (name, values) in &config.params {
            let first = labels.get(&format!("__param_{name}")).map(str::to_owned);
            for (i, value) in values.iter().enumerate() {
                query.append_pair(name, if i == 0 { first.as_deref().unwrap_or(value) } else { value });
            }
        }
        for (name, value) in labels.pairs() {
            if let Some(param) = name.strip_prefix("__param_")
                && !config.params.contains_key(param)
                && !value.is_empty()
            {
                query.append_pair(param, value);
            }
        }
    }
    if url.query() == Some("") {
        url.set_query(None);
    }
    Ok(url)
}

impl Target {
    /// Identifies the target within its pool: labels and URL.
    pub fn key(&self) -> u64 {
        xxh3_64(format!("{}{}", self.labels, self.url).as_bytes())
    }

    /// The time until the next scrape from `now_ms`: each target has its own fixed place within the interval, pinned
    /// to absolute time, so that a restart does not move it and targets do not fall together.
    pub fn next_scrape_ms(&self, now_ms: i64) -> i64 {
        let interval = i64::try_from(self.interval.as_millis()).unwrap_or(i64::MAX).max(1);
        let offset = (self.key() % interval.unsigned_abs()) as i64;
        let into = (now_ms - offset).rem_euclid(interval);
        now_ms + if into == 0 { 0 } else { interval - into }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ScrapeConfig {
        ScrapeConfig {
            job_name: "j".to_owned(),
            scrape_interval: PromDuration::from_secs(15),
            scrape_timeout: PromDuration::from_secs(10),
            ..ScrapeConfig::default()
        }
    }

    fn make(config: &ScrapeConfig, labels: &[(&str, &str)]) -> Result<Target, NoTarget> {
        let discovered = Labels::from_pairs(labels.iter().copied()).to_builder();
        let relabel = Relabel::compile(&config.relabel_configs).unwrap();
        make_target(config, &relabel, &discovered).map_err(|(_, why)| why)
    }

    #[test]
    fn labels_and_url() {
        let mut c = config();
        c.params.insert("module".to_owned(), vec!["a b".to_owned(), "c".to_owned()]);
        let t = make(&c, &[("__address__", "h:1"), ("__metrics_path__", "m?x=1"), ("__meta_x", "1"), ("env", "prod")])
            .unwrap();
        assert_eq!(t.url.as_str(), "http://h:1/m?x=1&module=a+b&module=c");
        assert_eq!(t.labels, Labels::from_pairs([("job", "j"), ("instance", "h:1"), ("env", "prod")]));
        assert_eq!((t.interval.as_secs(), t.timeout.as_secs()), (15, 10));
    }

    #[test]
    fn bad_targets_say_why() {
        for labels in [
            &[("env", "x")][..],
            &[("__address__", "http://h:1")],
            &[("__address__", "h:1"), ("__scrape_timeout__", "1h")],
            &[("__address__", "h:1"), ("__scrape_interval__", "soon")],
            &[("__address__", "h:1"), ("__scheme__", "ftp")],
            &[("__address__", "h:99999999")],
        ] {
            assert!(matches!(make(&config(), labels), Err(NoTarget::Invalid(_))), "{labels:?}");
        }
    }

    #[test]
    fn scrapes_keep_their_place() {
        let t = make(&config(), &[("__address__", "h:1")]).unwrap();
        let next = t.next_scrape_ms(1_000_000);
        assert!((1_000_000..1_015_000).contains(&next));
        assert_eq!(t.next_scrape_ms(next), next);
        assert_eq!(t.next_scrape_ms(next + 1), next + 15_000);
    }
}
