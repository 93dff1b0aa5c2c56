//! The binary `tercet`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    server::run().await.into()
}
