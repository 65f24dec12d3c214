//! Whether services are ready.

use std::{net::Ipv4Addr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::instance::Instance;

/// Between two looks.
const POLL: Duration = Duration::from_millis(50);

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// How much of an answer is read: its first line.
const ANSWER_BYTES: usize = 64;

const QUESTION: &[u8] = b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";

/// Waits until every instance is ready, gateways on both their ports.
pub(crate) async fn all_ready(instances: &[Instance]) {
    for instance in instances {
        for port in [Some(instance.admin_port), instance.public_port].into_iter().flatten() {
            while !is_ready(port).await {
                tokio::time::sleep(POLL).await;
            }
        }
    }
}

async fn is_ready(port: u16) -> bool {
    let answer = tokio::time::timeout(ANSWER_LIMIT, ask(port)).await;
    matches!(answer, Ok(Ok(line)) if line.starts_with(b"HTTP/1.1 200"))
}

async fn ask(port: u16) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.write_all(QUESTION).await?;
    let mut line = Vec::with_capacity(ANSWER_BYTES);
    while line.len() < b"HTTP/1.1 200".len() && stream.read_buf(&mut line).await? > 0 {}
    Ok(line)
}
