//! Which browser origins may call. Source: RFC 6454; WHATWG Fetch, CORS protocol.

use actix_web::http::header::HeaderValue;

use crate::state::Gateway;

/// Whether a request from this origin is let in: no origin (apps), a listed one, or the gateway's own address.
pub(crate) fn is_origin_allowed(gateway: &Gateway, origin: Option<&HeaderValue>, host: &str) -> bool {
    let Some(origin) = origin else {
        return true;
    };
    let origin = origin.to_str().unwrap_or_default();
    is_listed(&gateway.config.gateway_origins, origin) || is_same_host(origin, host)
}

/// Whether the settings name this origin, or `*`.
pub(crate) fn is_listed(origins: &[String], origin: &str) -> bool {
    origins.iter().map(|listed| listed.trim().trim_end_matches('/')).any(|listed| {
        let is_named = !listed.is_empty() && listed.eq_ignore_ascii_case(origin);
        listed == "*" || is_named
    })
}

/// Whether the page came from the address that it now calls.
fn is_same_host(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let bare = |address: &str| address.strip_suffix(port).unwrap_or(address).to_ascii_lowercase();
    !authority.is_empty() && bare(authority) == bare(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_origins_are_compared_whole() {
        let origins = ["https://chat.example".to_owned(), "tauri://localhost/".to_owned()];
        for good in ["https://chat.example", "https://CHAT.example", "tauri://localhost"] {
            assert!(is_listed(&origins, good), "{good}");
        }
        for bad in ["", "null", "http://chat.example", "https://chat.example.evil", "https://chat.example:444"] {
            assert!(!is_listed(&origins, bad), "{bad}");
        }
        assert!(is_listed(&["*".to_owned()], "https://anything.example"));
        assert!(!is_listed(&[String::new()], ""));
    }

    #[test]
    fn the_gateways_own_pages_may_call() {
        assert!(is_same_host("https://chat.example", "chat.example"));
        assert!(is_same_host("https://chat.example", "chat.example:443"));
        assert!(is_same_host("http://localhost:8080", "localhost:8080"));
        assert!(!is_same_host("http://localhost:3000", "localhost:8080"));
        assert!(!is_same_host("null", "null"));
        assert!(!is_same_host("file://", ""));
    }
}
