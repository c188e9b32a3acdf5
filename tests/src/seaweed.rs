//! A real S3 server: SeaweedFS, on free ports of loopback.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::http::Answer;
use crate::{Http, Peer, find_program, free_port, wait_for, wait_for_result};

/// A SeaweedFS with one bucket.
#[derive(Debug)]
pub struct Seaweed {
    peer: Peer,
    program: PathBuf,
    dir: PathBuf,
    ports: [u16; 8],
}

/// Name of the bucket.
const BUCKET: &str = "test-bucket";

/// The program `weed`: on the PATH, or where `install-tools` put it.
fn program() -> Option<PathBuf> {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/.venv/bin/weed");
    find_program("weed").or_else(|| installed.is_file().then_some(installed))
}

fn put(filer: &Http, path: &str, content: Vec<u8>) -> anyhow::Result<Answer> {
    filer.send(filer.client.put(format!("{}{path}", filer.base)).body(content))
}

impl Seaweed {
    /// Starts the server with its data in `dir`; nothing when it is not installed.
    pub fn start(dir: &Path) -> Option<Self> {
        let program = program()?;
        let dir = dir.join("seaweed");
        std::fs::create_dir_all(dir.join("data")).expect("the test's folder is writable");
        let identity = r#"{"identities":[{"name":"test","credentials":[{"accessKey":"test-key","secretKey":"test-secret"}],"actions":["Admin","Read","Write","List","Tagging"]}]}"#;
        std::fs::write(dir.join("s3.json"), identity).expect("the test's folder is writable");
        let peer = Peer::start(&mut Command::new("true"), &dir.join("true.log")).expect("true can be started");
        let mut seaweed = Self { peer, program, dir, ports: std::array::from_fn(|_| free_port()) };
        seaweed.restart();
        Some(seaweed)
    }

    /// Ends the server at once.
    pub fn stop(&mut self) {
        self.peer.kill();
    }

    /// Starts the server again on the same data and waits until it answers.
    pub fn restart(&mut self) {
        self.stop();
        let [master, master_grpc, volume, volume_grpc, filer, filer_grpc, s3, s3_grpc] = self.ports;
        let mut command = Command::new(&self.program);
        command
            .args(["server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-master.telemetry=false"])
            .args(["-master.volumeSizeLimitMB=64", "-volume.max=64", "-s3.port.iceberg=0", "-s3.port.lance=0"])
            .arg(format!("-dir={}", self.dir.join("data").display()))
            .arg(format!("-s3.config={}", self.dir.join("s3.json").display()))
            .arg(format!("-master.port={master}"))
            .arg(format!("-master.port.grpc={master_grpc}"))
            .arg(format!("-volume.port={volume}"))
            .arg(format!("-volume.port.grpc={volume_grpc}"))
            .arg(format!("-filer.port={filer}"))
            .arg(format!("-filer.port.grpc={filer_grpc}"))
            .arg(format!("-s3.port={s3}"))
            .arg(format!("-s3.port.grpc={s3_grpc}"));
        self.peer = Peer::start(&mut command, &self.dir.join("weed.log")).expect("SeaweedFS can be started");
        let (filer, s3) = (self.filer(), Http::new(format!("http://127.0.0.1:{s3}")));
        wait_for_result("SeaweedFS to make a bucket", Duration::from_secs(60), || {
            let made = filer.post(&format!("/buckets/{BUCKET}/"), &[], "").map_err(|e| format!("{e:#}"))?;
            // 409: it is there already.
            if made.status >= 400 && made.status != 409 {
                return Err(format!("status {}", made.status));
            }
            // Without credentials the answer is a refusal, which is an answer.
            s3.get("/", &[]).map(drop).map_err(|e| format!("{e:#}"))
        });
        // A file that can be stored: its volumes are there too.
        wait_for("SeaweedFS to store a file", Duration::from_secs(60), || {
            let content = vec![b'x'; 8192];
            put(&filer, "/probe/x", content).is_ok_and(|answer| answer.status < 300)
        });
    }

    fn filer(&self) -> Http {
        Http::new(format!("http://127.0.0.1:{}", self.ports[4]))
    }

    /// The environment of a client.
    pub fn env(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://127.0.0.1:{}", self.ports[6]);
        [
            ("AWS_ACCESS_KEY_ID", "test-key"),
            ("AWS_SECRET_ACCESS_KEY", "test-secret"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", &endpoint),
            ("AWS_ALLOW_HTTP", "true"),
            ("NO_PROXY", "127.0.0.1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// The URL of a prefix in the bucket.
    pub fn url(&self, prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}")
    }

    /// The objects below a prefix and their lengths, sorted.
    pub fn objects(&self, prefix: &str) -> Vec<(String, u64)> {
        let mut found = Vec::new();
        self.walk(prefix, &mut found);
        found.sort();
        found
    }

    fn walk(&self, folder: &str, found: &mut Vec<(String, u64)>) {
        let path = format!("/buckets/{BUCKET}/{folder}/");
        let filer = self.filer();
        let request = filer.client.get(format!("{}{path}", filer.base)).query(&[("limit", "10000")]);
        let answer = filer.send(request.header("accept", "application/json")).expect("the filer answers");
        if answer.status == 404 {
            return;
        }
        let answer = answer.json();
        for entry in answer["Entries"].as_array().into_iter().flatten() {
            let path = entry["FullPath"].as_str().unwrap_or_default();
            let key = path.trim_start_matches(&format!("/buckets/{BUCKET}/")).to_owned();
            let is_dir = entry["Mode"].as_u64().unwrap_or(0) & (1 << 31) != 0;
            if is_dir {
                self.walk(&key, found);
            } else {
                found.push((key, entry["FileSize"].as_u64().unwrap_or(0)));
            }
        }
    }

    /// Replaces the content of an object behind the back of S3.
    pub fn overwrite(&self, key: &str, content: Vec<u8>) {
        let answer = put(&self.filer(), &format!("/buckets/{BUCKET}/{key}"), content).expect("the filer answers");
        assert!(answer.status < 300, "status {}", answer.status);
    }

    /// Reads an object.
    pub fn read(&self, key: &str) -> Vec<u8> {
        let answer = self.filer().get(&format!("/buckets/{BUCKET}/{key}"), &[]).expect("the filer answers");
        assert_eq!(answer.status, 200, "{key}");
        answer.body
    }
}
