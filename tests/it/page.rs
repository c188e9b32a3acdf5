//! The page in headless Chromium, over the demo.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::demo::Demo;
use trefoil_tests::server::fresh_dir;
use trefoil_tests::{find_program, run_within, skipped};

#[test]
fn a_walk_through_the_page() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let chromium = find_program("chromium").or_else(|| find_program("chromium-browser"));
    let installed = root.join("peers/node/node_modules/playwright-core").is_dir();
    let (Some(chromium), Some(node), true) = (chromium, find_program("node"), installed) else {
        return skipped(
            "a_walk_through_the_page",
            "chromium, node or playwright-core is not installed; run tests/install-tools",
        );
    };
    // The alert fires soon and goes on firing.
    let demo = Demo::start("page", &["--rate=20", "--fault-after=2", "--fault-for=3600", "--fault-every=7200"]);
    demo.wait_for_alert(&["firing"], Duration::from_secs(120));
    let profile = fresh_dir("chromium");
    let mut command = Command::new(node);
    command
        .arg(root.join("page/walk.mjs"))
        .env("BASE_URL", &demo.http.base)
        .env("CHROMIUM", chromium)
        .env("HOME", &profile)
        .env("TMPDIR", &profile);
    if let Some(folder) = std::env::var_os("TREFOIL_SCREENSHOTS") {
        command.env("SCREENSHOTS", folder);
    }
    let walked = run_within(&mut command, b"", Duration::from_secs(240));
    assert_eq!(walked.code, Some(0), "{}\nserver:\n{}", walked.output(), demo.peer.output());
}
