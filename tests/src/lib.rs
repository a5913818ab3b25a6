//! The AWS that podgrant's tests and demo run on.
//!
//! Two of them, each for its work: [`local_aws`] runs the real bootstraps on an
//! emulator that others wrote, so that it can disagree with us; [`fake`] is an
//! in-process EKS and IAM with AWS's paging, delays and faults, for what an
//! emulator can't play. [`local_kubernetes`] is a real API server, as the clusters of either have one.

pub mod endpoint;
pub mod fake;
pub mod fake_kubernetes;
pub mod fleet;
pub mod local_aws;
pub mod local_kubernetes;
pub mod virtual_time;
