//! An agent's way to the collector, which can be cut and closed.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A relay on the loopback interface.
#[derive(Debug)]
pub struct Proxy {
    /// Where agents connect to.
    pub address: String,
    way: Arc<Way>,
}

#[derive(Debug)]
struct Way {
    /// Where the collector listens; nowhere while the way is closed.
    target: Mutex<Option<String>>,
    /// Changes when all connections are to break.
    cut: watch::Sender<u64>,
}

impl Proxy {
    /// Listens; the way is closed.
    ///
    /// # Errors
    /// No port is left.
    pub async fn listen() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let way = Arc::new(Way { target: Mutex::new(None), cut: watch::Sender::new(0) });
        tokio::spawn(accept(listener, Arc::clone(&way)));
        Ok(Self { address, way })
    }

    /// Leads to this collector from now on.
    pub fn open(&self, target: &str) {
        *self.way.target.lock().unwrap_or_else(PoisonError::into_inner) = Some(target.to_owned());
    }

    /// Breaks all connections and lets no new one through.
    pub fn close(&self) {
        *self.way.target.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.way.cut.send_modify(|cut| *cut += 1);
    }
}

async fn accept(listener: TcpListener, way: Arc<Way>) {
    while let Ok((agent, _)) = listener.accept().await {
        let target = way.target.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let cut = way.cut.subscribe();
        if let Some(target) = target {
            tokio::spawn(relay(agent, target, cut));
        }
    }
}

/// What is on its way when the connection is cut is lost, as in a network.
async fn relay(mut agent: TcpStream, target: String, mut cut: watch::Receiver<u64>) {
    let Ok(mut collector) = TcpStream::connect(&target).await else { return };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut agent, &mut collector) => {}
        _ = cut.changed() => {}
    }
}
