//! How much memory the process may plan with.

use std::fs;

/// Share of the machine's or control group's memory that is planned with, in percent.
const SHARE_PERCENT: u64 = 80;
/// What is assumed when nothing says how much there is.
const UNKNOWN_BYTES: u64 = 2 << 30;

/// 80 % of the control group's limit or, without one, of the machine's memory; in bytes.
pub(crate) fn default_budget_bytes() -> u64 {
    let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .into_iter()
        .find_map(|path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok());
    let machine = fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(mem_total_bytes);
    let total = match (group, machine) {
        (Some(group), Some(machine)) => group.min(machine),
        (Some(bytes), None) | (None, Some(bytes)) => bytes,
        (None, None) => UNKNOWN_BYTES,
    };
    total / 100 * SHARE_PERCENT
}

fn mem_total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read() {
        assert_eq!(mem_total_bytes("MemFree: 1 kB\nMemTotal:       2048 kB\n"), Some(2 << 20));
        assert_eq!(mem_total_bytes("nothing"), None);
        assert!(default_budget_bytes() > 0);
    }
}
