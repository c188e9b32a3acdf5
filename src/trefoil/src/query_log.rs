//! The query log (`global.query_log_file`): lines that the API hands over are appended to a file.

use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tracing::{error, warn};
use trefoil_api::App;
use trefoil_api::query_log::LINES_MAX;
use trefoil_config::LoadedConfig;
use trefoil_runtime::{OnError, Phase};

/// Opens the file that the configuration names, anew at every reload, so that a file that was moved away is made again.
/// A file that cannot be opened is an error in the log, not of the reload.
pub(crate) fn apply(app: &App, loaded: &LoadedConfig) {
    let Some(path) = &loaded.config.global.query_log_file else { return app.query_log.set(None) };
    let path = path.clone();
    let (lines, mut received) = mpsc::channel::<String>(LINES_MAX);
    app.query_log.set(Some(lines));
    app.tasks.spawn_once("query log", Phase::Storage, OnError::Log, move |stop| async move {
        let opened = tokio::fs::OpenOptions::new().create(true).append(true).open(&path).await;
        let mut file = match opened {
            Ok(file) => tokio::io::BufWriter::new(file),
            Err(error) => {
                error!(path = %path.display(), %error, "query log cannot be opened");
                return Ok(());
            }
        };
        loop {
            let line = tokio::select! {
                line = received.recv() => line,
                () = stop.cancelled() => received.try_recv().ok(),
            };
            // The end: another file, none, or the shutdown.
            let Some(line) = line else { break };
            let mut written = file.write_all(line.as_bytes()).await;
            if received.is_empty() && written.is_ok() {
                written = file.flush().await;
            }
            if let Err(error) = written {
                warn!(path = %path.display(), %error, "query log cannot be written");
                break;
            }
        }
        file.flush().await.ok();
        Ok(())
    });
}
