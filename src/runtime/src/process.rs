//! Metrics of the process, under the names that every Prometheus client library uses.

use std::fs;
use std::sync::Once;

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, IntGauge};

/// Ticks per second in `/proc/<pid>/stat`; Linux shows user space this figure on every architecture we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Registers the `process_*` metrics with the default registry. A second call does nothing.
pub fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Err(error) = prometheus::register(Box::new(ProcessCollector::new())) {
            tracing::warn!(%error, "process metrics are not available");
        }
    });
}

/// Reads `/proc/self` when somebody asks for the metrics.
struct ProcessCollector {
    /// Serialises collections: the counter is moved by differences.
    collecting: Mutex<()>,
    cpu_seconds: Counter,
    gauges: [IntGauge; 6],
}

/// What `/proc/self` says; a field that cannot be read is 0.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct ProcessStat {
    cpu_seconds: f64,
    resident_bytes: i64,
    virtual_bytes: i64,
    threads: i64,
    start_time_seconds: i64,
    open_fds: i64,
    max_fds: i64,
}

const GAUGES: [(&str, &str); 6] = [
    ("process_resident_memory_bytes", "Resident memory size in bytes."),
    ("process_virtual_memory_bytes", "Virtual memory size in bytes."),
    ("process_threads", "Number of OS threads in the process."),
    ("process_start_time_seconds", "Start time of the process since unix epoch in seconds."),
    ("process_open_fds", "Number of open file descriptors."),
    ("process_max_fds", "Maximum number of open file descriptors."),
];

impl ProcessCollector {
    fn new() -> Self {
        let collector = Self {
            collecting: Mutex::new(()),
            cpu_seconds: Counter::new("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.")
                .expect("valid metric name"),
            gauges: GAUGES.map(|(name, help)| IntGauge::new(name, help).expect("valid metric name")),
        };
        collector.update();
        collector
    }

    fn update(&self) {
        let _collecting = self.collecting.lock();
        let stat = read_process_stat();
        let more = stat.cpu_seconds - self.cpu_seconds.get();
        if more > 0.0 {
            self.cpu_seconds.inc_by(more);
        }
        let values = [
            stat.resident_bytes,
            stat.virtual_bytes,
            stat.threads,
            stat.start_time_seconds,
            stat.open_fds,
            stat.max_fds,
        ];
        for (gauge, value) in self.gauges.iter().zip(values) {
            gauge.set(value);
        }
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        let mut descriptions = self.cpu_seconds.desc();
        descriptions.extend(self.gauges.iter().flat_map(Collector::desc));
        descriptions
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.update();
        let mut families = self.cpu_seconds.collect();
        families.extend(self.gauges.iter().flat_map(Collector::collect));
        families
    }
}

fn read_process_stat() -> ProcessStat {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let open_fds = fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count());
    let open_fds = i64::try_from(open_fds).unwrap_or(i64::MAX);
    ProcessStat { open_fds, ..parse_process_stat(&stat, &status, &boot, &limits) }
}

fn parse_process_stat(stat: &str, status: &str, boot: &str, limits: &str) -> ProcessStat {
    // Fields after the command, which is in parentheses and may hold spaces; field 3 (state) is index 0. See proc(5).
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    let boot_seconds = number_after(boot, "btime").unwrap_or(0);
    ProcessStat {
        cpu_seconds: (ticks(11) + ticks(12)) / TICKS_PER_SECOND,
        start_time_seconds: boot_seconds + (ticks(19) / TICKS_PER_SECOND) as i64,
        resident_bytes: number_after(status, "VmRSS:").unwrap_or(0) * 1024,
        virtual_bytes: number_after(status, "VmSize:").unwrap_or(0) * 1024,
        threads: number_after(status, "Threads:").unwrap_or(0),
        max_fds: number_after(limits, "Max open files").unwrap_or(0),
        open_fds: 0,
    }
}

/// Returns the first number on the line that starts with `key`.
fn number_after(text: &str, key: &str) -> Option<i64> {
    text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_the_kernel_writes() {
        let parsed = parse_process_stat(
            "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 9 0 1000 123 45 18446744073709551615",
            "Name:\ta\nVmSize:\t  2048 kB\nVmRSS:\t    1024 kB\nThreads:\t9\n",
            "cpu 1 2 3\nbtime 1700000000\n",
            "Limit  Soft\nMax open files            1024                 4096                 files\n",
        );
        let expected = ProcessStat {
            cpu_seconds: 2.0,
            resident_bytes: 1 << 20,
            virtual_bytes: 2 << 20,
            threads: 9,
            start_time_seconds: 1_700_000_010,
            open_fds: 0,
            max_fds: 1024,
        };
        assert_eq!(parsed, expected);
        assert_eq!(parse_process_stat("", "", "", ""), ProcessStat::default());
    }

    #[test]
    fn registers_once() {
        register();
        register();
        let names: Vec<_> = prometheus::gather().iter().map(|family| family.name().to_owned()).collect();
        for name in ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"] {
            assert_eq!(names.iter().filter(|found| *found == name).count(), 1, "{name}");
        }
    }
}
