//! Who sends a request: the address of the connection, or what a trusted proxy says of it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::extract::Request;
use http::HeaderMap;

use crate::http::link::{self, Forwarded};
use crate::http::server::Peer;

/// The address that limits by client count under.
///
/// Behind a trusted proxy it is the last address of `Forwarded` or `X-Forwarded-For`, which that
/// proxy wrote itself; what stands before it the client may have made up.
#[must_use]
pub fn client(request: &Request, forwarded: Forwarded) -> IpAddr {
    let peer = request.extensions().get::<Peer>();
    let own = peer.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |peer| peer.0.ip());
    let told = match forwarded {
        Forwarded::All => told(request.headers()),
        Forwarded::Ignored | Forwarded::Links => None,
    };
    network(told.unwrap_or(own))
}

fn told(headers: &HeaderMap) -> Option<IpAddr> {
    let last = |name: &str| {
        let value = headers.get_all(name).iter().next_back()?;
        value.to_str().ok()?.rsplit(',').next().map(str::trim)
    };
    let by_standard = last("forwarded").and_then(|element| link::parameter(element, "for"));
    let text = by_standard.or_else(|| last("x-forwarded-for").map(str::to_owned))?;
    let bare = text.trim_matches(|c| c == '[' || c == ']');
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    bare.parse().ok().or_else(with_port)
}

/// One client has a whole /64 of IPv6 for itself.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    #[test]
    fn a_client_is_who_the_nearest_trusted_says() {
        let with = |headers: &[(&str, &str)], forwarded| {
            let mut request = Request::builder();
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let mut request = request.body(Body::empty()).unwrap();
            request.extensions_mut().insert(Peer("192.0.2.1:1".parse().unwrap()));
            client(&request, forwarded).to_string()
        };
        let made_up = [("x-forwarded-for", "203.0.113.9, 198.51.100.7")];
        assert_eq!(with(&made_up, Forwarded::Links), "192.0.2.1");
        assert_eq!(with(&made_up, Forwarded::All), "198.51.100.7");
        let standard = [("forwarded", "for=1.1.1.1, for=\"[2001:db8:1:2:3::4]:80\";proto=http")];
        assert_eq!(with(&standard, Forwarded::All), "2001:db8:1:2::");
        assert_eq!(with(&[("forwarded", "for=unknown")], Forwarded::All), "192.0.2.1");
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(network(mapped).to_string(), "192.0.2.1");
    }
}
