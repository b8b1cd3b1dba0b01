//! Slack: a text for notifications, blocks for the channel.

use domain::definitions::Channel;
use serde_json::{Value, json};

use super::message::Message;
use super::{Parcel, Sender, Trouble, post};

impl Sender {
    /// Posts to the incoming webhook whose address the environment variable holds.
    pub(super) async fn slack(
        &self,
        channel: &Channel,
        variable: &str,
        parcel: Parcel<'_>,
    ) -> Result<(), Trouble> {
        let address = self.secret(variable)?;
        if !address.starts_with("http") {
            return Err(Trouble::later(format!("${variable} holds no address that begins with `http`")));
        }
        post(self.client(channel, None).await?.post(address).json(&document(parcel.message))).await
    }
}

fn document(message: &Message) -> Value {
    let mut blocks = vec![
        json!({ "type": "header", "text": { "type": "plain_text", "text": cut(&message.title(), 150) } }),
        section(&escaped(&message.summary)),
        json!({ "type": "section", "fields": fields(message) }),
    ];
    let moved: Vec<String> = message
        .moved
        .iter()
        .map(|moved| format!("• *{}* {}", escaped(&moved.subject()), moved.size()))
        .collect();
    if !moved.is_empty() {
        blocks.push(section(&moved.join("\n")));
    }
    if let Some(held_back) = message.held_back_in_words() {
        let list: Vec<String> = message.held_back.iter().map(|said| format!("• {}", escaped(said))).collect();
        blocks.push(section(&format!("{held_back}\n{}", list.join("\n"))));
    }
    blocks.push(json!({ "type": "context", "elements": [{ "type": "mrkdwn", "text": links(message) }] }));
    json!({ "text": format!("{}: {}", message.title(), message.summary), "blocks": blocks })
}

fn section(text: &str) -> Value {
    json!({ "type": "section", "text": { "type": "mrkdwn", "text": cut(text, 3_000) } })
}

fn fields(message: &Message) -> Vec<Value> {
    let since = message.since.format("%Y-%m-%d %H:%M UTC").to_string();
    [
        ("Cause", &message.cause),
        ("Severity", &message.severity),
        ("Monitor", &message.monitor),
        ("Since", &since),
    ]
    .into_iter()
    .map(|(name, value)| json!({ "type": "mrkdwn", "text": format!("*{name}*\n{}", escaped(value)) }))
    .collect()
}

fn links(message: &Message) -> String {
    if !message.links.incident.starts_with("http") {
        return format!("`{}`", message.links.incident);
    }
    format!("<{}|Incident> · <{}|Windows>", message.links.incident, message.links.windows)
}

/// The three characters that Slack's markup reads as its own.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Slack refuses texts beyond its bounds.
fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most - 1) {
        Some((end, _)) if text.len() > end + 1 => format!("{}…", &text[..end]),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_and_cut_to_what_slack_takes() {
        let now = "2026-11-24T03:00:00Z".parse().unwrap();
        let message =
            Message { summary: format!("a<b & {}", "x".repeat(4_000)), ..Message::test("p", "c", now) };
        let document = document(&message);
        let said = document["blocks"][1]["text"]["text"].as_str().unwrap();
        assert!(said.starts_with("a&lt;b &amp; x"), "{said}");
        assert_eq!(said.chars().count(), 3_000);
    }

    #[test]
    fn a_text_that_fits_is_left_alone() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
    }
}
