//! Deterministic partition-testing harness.
