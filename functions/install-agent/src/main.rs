//! Installs the Pod Identity agent on new clusters and announces them as ready.

fn main() -> Result<(), lambda_runtime::Error> {
    podgrant_runtime::run(podgrant_runtime::Function::InstallAgent)
}
