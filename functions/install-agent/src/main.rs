//! Installs the Pod Identity agent on new clusters and announces them as ready.

use podgrant_runtime::{Function, Lookout};

fn main() -> Result<(), lambda_runtime::Error> {
    podgrant_runtime::run(Function::InstallAgent, lookout())
}

#[cfg(feature = "kubernetes")]
fn lookout() -> Option<Lookout> {
    Some(Lookout::new(podgrant_kubernetes::agent_pods, podgrant_kubernetes::misfits))
}

#[cfg(not(feature = "kubernetes"))]
fn lookout() -> Option<Lookout> {
    None
}
