//! A mail: the headline as subject, a line for each trouble, what is known of it below.

use lettre::address::AddressError;
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, MessageBuilder};
use lettre::transport::smtp::AsyncSmtpTransport;
use lettre::transport::smtp::authentication::Credentials;
use lettre::{AsyncTransport, Message, Tokio1Executor};

use super::{Mail, Security, TellError, WITHIN};
use crate::report::{Notice, State, rfc3339};

pub(super) async fn send(mail: &Mail, notice: &Notice) -> Result<(), TellError> {
    let message = message(mail, notice)?;
    type Transport = AsyncSmtpTransport<Tokio1Executor>;
    let mut transport = match mail.security {
        Security::Tls => Transport::relay(&mail.host)?,
        Security::StartTls => Transport::starttls_relay(&mail.host)?,
        Security::None => Transport::builder_dangerous(&mail.host),
    };
    transport = transport.port(mail.port).timeout(Some(WITHIN));
    if let (Some(user), Some(password)) = (&mail.user, &mail.password) {
        transport = transport.credentials(Credentials::new(user.clone(), password.read()?.expose().to_owned()));
    }
    transport.build().send(message).await?;
    Ok(())
}

fn message(mail: &Mail, notice: &Notice) -> Result<Message, TellError> {
    let mut message: MessageBuilder = Message::builder().from(mailbox(&mail.from)?);
    for to in &mail.to {
        message = message.to(mailbox(to)?);
    }
    let message = message.subject(notice.headline()).message_id(Some(format!("<{}@skep>", notice.id)));
    Ok(message.header(ContentType::TEXT_PLAIN).body(text(notice))?)
}

/// Whether a text is an address.
pub(crate) fn mailbox(address: &str) -> Result<Mailbox, TellError> {
    let parsed: Result<Mailbox, AddressError> = address.parse();
    parsed.map_err(|source| TellError::MailAddress { address: address.to_owned(), source })
}

fn text(notice: &Notice) -> String {
    let mut text = String::new();
    for (item, line) in notice.items.iter().zip(notice.lines()) {
        let since = match (item.report.state, item.until_us) {
            (State::Resolved, Some(until_us)) => format!("from {} to {}", rfc3339(item.since_us), rfc3339(until_us)),
            _ => format!("since {}", rfc3339(item.since_us)),
        };
        text.push_str(&format!("{line}\n  {since}\n"));
        let labels = item.report.labels.iter().filter(|(_, value)| !value.is_empty());
        let labels: Vec<String> = labels.map(|(name, value)| format!("{name}={value}")).collect();
        text.push_str(&format!("  {}\n", labels.join(" ")));
        item.report.details.iter().for_each(|detail| text.push_str(&format!("  {detail}\n")));
        if !item.report.finding.is_empty() {
            text.push_str(&format!("  skep explain {}\n", item.report.finding));
        }
        text.push('\n');
    }
    text
}
