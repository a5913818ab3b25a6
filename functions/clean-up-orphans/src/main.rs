//! Removes associations whose role is gone and reports roles whose clusters are.

fn main() -> Result<(), lambda_runtime::Error> {
    podgrant_runtime::run(podgrant_runtime::Function::CleanUpOrphans, None)
}
