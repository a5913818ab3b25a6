//! Makes the associations that role tags ask for, and withdraws those that none does.

use podgrant_runtime::{Function, Lookout};

fn main() -> Result<(), lambda_runtime::Error> {
    podgrant_runtime::run(Function::ReconcileAssociations, lookout())
}

#[cfg(feature = "kubernetes")]
fn lookout() -> Option<Lookout> {
    Some(Lookout::for_accounts(
        podgrant_kubernetes::service_accounts,
        podgrant_kubernetes::service_account_exists,
    ))
}

#[cfg(not(feature = "kubernetes"))]
fn lookout() -> Option<Lookout> {
    None
}
