//! Which traces Jaeger's clients are told to sample.

use std::io::{self, Read};
use std::path::PathBuf;

use crate::decode::{Sink, section};
use crate::yaml::Node;

/// Bytes of a file of strategies at most.
const STRATEGIES_BYTES_MAX: u64 = 4 << 20;

section! {
    /// Remote sampling, as Jaeger's clients ask for it.
    pub struct RemoteSamplingConfig {
        /// File of strategies in Jaeger's JSON, read at each load of the configuration. Default none.
        pub strategies_file: Option<PathBuf> = None,
        /// Share of the traces of services for which no strategy says another. Default 0.001, from 0 to 1.
        pub default_probability: f64 = 0.001,
    }
    check RemoteSamplingConfig::check
}

impl RemoteSamplingConfig {
    /// The text of the file of strategies, `None` when none is configured.
    ///
    /// Errors when it cannot be read or has more than 4 MiB.
    pub fn read_strategies(&self) -> io::Result<Option<String>> {
        let Some(path) = &self.strategies_file else { return Ok(None) };
        let about = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(about)?;
        file.take(STRATEGIES_BYTES_MAX + 1).read_to_string(&mut text).map_err(about)?;
        if text.len() as u64 > STRATEGIES_BYTES_MAX {
            let message = format!("has more than {STRATEGIES_BYTES_MAX} bytes");
            return Err(about(io::Error::new(io::ErrorKind::InvalidData, message)));
        }
        Ok(Some(text))
    }

    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let is_share = (0.0..=1.0).contains(&self.default_probability);
        let message = "remote_sampling.default_probability must be from 0 to 1";
        sink.require(is_share, node.key_pos("default_probability"), message);
    }
}
