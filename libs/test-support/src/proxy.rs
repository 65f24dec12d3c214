//! A line between two parts that can be cut.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp},
    sync::watch,
    task::JoinHandle,
};

const BUFFER_BYTES: usize = 64 * 1024;

/// What the line does.
#[derive(Debug, Clone, Copy)]
struct Line {
    upstream: SocketAddr,
    is_frozen: bool,
    is_refusing: bool,
    /// How long each piece takes more.
    delay: Duration,
    /// How often it was cut: connections of before are broken.
    cuts: u64,
}

/// Forwards TCP connections to a server, until it is told otherwise. Dropping it cuts them.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    line: Arc<watch::Sender<Line>>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A line to a server.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(upstream: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for a proxy")?;
        let addr = listener.local_addr()?;
        let line = Arc::new(watch::Sender::new(Line {
            upstream,
            is_frozen: false,
            is_refusing: false,
            delay: Duration::ZERO,
            cuts: 0,
        }));
        let task = tokio::spawn(accept(listener, Arc::clone(&line)));
        Ok(Self { addr, line, task })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Breaks all connections and refuses new ones.
    pub fn cut(&self) {
        self.line.send_modify(|line| *line = Line { is_refusing: true, cuts: line.cuts + 1, ..*line });
    }

    /// Breaks all connections; new ones are served.
    pub fn break_connections(&self) {
        self.line.send_modify(|line| line.cuts += 1);
    }

    /// Lets nothing pass; connections stand, as behind a firewall that has forgotten them.
    pub fn freeze(&self) {
        self.line.send_modify(|line| line.is_frozen = true);
    }

    /// Each piece takes longer by this, in both directions; those behind it wait. [`Proxy::heal`] ends it.
    pub fn delay(&self, delay: Duration) {
        self.line.send_modify(|line| line.delay = delay);
    }

    /// Lets everything pass again. What was frozen arrives late.
    pub fn heal(&self) {
        self.line
            .send_modify(|line| *line = Line { is_frozen: false, is_refusing: false, delay: Duration::ZERO, ..*line });
    }

    /// New connections go to this server; those that stand stay where they are.
    pub fn lead_to(&self, upstream: SocketAddr) {
        self.line.send_modify(|line| line.upstream = upstream);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, line: Arc<watch::Sender<Line>>) {
    while let Ok((client, _)) = listener.accept().await {
        let now = *line.borrow();
        if !now.is_refusing {
            tokio::spawn(carry(client, now.upstream, now.cuts, line.subscribe()));
        }
    }
}

async fn carry(client: TcpStream, upstream: SocketAddr, cuts: u64, mut line: watch::Receiver<Line>) {
    let Ok(server) = TcpStream::connect(upstream).await else { return };
    // Without it the proxy would add delays of its own; where it cannot be set, it does.
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // Ends with the first direction that ends: what closes one half closes the connection.
    tokio::select! {
        _ = forward(from_client, to_server, line.clone()) => {}
        _ = forward(from_server, to_client, line.clone()) => {}
        _ = line.wait_for(|line| line.cuts != cuts) => {}
    }
}

async fn forward(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    mut line: watch::Receiver<Line>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = from.read(&mut buffer).await?;
        let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else { return Ok(()) };
        if line.wait_for(|line| !line.is_frozen).await.is_err() {
            return Ok(());
        }
        let delay = line.borrow().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        to.write_all(read).await?;
    }
}
