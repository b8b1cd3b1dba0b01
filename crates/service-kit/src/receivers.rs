//! Asking servers that users name: which may be asked, and how.
//!
//! A webhook is reached by TLS, and at a public address, unless the configuration says otherwise: whoever may name one could else make
//! this server ask machines that only it can reach. Its name is resolved once, the address checked, and the connection made to that
//! address: a name that answers differently a moment later leads nowhere else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use reqwest::{ClientBuilder, Url};

use crate::config::WebhooksConfig;
use crate::problem::causes;

/// How long a receiver may take, all in all.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A receiver cannot, or must not, be reached.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreachable(pub String);

/// A webhook that may be asked, and where.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// What was named.
    pub url: Url,
    address: SocketAddr,
}

impl Receiver {
    /// Looks for the address that a webhook's name leads to now.
    ///
    /// # Errors
    /// [`Unreachable`], in MLflow's words, if the URL is none, its name leads nowhere, or the configuration does not allow its scheme
    /// or one of its addresses.
    pub async fn find(url: &str, config: &WebhooksConfig) -> Result<Self, Unreachable> {
        let parsed = Url::parse(url).map_err(|_| scheme("", config))?;
        if parsed.scheme() != "https" && !(config.allow_http && parsed.scheme() == "http") {
            return Err(scheme(parsed.scheme(), config));
        }
        let host = parsed.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = parsed.port_or_known_default().unwrap_or(443);
        let found = tokio::net::lookup_host((host.as_str(), port)).await;
        let found: Vec<SocketAddr> = found
            .map_err(|error| Unreachable(format!("Cannot resolve Webhook URL hostname '{host}': {error}")))?
            .collect();
        // All of them: which one a connection would take is not ours to say.
        if let Some(inside) = found.iter().find(|address| !config.allow_private && !is_public(address.ip())) {
            return Err(Unreachable(format!(
                "Webhook URL must not resolve to a non-public IP address. '{host}' resolves to {}.",
                inside.ip()
            )));
        }
        let nowhere =
            || Unreachable(format!("Cannot resolve Webhook URL hostname '{host}': it has no address"));
        let address = found.first().copied().ok_or_else(nowhere)?;
        Ok(Self { url: parsed, address })
    }

    /// A client that connects to the address that was checked, whatever proxies the environment names.
    pub fn only(&self, client: ClientBuilder) -> ClientBuilder {
        client.resolve(self.url.host_str().unwrap_or_default(), self.address).no_proxy()
    }
}

/// What all receivers have in common: no redirects are followed, and nobody is waited for for long.
pub fn client() -> ClientBuilder {
    rustls::crypto::ring::default_provider().install_default().ok(); // another service may have done so
    reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(3))
        .timeout(PATIENCE)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("foretime/", env!("CARGO_PKG_VERSION")))
}

/// The error and its causes without the address, which may hold a secret.
pub fn told(error: reqwest::Error) -> String {
    let error = error.without_url();
    match causes(&error) {
        causes if causes.is_empty() => error.to_string(),
        causes => format!("{error}: {causes}"),
    }
}

fn scheme(scheme: &str, config: &WebhooksConfig) -> Unreachable {
    let allowed = if config.allow_http { "https, http" } else { "https" };
    Unreachable(format!("Invalid webhook URL scheme: '{scheme}'. Allowed schemes are: {allowed}."))
}

/// Whether an address is anybody's on the internet, and not one inside a machine, a network or a provider.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match embedded(address) {
            Some(inside) => is_public_v4(inside),
            None => is_public_v6(address),
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let shared = a == 100 && (64..128).contains(&b); // RFC 6598
    let protocol = a == 192 && b == 0 && c == 0; // RFC 6890
    let benchmark = a == 198 && (18..20).contains(&b); // RFC 2544
    !(a == 0
        || a >= 240
        || shared
        || protocol
        || benchmark
        || address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast())
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let first = address.segments()[0];
    let documentation = first == 0x2001 && address.segments()[1] == 0xdb8;
    let teredo = first == 0x2001 && address.segments()[1] == 0;
    first & 0xe000 == 0x2000 && !documentation && !teredo // global unicast, RFC 4291
}

/// The IPv4 address inside an IPv6 one: mapped, by NAT64 or by 6to4.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => Some(join(g, h)),
        (0x2002, high, low, ..) => Some(join(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_inside_are_not_public_in_any_spelling() {
        for inside in [
            "127.0.0.1",
            "127.9.9.9",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "192.0.0.8",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::10.0.0.1",
            "2002:7f00:1::",
            "2001:db8::1",
        ] {
            assert!(!is_public(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8"] {
            assert!(is_public(outside.parse().unwrap()), "{outside}");
        }
    }

    #[tokio::test]
    async fn a_receiver_inside_is_refused_unless_the_configuration_allows_it() {
        let strict = WebhooksConfig { allow_http: false, allow_private: false };
        for url in [
            "http://8.8.8.8/x",
            "https://127.0.0.1/x",
            "https://[::1]/x",
            "https://2130706433/x",
            "https://0x7f.1/x",
            "https://localhost/x",
            "ftp://8.8.8.8/x",
            "nonsense",
        ] {
            assert!(Receiver::find(url, &strict).await.is_err(), "{url}");
        }
        let open = WebhooksConfig { allow_http: true, allow_private: true };
        let found = Receiver::find("http://127.0.0.1:8080/x", &open).await.unwrap();
        assert_eq!(found.address.port(), 8080);
    }
}
