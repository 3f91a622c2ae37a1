//! The mock as a server, for the demo and the container image.
//!
//! `mock-llm [ADDRESS]` listens on `127.0.0.1:8000` or on the given address (port 0 takes a free one), and prints the
//! address to standard error.

use std::error::Error;
use std::sync::Arc;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8000".to_owned());
    let listener =
        TcpListener::bind(&address).await.map_err(|why| format!("cannot listen on {address}: {why}"))?;
    eprintln!("mock-llm listens on {}", listener.local_addr()?);
    mock_llm::serve(listener, mock_llm::router(Arc::default(), Arc::default())).await?;
    Ok(())
}
