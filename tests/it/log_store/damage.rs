//! Damaged and lost files of logs: queries that need them fail and name them, all others are answered, and `verify` sees
//! all of it.

use std::collections::BTreeSet;

use trefoil_tests::server::binary;
use trefoil_tests::{Finished, run};

use super::*;

fn verify(data: &Path) -> Finished {
    run(Command::new(binary()).args(["tsdb", "verify", "--data", data.to_str().unwrap()]), b"")
}

/// Two batches in parts of their own.
fn two_parts(name: &str) -> (Server, Ledger, Vec<PathBuf>) {
    let trefoil = "  memtable: { flush_interval: 1s }".to_owned();
    let mut server = Server::start(name, ServerOptions { trefoil, ..ServerOptions::default() });
    let mut ledger = Ledger::new(wire::now_ns() - 900 * SECOND);
    for _ in 0..2 {
        assert!(ledger.push(&server.http));
        wait_flushed(&server);
    }
    server.peer.kill();
    let parts: Vec<PathBuf> = files_below(&server.data_dir.join("events/logs/parts"))
        .into_iter()
        .filter(|path| path.ends_with("events"))
        .collect();
    assert!(parts.len() >= 2, "{parts:?}");
    (server, ledger, parts)
}

/// The lines of a batch that a query finds, sorted, or what the answer says of damage.
fn read_batch(ledger: &Ledger, http: &Http, first: u64, query: &str) -> Result<Vec<String>, String> {
    let (start, end) = (ledger.at(first).to_string(), ledger.at(first + BATCH).to_string());
    let window =
        [("start", start.as_str()), ("end", &end), ("limit", "5000"), ("query", query), ("direction", "forward")];
    let answer = http.get("/loki/api/v1/query_range", &window).unwrap();
    match answer.status {
        200 => {
            let answer: Value = serde_json::from_slice(&answer.body).unwrap();
            let streams = items(&answer["data"]["result"]).flat_map(|stream| items(&stream["values"]));
            let mut lines: Vec<String> = streams.map(|value| text(&value[1])).collect();
            lines.sort();
            Ok(lines)
        }
        500 => Err(answer.text()),
        other => panic!("{query}: status {other}: {}", answer.text()),
    }
}

/// Each section of a part file damaged in turn: queries that need it fail and name file and place, all others are
/// answered whole, and it is counted once.
#[test]
fn a_damaged_part_is_named_and_the_rest_is_served() {
    let (mut server, ledger, parts) = two_parts("log-damage");
    let path = parts[0].clone();
    let whole = std::fs::read(&path).unwrap();
    // Sections as the footer names them: filters, index, table, streams; in front of them are the blocks.
    let footer = whole.len() - 4 * 16 - 12;
    let number = |at: usize| u64::from_le_bytes(whole[at..at + 8].try_into().unwrap()) as usize;
    let section = |n: usize| (number(footer + n * 16), number(footer + n * 16 + 8));
    let (filters, index, table, streams) = (section(0), section(1), section(2), section(3));
    let middle = |(start, len): (usize, usize)| start + len / 2;
    // What is damaged, what is said of it, and whether all lines are still there.
    let cases = [
        ("block", 12 + (filters.0 - 12) / 2, "block ", false),
        ("filters", middle(filters), "filter", true),
        ("index", middle(index), "index", true),
        ("table", middle(table), "table", false),
        ("streams", streams.0 + 1, "list of streams", false),
        ("footer", footer + 3, "footer", false),
        ("header", 2, "header", false),
    ];
    let batch = |first: u64| (first..first + BATCH).map(line).collect::<BTreeSet<_>>();
    let is_batch = |found: &[String], first: u64| found.iter().eq(batch(first).iter());
    for (name, at, said, is_whole) in cases {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        std::fs::write(&path, &damaged).unwrap();
        std::fs::remove_file(server.dir.join("trefoil.log")).ok();
        server.restart();
        let names_it = |error: &str| {
            let is_named =
                error.contains(&path.display().to_string()) && error.contains(said) && error.contains("bytes ");
            assert!(is_named, "{name}: {error}");
        };
        let all = "{app=\"store\"}";
        // Twice: the second time it is known.
        for _ in 0..2 {
            match read_batch(&ledger, &server.http, 0, all) {
                Ok(found) => assert!(is_whole && is_batch(&found, 0), "{name}: {} lines", found.len()),
                Err(error) => names_it(&error),
            }
            let found = read_batch(&ledger, &server.http, BATCH, all).unwrap();
            assert!(is_batch(&found, BATCH), "{name}: {} lines", found.len());
        }
        // Needles and counts go other ways.
        for seq in (0..2 * BATCH).step_by(397) {
            let whole = line(seq);
            for needle in whole.split(' ').filter(|word| word.starts_with("sequence=") || word.starts_with("trace_id="))
            {
                let query = format!("{all} |= \"{needle} \"");
                match read_batch(&ledger, &server.http, seq / BATCH * BATCH, &query) {
                    Ok(found) => assert_eq!(found, [whole.as_str()], "{name}"),
                    Err(error) => {
                        assert!(!is_whole && seq < BATCH, "{name}: {error}");
                        names_it(&error);
                    }
                }
            }
        }
        let counted =
            server.http.json("/loki/api/v1/query", &[("query", &format!("sum(count_over_time({all} |= \"s\" [2h]))"))]);
        match counted {
            Ok(answer) => {
                assert!(is_whole && text(&answer["data"]["result"][0]["value"][1]) == "4000", "{name}: {answer}")
            }
            Err(error) => assert!(!is_whole && error.contains("status 500"), "{name}: {error}"),
        }
        let said_so = server.peer.output();
        let told = said_so.lines().filter(|l| l.contains(&path.display().to_string()) && l.contains(said));
        assert!(told.count() >= 1, "{name}: {said_so}");
        assert_eq!(server.http.own_metric("trefoil_events_blocks_corrupt_total"), 1.0, "{name}");
        // It takes new lines as before.
        let now = wire::now_ns();
        let body = wire::loki_push(&[("app", "new")], &[(now, format!("after {name}"))]);
        assert_eq!(server.http.post("/loki/api/v1/push", JSON, body).unwrap().status, 204);
        let query = [("query", format!("{{app=\"new\"}} |= \"after {name}\"")), ("start", (now - SECOND).to_string())];
        let query = query.each_ref().map(|(key, value)| (*key, value.as_str()));
        let answer = server.http.json("/loki/api/v1/query_range", &query).unwrap();
        assert_eq!(items(&answer["data"]["result"]).count(), 1, "{name}: {answer}");
        server.peer.kill();
        let found = verify(&server.data_dir);
        assert_eq!(found.code, Some(1), "{name}: {}", found.output());
        let is_told = |l: &str| l.contains(&path.display().to_string()) && l.contains("bytes ");
        assert!(found.output().lines().any(is_told), "{name}: {}", found.output());
        std::fs::write(&path, &whole).unwrap();
    }
    verify(&server.data_dir).expect_success();
    server.restart();
    ledger.check(&server.http, "with the file as it was");
}

fn copy(from: &Path, to: &Path) {
    std::fs::remove_dir_all(to).ok();
    for path in files_below(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(path, target).unwrap();
    }
}

/// Whatever of logs is gone or damaged, `verify` says which, also when metrics are gone too.
#[test]
fn verify_sees_what_is_gone_of_logs() {
    let (mut server, mut ledger, _) = two_parts("log-verify");
    server.restart();
    // Some in the journal alone.
    assert!(ledger.push(&server.http));
    server.peer.kill();
    let whole = server.dir.join("whole");
    copy(&server.data_dir, &whole);
    verify(&whole).expect_success();
    let data = server.dir.join("copy");
    let logs = data.join("events/logs");
    // Which folders are removed, and what is said.
    let cases: &[(&[&str], &str)] = &[
        (&["events/logs/parts"], "is missing"),
        (&["events/logs/catalog"], "catalog"),
        (&["events/logs/catalog-copies"], "the copies of the commits are missing"),
        (&["events/logs/catalog", "events/logs/catalog-copies"], "commits of logs"),
        (&["events/logs/catalog", "events/logs/catalog-copies", "events/logs/parts"], "commits of logs"),
        (&["events/logs"], "the folder is gone"),
        (&["events/logs/journal"], "the journal is gone"),
        (&["metrics"], "the folder is gone"),
    ];
    for (removed, said) in cases {
        for without_metrics in [false, true] {
            copy(&whole, &data);
            removed.iter().for_each(|folder| std::fs::remove_dir_all(data.join(folder)).unwrap());
            if without_metrics {
                std::fs::remove_dir_all(data.join("metrics")).ok();
            }
            let found = verify(&data);
            assert_eq!(found.code, Some(1), "{removed:?}: {}", found.output());
            assert!(found.stdout.lines().any(|l| l.contains(said)), "{removed:?}: {}", found.output());
            let tells_metrics = found.stdout.lines().any(|l| l.contains("metrics: the folder is gone"));
            assert_eq!(tells_metrics, without_metrics || removed.contains(&"metrics"), "{}", found.output());
        }
    }
    // A flipped byte in the newest segment of the journal: in its header, in a record, at its end.
    let newest = |logs: &Path| files_below(&logs.join("journal")).pop().unwrap();
    copy(&whole, &data);
    let length = std::fs::read(newest(&logs)).unwrap().len();
    for at in [3, 60, length / 2, length - 10] {
        for without_metrics in [false, true] {
            copy(&whole, &data);
            if without_metrics {
                std::fs::remove_dir_all(data.join("metrics")).unwrap();
            }
            let path = newest(&logs);
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[at] ^= 4;
            std::fs::write(&path, bytes).unwrap();
            let found = verify(&data);
            assert_eq!(found.code, Some(1), "byte {at} of {length}: {}", found.output());
            let is_told = |l: &str| l.contains(&path.display().to_string());
            assert!(found.stdout.lines().any(is_told), "byte {at} of {length}: {}", found.output());
        }
    }
    // A start says that a folder is gone, and goes on.
    copy(&whole, &data);
    std::fs::remove_dir_all(&logs).unwrap();
    let options = ServerOptions { data_dir: Some(data), ..ServerOptions::default() };
    let other = Server::start("log-gone", options);
    let said = other.peer.output();
    assert!(
        said.lines().any(|l| l.contains("folder of an event store is gone") && l.contains("events/logs")),
        "{said}"
    );
}
