//! The replicated state of the membership.

/// Who is in and who leads, as decided.
#[derive(Clone, Debug, Default)]
pub struct Cluster {}
