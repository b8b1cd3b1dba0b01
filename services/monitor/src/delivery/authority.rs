//! Receivers that a private authority vouches for: a channel's `ca_file`.
//!
//! The file is read for each message, so that a renewed one counts at once. What is in it is never told.

use domain::definitions::Channel;
use lettre::transport::smtp::client::{Certificate, TlsParameters};
use service_kit::receivers::{self, Receiver, told};

use super::{Sender, Trouble};

impl Sender {
    /// A client that believes the channel's own authorities, too, and reaches only that receiver, if one is given.
    pub(super) async fn client(
        &self,
        channel: &Channel,
        receiver: Option<&Receiver>,
    ) -> Result<reqwest::Client, Trouble> {
        let own = authority(channel).await?;
        if own.is_none() && receiver.is_none() {
            return Ok(self.http.clone());
        }
        let mut client = receivers::client();
        if let Some(receiver) = receiver {
            client = receiver.only(client);
        }
        let Some((path, pem)) = own else {
            return client.build().map_err(|error| Trouble::later(told(error)));
        };
        let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|_| no_certificate(&path))?;
        client.tls_certs_merge(certificates).build().map_err(|_| no_certificate(&path))
    }
}

/// How a mail server proves who it is: by the public authorities, and the channel's own.
pub(super) async fn of_mail_server(channel: &Channel, host: &str) -> Result<TlsParameters, Trouble> {
    let mut parameters = TlsParameters::builder(host.to_owned());
    let own = authority(channel).await?;
    if let Some((path, pem)) = &own {
        let certificate = Certificate::from_pem(pem).map_err(|_| no_certificate(path))?;
        parameters = parameters.add_root_certificate(certificate);
    }
    let built = parameters.build();
    built.map_err(|error| {
        own.map_or_else(|| Trouble::later(error.to_string()), |(path, _)| no_certificate(&path))
    })
}

async fn authority(channel: &Channel) -> Result<Option<(String, Vec<u8>)>, Trouble> {
    let Some(path) = &channel.ca_file else { return Ok(None) };
    let pem = tokio::fs::read(path).await;
    let pem = pem.map_err(|error| Trouble::later(format!("its `ca_file` {path} cannot be read: {error}")))?;
    let begin = b"-----BEGIN CERTIFICATE-----";
    let is_one = pem.windows(begin.len()).any(|part| part == begin);
    if is_one { Ok(Some((path.clone(), pem))) } else { Err(no_certificate(path)) }
}

fn no_certificate(path: &str) -> Trouble {
    Trouble::later(format!("its `ca_file` {path} holds no certificate in PEM"))
}
