//! Random histories against the model.

use proptest::prelude::*;
use trefoil_journal::JournalStore;
use trefoil_runtime::vfs::sim::SimDisk;

use crate::support::{Model, is_torture, open};

#[derive(Debug, Clone)]
enum Action {
    Append { count: usize, len: usize },
    Close,
    Reopen,
    Crash { seed: u64 },
    Truncate { back: usize },
    FailSyncs { count: u64 },
    FillUp { room: u64 },
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => (1..6usize, 1..1_500usize).prop_map(|(count, len)| Action::Append { count, len }),
        1 => Just(Action::Close),
        1 => Just(Action::Reopen),
        2 => any::<u64>().prop_map(|seed| Action::Crash { seed }),
        1 => (0..4usize).prop_map(|back| Action::Truncate { back }),
        1 => (1..3u64).prop_map(|count| Action::FailSyncs { count }),
        1 => (0..2_000u64).prop_map(|room| Action::FillUp { room }),
    ]
}

fn live(segment_bytes: u64, actions: &[Action]) {
    let disk = SimDisk::new();
    let mut model = Model::default();
    let mut journal = open(&disk, segment_bytes).unwrap();
    for (index, action) in actions.iter().enumerate() {
        match *action {
            Action::Append { count, len } => {
                let result = model.append(&journal, count, len);
                assert_eq!(result.is_ok(), !journal.is_read_only(), "{result:?}");
            }
            Action::Close | Action::Reopen => {
                if matches!(action, Action::Close) {
                    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(journal.close());
                }
                drop(journal);
                journal = open(&disk, segment_bytes).unwrap();
            }
            Action::Crash { seed } => {
                drop(journal);
                disk.crash(seed);
                disk.clear_faults();
                journal = open(&disk, segment_bytes).unwrap();
            }
            Action::Truncate { back } => {
                let kept = model.acked.len().saturating_sub(back);
                if let Some((_, end)) = model.acked[..kept].last() {
                    model.from = model.from.max(*end);
                    journal.truncate_before(model.from).unwrap();
                }
            }
            Action::FailSyncs { count } => {
                disk.fail_syncs(count);
                // What fails is the append; a sync elsewhere would fail its own caller.
                let result = model.append(&journal, 1, 20);
                disk.clear_faults();
                assert_eq!(result.is_err(), journal.is_read_only());
            }
            Action::FillUp { room } => {
                let used: u64 =
                    disk.fork().files().iter().map(|path| trefoil_runtime::Vfs::len(&disk, path).unwrap()).sum();
                disk.set_capacity(used + room);
                // Refused or not, the disk is repaired.
                drop(model.append(&journal, 2, 700));
                disk.set_capacity(u64::MAX);
            }
        }
        model.check(&journal, &format!("action {index}: {action:?}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if is_torture() { 5_000 } else { 150 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_histories(segment_bytes in 100..5_000u64, actions in prop::collection::vec(action(), 1..25)) {
        live(segment_bytes, &actions);
    }
}
