//! Channels: where messages about incidents go. Secrets are named by environment variable, never written down.

use serde::{Deserialize, Serialize};

/// What the environment variables begin with that hold secrets of channels. A channel may name no other: whoever declares one could
/// else have any secret of the process sent to a server of theirs.
pub const CHANNEL_SECRETS: &str = "CHANNEL_";

/// Where messages go. Exactly one of `webhook`, `alertmanager`, `slack_url_env` and `email` says how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// Its name.
    pub name: String,
    /// The address that gets a JSON document by POST.
    pub webhook: Option<String>,
    /// The environment variable that holds the key of the webhook's HMAC-SHA256 signature.
    pub secret_env: Option<String>,
    /// The address of an Alertmanager (API v2), such as `http://alertmanager:9093`.
    pub alertmanager: Option<String>,
    /// The environment variable that holds the address of a Slack incoming webhook.
    pub slack_url_env: Option<String>,
    /// A mail server and who gets mail.
    pub email: Option<Email>,
    /// A PEM file, where Foretime runs, of the authorities that may vouch for the receiver besides the public ones.
    #[serde(default)]
    pub ca_file: Option<String>,
    /// Whether the end of an incident is told too.
    #[serde(default = "yes")]
    pub send_resolved: bool,
    /// More than this many messages a minute wait for the next minute.
    #[serde(default = "messages_per_minute")]
    pub messages_per_minute: u32,
    /// An Alertmanager hears again of what is still so after this many seconds.
    #[serde(default = "resend_seconds")]
    pub resend_seconds: u32,
    /// The address that people reach Foretime by; messages link to it.
    pub links: Option<String>,
}

fn yes() -> bool {
    true
}
fn messages_per_minute() -> u32 {
    30
}
fn resend_seconds() -> u32 {
    60
}

/// How the connection to a mail server is kept private.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailTls {
    /// A plain connection that is made private before anything is said.
    #[default]
    StartTls,
    /// A private connection from the first byte.
    Tls,
    /// A plain connection: for a server on this machine.
    None,
}

/// A mail server and who gets mail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Email {
    /// The server.
    pub host: String,
    /// Its port; 587, or 465 with `tls = "tls"`, if absent.
    pub port: Option<u16>,
    /// How the connection is kept private.
    #[serde(default)]
    pub tls: MailTls,
    /// Who logs in, if anybody must.
    pub user: Option<String>,
    /// The environment variable that holds the password.
    pub password_env: Option<String>,
    /// Who it is from, such as `Foretime <foretime@example.org>`.
    pub from: String,
    /// Who gets it.
    pub to: Vec<String>,
}

/// How a channel delivers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target<'a> {
    /// A JSON document by POST to this address.
    Webhook(&'a str),
    /// An Alertmanager at this address.
    Alertmanager(&'a str),
    /// A Slack incoming webhook whose address this environment variable holds.
    Slack(&'a str),
    /// Mail.
    Email(&'a Email),
}

impl Channel {
    /// How it delivers; `None` unless exactly one way is given, which applying refuses.
    pub fn target(&self) -> Option<Target<'_>> {
        let ways = [
            self.webhook.as_deref().map(Target::Webhook),
            self.alertmanager.as_deref().map(Target::Alertmanager),
            self.slack_url_env.as_deref().map(Target::Slack),
            self.email.as_ref().map(Target::Email),
        ];
        let mut given = ways.into_iter().flatten();
        given.next().filter(|_| given.next().is_none())
    }

    /// The environment variables that it takes secrets from.
    fn variables(&self) -> impl Iterator<Item = &str> {
        let password = self.email.as_ref().and_then(|email| email.password_env.as_deref());
        [self.secret_env.as_deref(), self.slack_url_env.as_deref(), password].into_iter().flatten()
    }

    /// What is wrong with it.
    pub(super) fn misfits(&self) -> Vec<String> {
        let mut said = Vec::new();
        if self.target().is_none() {
            said.push(
                "give exactly one of `webhook`, `alertmanager`, `slack_url_env` and `email`".to_owned(),
            );
        }
        if self.secret_env.is_some() && self.webhook.is_none() {
            said.push(
                "`secret_env` signs what a `webhook` gets; the other ways have no signature".to_owned(),
            );
        }
        for address in self.webhook.iter().chain(&self.alertmanager).chain(&self.links) {
            if !address.starts_with("http://") && !address.starts_with("https://") {
                said.push(format!("`{address}` must begin with `http://` or `https://`"));
            }
        }
        let is_plain = self.email.as_ref().is_some_and(|email| email.tls == MailTls::None)
            || self.webhook.iter().chain(&self.alertmanager).any(|address| address.starts_with("http://"));
        if self.ca_file.is_some() && is_plain {
            said.push(
                "`ca_file` says who vouches for the receiver; a plain connection asks nobody".to_owned(),
            );
        }
        for variable in self.variables().filter(|variable| !variable.starts_with(CHANNEL_SECRETS)) {
            said.push(format!(
                "`{variable}` must begin with `{CHANNEL_SECRETS}`, such as `{CHANNEL_SECRETS}{variable}`: channels read no other \
                 variables"
            ));
        }
        if self.messages_per_minute == 0 || self.resend_seconds == 0 {
            said.push("`messages_per_minute` and `resend_seconds` must be at least 1".to_owned());
        }
        said.extend(self.email.iter().flat_map(Email::misfits));
        said
    }
}

impl Email {
    fn misfits(&self) -> Vec<String> {
        let mut said = Vec::new();
        if self.to.is_empty() {
            said.push("`email.to` names nobody".to_owned());
        }
        for address in self.to.iter().chain([&self.from]).filter(|address| !address.contains('@')) {
            said.push(format!("`{address}` is no mail address"));
        }
        if self.user.is_some() != self.password_env.is_some() {
            said.push("`email.user` and `email.password_env` go together".to_owned());
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use crate::definitions::{Definitions, Object, Target, check, parse_file};

    fn channel(text: &str) -> Result<Object, String> {
        let text = format!("[[channel]]\nname = \"people\"\n{text}");
        let located = parse_file("test.toml", &text).map_err(|error| error.to_string())?;
        let object = located[0].object.clone();
        let mut all = Definitions::default();
        all.extend(located).map_err(|error| error.to_string())?;
        check(&all).map_err(|error| error.to_string())?;
        Ok(object)
    }

    fn refusal(text: &str) -> String {
        channel(text).expect_err("this must be refused")
    }

    #[test]
    fn a_channel_has_exactly_one_way_to_deliver() {
        assert!(refusal("").contains("exactly one of"));
        assert!(refusal("webhook = \"http://a/\"\nalertmanager = \"http://b\"").contains("exactly one of"));
        let Ok(Object::Channel(channel)) = channel("slack_url_env = \"CHANNEL_SLACK_URL\"") else {
            panic!("Slack alone is enough")
        };
        assert_eq!(channel.target(), Some(Target::Slack("CHANNEL_SLACK_URL")));
        assert!(channel.send_resolved);
    }

    #[test]
    fn mail_needs_a_receiver_real_addresses_and_a_password_for_its_user() {
        let said = refusal("email = { host = \"smtp\", from = \"foretime\", to = [], user = \"f\" }");
        assert!(said.contains("names nobody"), "{said}");
        assert!(said.contains("`foretime` is no mail address"), "{said}");
        assert!(said.contains("go together"), "{said}");
        assert!(channel("email = { host = \"smtp\", from = \"f@a.org\", to = [\"b@a.org\"] }").is_ok());
    }

    #[test]
    fn an_address_without_a_scheme_and_a_signature_without_a_webhook_are_refused() {
        assert!(refusal("webhook = \"example.org/hook\"").contains("must begin with"));
        assert!(refusal("alertmanager = \"http://b\"\nsecret_env = \"S\"").contains("no signature"));
    }

    #[test]
    fn a_channel_takes_no_secret_that_is_not_for_channels() {
        let of_ours = "AWS_SECRET_ACCESS_KEY";
        for text in [
            format!("slack_url_env = \"{of_ours}\""),
            format!("webhook = \"https://a.org/\"\nsecret_env = \"{of_ours}\""),
            format!(
                "email = {{ host = \"smtp\", from = \"f@a.org\", to = [\"b@a.org\"], user = \"f\", password_env = \"{of_ours}\" }}"
            ),
        ] {
            assert!(refusal(&text).contains("`CHANNEL_AWS_SECRET_ACCESS_KEY`"), "{text}");
        }
    }
}
