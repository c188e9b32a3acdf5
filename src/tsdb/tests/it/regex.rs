//! Matchers over memtable and parts beside a naive regex over all series.

use std::collections::BTreeSet;

use proptest::prelude::*;
use trefoil_model::{Labels, MatchOp, Matcher, MetricReader, TenantId, TimeRange, Unlimited};
use trefoil_runtime::vfs::sim::SimDisk;
use trefoil_tsdb::Tsdb;

use crate::support::{BASE, float, labels, open, read, request, wait, write};

const OPS: [MatchOp; 4] = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];

fn check(db: &Tsdb, all: &[Labels], matchers: Vec<Matcher>) {
    let naive = |l: &&Labels| matchers.iter().all(|m| m.matches(l.get(&m.name).unwrap_or("")));
    let want: Vec<&Labels> = all.iter().filter(naive).collect();
    let found = read(db, 0, matchers.clone(), TimeRange::ALL);
    assert_eq!(found.keys().collect::<BTreeSet<_>>(), want.iter().copied().collect(), "{matchers:?}");
    let requests = [request(matchers.clone(), TimeRange::ALL)];
    let (values, _) = db.label_values(TenantId(0), "l", TimeRange::ALL, &requests, 0, &Unlimited).unwrap();
    let want: BTreeSet<&str> = want.iter().filter_map(|l| l.get("l")).collect();
    assert_eq!(values, want.into_iter().collect::<Vec<_>>(), "{matchers:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn matchers_select_what_a_naive_regex_selects(
        values in prop::collection::btree_set("[abAé0-]{0,4}", 1..60),
        patterns in prop::collection::vec(
            ("(\\(\\?i\\))?([abA0é-]|\\.\\*|\\.\\+|\\[ab\\]|\\[\\^b\\]|\\(a\\|bb\\)|b\\?|\\|){0,5}", 0usize..4, any::<bool>()),
            1..40,
        ),
    ) {
        let disk = SimDisk::new();
        let db = open(&disk).unwrap();
        let all: Vec<Labels> = values
            .iter()
            .enumerate()
            .map(|(i, v)| labels(&[("__name__", "m"), ("l", v), ("k", &i.to_string())]))
            .collect();
        let (flushed, fresh) = all.split_at(all.len() / 2);
        for half in [flushed, fresh] {
            let samples: Vec<_> = half.iter().map(|l| (l.clone(), (BASE, 0, float(1.0)))).collect();
            write(&db, &samples).unwrap();
            if half.len() == flushed.len() && half.first() == flushed.first() {
                wait(db.flush()).unwrap();
            }
        }
        for (pattern, op, and_name) in patterns {
            let Ok(m) = Matcher::new(OPS[op], "l", pattern) else { continue };
            let mut matchers = vec![m];
            if and_name {
                matchers.push(Matcher::equal("__name__", "m"));
            }
            check(&db, &all, matchers);
        }
        wait(db.close());
    }
}
