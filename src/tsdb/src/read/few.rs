//! What is known of a request before it is read: whether it is so small that reading it takes no time to speak of.

use trefoil_model::{QueryBudget, SelectRequest, TenantId, TimeRange};

use super::memtable_rows;
use crate::matching::select_rows;
use crate::store::Inner;

impl Inner {
    /// See [`trefoil_model::MetricReader::is_in_memory`].
    pub(super) fn is_in_memory(&self, tenant: TenantId, range: TimeRange) -> bool {
        self.view.load().parts_of(tenant, range).next().is_none()
    }

    /// See [`trefoil_model::MetricReader::selects_few`].
    pub(super) fn selects_few(&self, request: &SelectRequest, series_max: u64, budget: &dyn QueryBudget) -> bool {
        let view = self.view.load_full();
        let request = self.visible(request);
        let mut count = 0;
        for part in view.parts_of(request.tenant, request.range) {
            if part.meta.is_remote() {
                return false;
            }
            let Ok(reader) = part.index() else { return false };
            let Ok(rows) = select_rows(reader, &request.matchers, budget) else { return false };
            count += rows.len();
            if count > series_max {
                return false;
            }
        }
        for memtable in view.memtables() {
            let Ok((rows, _)) = memtable_rows(memtable, &request, budget) else { return false };
            count += rows.len();
        }
        count <= series_max
    }
}
