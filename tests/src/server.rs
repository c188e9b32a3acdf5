//! The real binary, in a folder of its own, on free ports.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::{Http, Peer, free_port, wait_for_result};

static SERVERS: AtomicU32 = AtomicU32::new(0);

/// How a server is started.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// Lines of the configuration above `trefoil:` (`scrape_configs:`, `rule_files:` and so on).
    pub prometheus: String,
    /// Lines below `trefoil:`, indented by two spaces.
    pub trefoil: String,
    /// Further command-line arguments.
    pub args: Vec<String>,
    /// Environment.
    pub env: Vec<(String, String)>,
    /// Own telemetry on; off by default, so that a test sees its own data alone.
    pub self_telemetry: bool,
    /// The data folder, when it must be a certain one.
    pub data_dir: Option<PathBuf>,
    /// The certificate in PEM that the server shows, when it speaks TLS.
    pub certificate: Option<String>,
}

/// A running server; killed and its folder removed when dropped (kept when the test panics).
#[derive(Debug)]
pub struct Server {
    /// The process.
    pub peer: Peer,
    /// Folder with configuration, log and (usually) data.
    pub dir: PathBuf,
    /// Data folder.
    pub data_dir: PathBuf,
    /// HTTP, everything.
    pub http: Http,
    /// Port of HTTP.
    pub http_port: u16,
    /// Port of OTLP over gRPC.
    pub otlp_grpc_port: u16,
    /// Port of OTLP over HTTP.
    pub otlp_http_port: u16,
    options: ServerOptions,
}

/// The path of the binary: `TREFOIL_BIN`, else the release build of this workspace.
pub fn binary() -> PathBuf {
    std::env::var_os("TREFOIL_BIN").map_or_else(
        || {
            let target = std::env::var_os("CARGO_TARGET_DIR")
                .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
            target.join("release/trefoil")
        },
        PathBuf::from,
    )
}

/// A fresh folder below the system's temporary folder.
pub fn fresh_dir(name: &str) -> PathBuf {
    let n = SERVERS.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("trefoil-test-{}-{n}-{name}", std::process::id()));
    // A folder of an earlier process with the same id is of no use to anybody.
    std::fs::remove_dir_all(&dir).ok();
    std::fs::create_dir_all(&dir).expect("the temporary folder is writable");
    dir
}

impl Server {
    /// Starts a server and waits until it is ready.
    pub fn start(name: &str, options: ServerOptions) -> Self {
        let dir = fresh_dir(name);
        let data_dir = options.data_dir.clone().unwrap_or_else(|| dir.join("data"));
        let (http_port, otlp_grpc_port, otlp_http_port) = (free_port(), free_port(), free_port());
        let mut server = Self {
            peer: Peer::start(&mut Command::new("true"), &dir.join("true.log")).expect("true can be started"),
            dir,
            data_dir,
            http: match &options.certificate {
                Some(pem) => Http::trusting(format!("https://127.0.0.1:{http_port}"), pem),
                None => Http::new(format!("http://127.0.0.1:{http_port}")),
            },
            http_port,
            otlp_grpc_port,
            otlp_http_port,
            options,
        };
        server.write_config();
        server.restart();
        server
    }

    /// Writes the configuration anew from its options, for tests that change it and reload.
    pub fn write_config(&self) {
        let o = &self.options;
        let config = format!(
            "{}\ntrefoil:\n  listeners:\n    http: {{ address: \"127.0.0.1:{}\" }}\n    otlp_grpc: {{ address: \"127.0.0.1:{}\" }}\n    otlp_http: {{ address: \"127.0.0.1:{}\" }}\n  self_telemetry: {{ enabled: {} }}\n{}\n",
            o.prometheus, self.http_port, self.otlp_grpc_port, self.otlp_http_port, o.self_telemetry, o.trefoil
        );
        std::fs::write(self.config_path(), config).expect("the test's folder is writable");
    }

    /// The options, to change before [`Server::write_config`].
    pub fn options_mut(&mut self) -> &mut ServerOptions {
        &mut self.options
    }

    /// Path of the configuration file.
    pub fn config_path(&self) -> PathBuf {
        self.dir.join("trefoil.yaml")
    }

    /// The command that starts this server.
    pub fn command(&self) -> Command {
        let mut command = Command::new(binary());
        command
            .arg("serve")
            .arg(format!("--config.file={}", self.config_path().display()))
            .arg(format!("--storage.tsdb.path={}", self.data_dir.display()))
            .args(&self.options.args)
            .envs(self.options.env.iter().map(|(k, v)| (k, v)));
        command
    }

    /// Starts the process again on the same data (after [`Peer::kill`]) and waits until it is ready.
    pub fn restart(&mut self) {
        self.start_process();
        self.wait_ready();
    }

    /// Starts the process without waiting.
    pub fn start_process(&mut self) {
        self.peer.kill();
        self.peer = Peer::start(&mut self.command(), &self.dir.join("trefoil.log")).expect("the binary can be started");
    }

    /// Waits until `/-/ready` answers 200; panics with the log when the process ends before.
    pub fn wait_ready(&mut self) {
        let http = self.http.clone();
        wait_for_result("the server to be ready", Duration::from_secs(60), || {
            if !self.peer.is_running() {
                panic!("the server ended at start: {}", self.peer.output());
            }
            match http.get("/-/ready", &[]) {
                Ok(answer) if answer.status == 200 => Ok(()),
                Ok(answer) => Err(format!("status {}", answer.status)),
                Err(error) => Err(format!("{error:#}\n{}", self.peer.output())),
            }
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.peer.kill();
        if !std::thread::panicking() {
            // What stays behind is only disk space.
            std::fs::remove_dir_all(&self.dir).ok();
        }
    }
}
