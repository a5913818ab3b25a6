//! Makes the associations that role tags ask for, and withdraws those that none does.

fn main() -> Result<(), lambda_runtime::Error> {
    podgrant_runtime::run(podgrant_runtime::Function::ReconcileAssociations, None)
}
