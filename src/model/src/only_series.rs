//! The rest of a [`MetricReader`](crate::MetricReader) of which only series and samples are asked.

/// In an `impl MetricReader`: the functions that a reader without label index, exemplars and metadata has none of. Label
/// names and values, exemplars and metadata are empty, and no series is active. `select` and `series` are left to be
/// written. For sources of exports and for tests; a store has all of them.
#[macro_export]
macro_rules! only_series {
    () => {
        fn label_names(
            &self,
            _: $crate::TenantId,
            _: $crate::TimeRange,
            _: &[$crate::SelectRequest],
            _: usize,
            _: &dyn $crate::QueryBudget,
        ) -> ::std::result::Result<(::std::vec::Vec<::std::string::String>, bool), $crate::StoreError> {
            ::std::result::Result::Ok((::std::vec::Vec::new(), false))
        }

        fn label_values(
            &self,
            _: $crate::TenantId,
            _: &str,
            _: $crate::TimeRange,
            _: &[$crate::SelectRequest],
            _: usize,
            _: &dyn $crate::QueryBudget,
        ) -> ::std::result::Result<(::std::vec::Vec<::std::string::String>, bool), $crate::StoreError> {
            ::std::result::Result::Ok((::std::vec::Vec::new(), false))
        }

        fn exemplars(
            &self,
            _: &[$crate::SelectRequest],
            _: &dyn $crate::QueryBudget,
        ) -> ::std::result::Result<
            ::std::vec::Vec<($crate::Labels, ::std::vec::Vec<$crate::Exemplar>)>,
            $crate::StoreError,
        > {
            ::std::result::Result::Ok(::std::vec::Vec::new())
        }

        fn metadata(
            &self,
            _: $crate::TenantId,
            _: ::std::option::Option<&str>,
            _: usize,
        ) -> ::std::vec::Vec<$crate::MetricMetadata> {
            ::std::vec::Vec::new()
        }

        fn active_series(&self) -> u64 {
            0
        }
    };
}
