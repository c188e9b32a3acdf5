//! The seam to the query languages.

use std::path::Path;
use std::sync::Arc;

use trefoil_model::Labels;

/// One sample of an instant vector. A scalar is one sample without labels.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSample {
    /// Labels, the metric name among them when the expression kept it.
    pub labels: Labels,
    /// Value.
    pub value: f64,
}

/// Evaluates expressions of rules. Calls may take long: they run on a blocking thread.
pub trait Evaluate: Send + Sync {
    /// The instant vector of `expr` at `t_ms` (Unix milliseconds); samples that are histograms are left out.
    fn instant(&self, expr: &str, t_ms: i64) -> Result<Vec<VectorSample>, String>;

    /// The same for the rules of one group, when it is told apart which group asks. Default `None`: it is not.
    fn for_group(&self, _file: &Path, _name: &str) -> Option<Arc<dyn Evaluate>> {
        None
    }

    /// PromQL over the store that results are written to, by which the state of alerts is read back after a restart.
    /// Default `None`: it is this one.
    fn over_results(&self) -> Option<&dyn Evaluate> {
        None
    }
}
