//! Ports on 127.0.0.1.

use std::net::{Ipv4Addr, TcpListener};

use crate::ServerError;

/// Ports that we pick from: below the range that systems hand to outgoing connections (Linux: from 32,768), so that a
/// server which is down for a moment finds its port still free.
const PICK_FROM: std::ops::Range<u16> = 20_000..32_000;

/// How many ports are tried before we give up.
const PICKS_MAX: usize = 200;

/// Whether a server could listen on this port of 127.0.0.1 now.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A port that is free now. Another program may be quicker: whoever uses it tries again with another.
///
/// # Errors
/// [`ServerError::NoFreePort`] when 200 random ones were all taken.
pub fn pick() -> Result<u16, ServerError> {
    (0..PICKS_MAX).map(|_| rand::random_range(PICK_FROM)).find(|port| is_free(*port)).ok_or(ServerError::NoFreePort)
}

/// The preferred port if it is free, else another one.
///
/// # Errors
/// As [`pick`].
pub fn prefer(port: Option<u16>) -> Result<u16, ServerError> {
    match port {
        Some(port) if is_free(port) => Ok(port),
        _ => pick(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_not_preferred() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = listener.local_addr().unwrap().port();
        assert!(!is_free(taken));
        assert_ne!(prefer(Some(taken)).unwrap(), taken);
    }

    #[test]
    fn a_free_port_is_kept() {
        let port = pick().unwrap();
        assert_eq!(prefer(Some(port)).unwrap(), port);
    }
}
