//! `trefoil demo`: a server with the simulated shop beside it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use tracing::info;
use trefoil_demo::{DemoOptions, Shop};

use crate::cli::DemoArgs;
use crate::features::features;
use crate::serve::Server;

/// The folder of a demo that was given none; removed at the end.
struct Temporary(Option<PathBuf>);

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(dir) = &self.0 {
            // What stays behind is only disk space.
            drop(std::fs::remove_dir_all(dir));
        }
    }
}

/// Runs the demo until it is told to stop.
pub(crate) async fn run(arguments: DemoArgs) -> anyhow::Result<()> {
    if arguments.serve.config_file.is_some() {
        bail!("the demo brings its own configuration: leave --config.file out, or use serve");
    }
    let dir = std::env::temp_dir().join(format!("trefoil-demo-{}", std::process::id()));
    std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    let _temporary = Temporary(Some(dir.clone()));
    let shop = Shop::bind().await?;
    let rules = dir.join("shop.rules.yml");
    std::fs::write(&rules, Shop::rules()).context("write the shop's rules")?;
    let config = dir.join("trefoil.yaml");
    let text = format!(
        "global:\n  scrape_interval: 5s\n  evaluation_interval: 5s\nrule_files: [{:?}]\nscrape_configs:\n{}trefoil:\n  self_telemetry: {{ scrape_interval: 5s }}\n",
        rules.display().to_string(),
        shop.scrape_config()
    );
    std::fs::write(&config, text).context("write the demo's configuration")?;
    let mut flags = arguments.serve.overrides();
    flags.storage_tsdb_path.get_or_insert_with(|| dir.join("data"));
    let server = Server::start(Some(config), flags, features(&arguments.serve.enable_feature)).await?;
    let url = |address: &Option<String>| address.as_ref().map(|a| format!("http://{a}"));
    let base = format!("http://{}", server.addresses.http);
    let mut options = DemoOptions::new(
        url(&server.addresses.otlp_grpc).unwrap_or_else(|| base.clone()),
        url(&server.addresses.otlp_http).unwrap_or_else(|| base.clone()),
        base.clone(),
    );
    options.rate = arguments.rate.clamp(0.1, 1000.0);
    options.fault_after = Duration::from_secs(arguments.fault_after);
    options.fault_for = Duration::from_secs(arguments.fault_for);
    options.fault_every = Duration::from_secs(arguments.fault_every.max(1));
    shop.start(options, &server.tasks, server.clock.clone())?;
    info!(url = %base, "the shop is open: its telemetry can be seen at this address");
    server.run_to_end().await
}
