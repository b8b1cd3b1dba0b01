//! Mail: the same words as text and as HTML, with a picture of what moved.

use chrono::{DateTime, Utc};
use domain::definitions::{Channel, Email, MailTls};
use lettre::message::header::ContentType;
use lettre::message::{Attachment, Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::Tls;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use service_kit::receivers::PATIENCE;

use super::authority::of_mail_server;
use super::message::Message;
use super::{Again, Parcel, Sender, Trouble};
use crate::picture;

/// How the HTML part refers to the picture.
const PICTURE: &str = "moved@foretime";

type Transport = AsyncSmtpTransport<Tokio1Executor>;

impl Sender {
    /// Hands the message to the mail server.
    pub(super) async fn mail(
        &self,
        channel: &Channel,
        settings: &Email,
        parcel: Parcel<'_>,
    ) -> Result<(), Trouble> {
        let mail = mail(settings, parcel)?;
        let credentials = match (&settings.user, &settings.password_env) {
            (Some(user), Some(variable)) => Some(Credentials::new(user.clone(), self.secret(variable)?)),
            _ => None,
        };
        transport(channel, settings, credentials).await?.send(mail).await.map_err(|error| {
            let again = if error.is_permanent() { Again::Unlikely } else { Again::Later };
            let causes = service_kit::problem::causes(&error);
            Trouble { why: format!("the mail server: {error} {causes}").trim_end().to_owned(), again }
        })?;
        Ok(())
    }
}

async fn transport(
    channel: &Channel,
    settings: &Email,
    credentials: Option<Credentials>,
) -> Result<Transport, Trouble> {
    let plain = Transport::builder_dangerous(&settings.host);
    let (builder, port) = match settings.tls {
        MailTls::StartTls => (plain.tls(Tls::Required(of_mail_server(channel, &settings.host).await?)), 587),
        MailTls::Tls => (plain.tls(Tls::Wrapper(of_mail_server(channel, &settings.host).await?)), 465),
        MailTls::None => (plain, 25),
    };
    let builder = builder.port(settings.port.unwrap_or(port)).timeout(Some(PATIENCE));
    Ok(match credentials {
        Some(credentials) => builder.credentials(credentials),
        None => builder,
    }
    .build())
}

/// The messages about one incident are one thread; a message that arrives twice has the same id.
fn mail(settings: &Email, parcel: Parcel<'_>) -> Result<lettre::Message, Trouble> {
    let message = parcel.message;
    let address = |text: &str| {
        text.parse::<Mailbox>()
            .map_err(|error| Trouble::later(format!("`{text}` is no mail address: {error}")))
    };
    let mut mail = lettre::Message::builder()
        .from(address(&settings.from)?)
        .subject(message.title())
        .date(DateTime::<Utc>::into(parcel.now))
        .message_id(Some(format!("<{}@foretime>", parcel.id)));
    for receiver in &settings.to {
        mail = mail.to(address(receiver)?);
    }
    if let Some(incident) = message.incident {
        mail = mail.references(format!("<incident-{incident}@foretime>"));
    }
    mail.multipart(body(message)).map_err(|error| Trouble::unlikely(format!("no mail can be made: {error}")))
}

fn body(message: &Message) -> MultiPart {
    let alternative = MultiPart::alternative().singlepart(SinglePart::plain(text(message)));
    let Some(picture) = picture::png(&message.moved) else {
        return alternative.singlepart(SinglePart::html(html(message, false)));
    };
    let png = ContentType::parse("image/png").expect("the type is well formed");
    let image =
        Attachment::new_inline_with_name(PICTURE.to_owned(), "moved.png".to_owned()).body(picture, png);
    let html = SinglePart::html(html(message, true));
    alternative.multipart(MultiPart::related().singlepart(html).singlepart(image))
}

fn text(message: &Message) -> String {
    let mut lines = vec![message.summary.clone(), String::new()];
    lines.extend(message.moved.iter().map(|moved| format!("  {} {}", moved.subject(), moved.size())));
    lines.push(format!("since {}", message.since.to_rfc3339()));
    if let Some(held_back) = message.held_back_in_words() {
        lines.push(format!("{held_back}:"));
        lines.extend(message.held_back.iter().map(|said| format!("  {said}")));
    }
    lines.push(format!("incident: {}", message.links.incident));
    lines.push(format!("windows:  {}", message.links.windows));
    lines.join("\r\n")
}

fn html(message: &Message, pictured: bool) -> String {
    let rows: String = message
        .moved
        .iter()
        .map(|moved| {
            format!(
                "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
                escaped(&moved.subject()),
                moved.size(),
                moved.rows
            )
        })
        .collect();
    let table = if rows.is_empty() {
        String::new()
    } else {
        format!("<table cellpadding=\"4\"><tr><th>What</th><th>How far</th><th>Rows</th></tr>{rows}</table>")
    };
    let image = if pictured {
        format!("<p><img src=\"cid:{PICTURE}\" alt=\"what moved\"></p>")
    } else {
        String::new()
    };
    let held_back = message.held_back_in_words().map(|said| {
        let list: String =
            message.held_back.iter().map(|said| format!("<li>{}</li>", escaped(said))).collect();
        format!("<p>{said}:</p><ul>{list}</ul>")
    });
    format!(
        "<html><body><h2>{}</h2><p>{}</p>{table}{image}{}<p>{} &middot; {}</p></body></html>",
        escaped(&message.title()),
        escaped(&message.summary),
        held_back.unwrap_or_default(),
        link(&message.links.incident, "Incident"),
        link(&message.links.windows, "Windows"),
    )
}

fn link(address: &str, name: &str) -> String {
    let address = escaped(address);
    if address.starts_with("http") {
        format!("<a href=\"{address}\">{name}</a>")
    } else {
        format!("{name}: <code>{address}</code>")
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
