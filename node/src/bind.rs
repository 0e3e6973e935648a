//! Opens listening sockets, and says what to do when one cannot be opened.

use std::io;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::config::{Address, ListenerName};

/// A process that was killed holds its sockets until its last thread is gone: its successor waits that long.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// A listener that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {name}://{address}: {problem}")]
pub struct BindError {
    /// Which listener.
    pub name: ListenerName,
    /// Where it should have listened.
    pub address: Address,
    /// What is wrong, with what to do.
    pub problem: String,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Opens a listener. Port 0 lets the system choose: see [`bound_address`].
///
/// A port in use is tried again for two seconds before it is an error.
pub async fn bind(name: ListenerName, address: &Address) -> Result<TcpListener, BindError> {
    let host = match address.host.as_str() {
        "" => "0.0.0.0",
        host => host,
    };
    let mut attempt = 1;
    loop {
        match TcpListener::bind((host, address.port)).await {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempt < ATTEMPTS => {
                attempt += 1;
                tokio::time::sleep(PAUSE).await;
            }
            Err(source) => {
                let problem = explain(address, &source);
                return Err(BindError { name, address: address.clone(), problem, source });
            }
        }
    }
}

/// The address that a listener has, with the port that the system chose where `asked` had port 0.
pub fn bound_address(asked: &Address, listener: &TcpListener) -> Address {
    let port = listener.local_addr().map_or(asked.port, |address| address.port());
    Address::new(asked.host.clone(), port)
}

fn explain(address: &Address, error: &io::Error) -> String {
    let port = address.port;
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "port {port} is in use by another process (`ss -ltnp 'sport = :{port}'` shows which); stop it, or change \
             the port in `listeners`"
        ),
        io::ErrorKind::PermissionDenied => {
            format!("port {port} may not be opened by this user; take one above 1023 in `listeners`")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("{} is no address of this machine; correct `listeners`", address.host)
        }
        _ => format!("{error}; correct `listeners`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_port_in_use_is_explained() {
        let any = Address::new("127.0.0.1", 0);
        let first = bind(ListenerName::Grpc, &any).await.unwrap();
        let taken = bound_address(&any, &first);
        assert_ne!(taken.port, 0);
        let error = bind(ListenerName::Http, &taken).await.unwrap_err().to_string();
        assert!(error.contains(&format!("HTTP://{taken}: port {} is in use", taken.port)), "{error}");
        drop(first);
        bind(ListenerName::Grpc, &taken).await.unwrap();
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_explained() {
        let error = bind(ListenerName::Grpc, &Address::new("192.0.2.1", 0)).await.unwrap_err().to_string();
        assert!(error.contains("no address of this machine"), "{error}");
    }
}
