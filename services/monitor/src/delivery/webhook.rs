//! A JSON document by POST, signed.

use domain::definitions::Channel;
use hmac::{Hmac, KeyInit, Mac};
use service_kit::receivers::Receiver;
use sha2::Sha256;

use super::{Parcel, Sender, Trouble, post};

impl Sender {
    /// Posts the message. With a secret, `X-Foretime-Signature` is `sha256=` and the HMAC-SHA256, in hex, of
    /// `timestamp.delivery.body`, where timestamp and delivery are the headers of those names: a receiver that refuses old
    /// timestamps and known deliveries cannot be fed a recorded message.
    pub(super) async fn webhook(
        &self,
        channel: &Channel,
        address: &str,
        parcel: Parcel<'_>,
    ) -> Result<(), Trouble> {
        let body = parcel.message.to_json();
        let (timestamp, delivery) = (parcel.now.timestamp().to_string(), parcel.id.to_string());
        let found = Receiver::find(address, &self.webhooks).await;
        let receiver = found
            .map_err(|error| Trouble::later(format!("{error} `[webhooks]` in the settings may allow it.")))?;
        let mut request = self
            .client(channel, Some(&receiver))
            .await?
            .post(receiver.url)
            .header("content-type", "application/json")
            .header("idempotency-key", &delivery)
            .header("x-foretime-delivery", &delivery)
            .header("x-foretime-timestamp", &timestamp);
        if let Some(variable) = &channel.secret_env {
            let signed = format!("{timestamp}.{delivery}.{body}");
            request = request.header(
                "x-foretime-signature",
                signature(self.secret(variable)?.as_bytes(), signed.as_bytes()),
            );
        }
        post(request.body(body)).await
    }
}

fn signature(secret: &[u8], signed: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(signed);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_one_that_receivers_compute() {
        // RFC 4231, test case 2
        assert_eq!(
            signature(b"Jefe", b"what do ya want for nothing?"),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
