//! What becomes of clear text before it is stored: it is refused, or stored as the checks leave it. One file a check.
//! Ciphertext never comes here.

mod encoding;
mod html;
mod links;
mod spam;
mod webhook;
mod words;

use std::num::NonZeroU32;

use entrenous_config::{ConfigError, Secret};
use entrenous_protocol::{
    Failure, RawValue,
    message::{ContentFields, TextFormat},
};
use entrenous_runtime::Tasks;
use url::Url;

use self::{html::Sanitiser, spam::SpamLimits, webhook::Webhook, words::Words};
pub(crate) use self::{
    spam::Recent,
    webhook::{Question, Verdict},
};

/// The field that refusals name.
const FIELD: &str = "content.text";

/// Settings of the checks of clear text.
#[derive(Debug, Clone, clap::Args)]
pub struct ModerationConfig {
    /// Characters of a text in clear, at most; without it only `MESSAGE_CONTENT_BYTES` counts.
    #[arg(long, env)]
    pub clear_text_characters_max: Option<NonZeroU32>,
    /// Whether clear text with control characters (but line feeds and tabs) is refused, and the rest brought into Unicode's form NFC.
    #[arg(long, env, default_value_t = true, action = clap::ArgAction::Set)]
    pub clear_text_check_encoding: bool,
    /// Whether HTML is taken out of clear text, and links that run scripts are refused.
    #[arg(long, env, default_value_t = true, action = clap::ArgAction::Set)]
    pub clear_text_sanitise: bool,
    /// Links in a clear text, at most; without it any number.
    #[arg(long, env)]
    pub clear_text_links_max: Option<u32>,
    /// How often somebody may send the same clear text into a conversation within `CLEAR_TEXT_REPEATS_SECONDS`; without it as often as they like.
    #[arg(long, env)]
    pub clear_text_repeats_max: Option<NonZeroU32>,
    /// For how long a text counts as the same again.
    #[arg(long, env, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub clear_text_repeats_seconds: u32,
    /// Messages in clear text that somebody may send into a conversation within `CLEAR_TEXT_FLOOD_SECONDS`; without it any number.
    #[arg(long, env)]
    pub clear_text_flood_max: Option<NonZeroU32>,
    /// The time that `CLEAR_TEXT_FLOOD_MAX` is about.
    #[arg(long, env, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub clear_text_flood_seconds: u32,
    /// Words that clear text must not hold, one a line; lines that begin with `#` do not count. Found as whole words, in upper and lower case. Usually given as a file: `CLEAR_TEXT_WORDS_FILE`.
    #[arg(long, env)]
    pub clear_text_words: Option<String>,
    /// What happens to a text with such a word: `refuse` it, or `mask` the word with asterisks.
    #[arg(long, env, default_value = "refuse")]
    pub clear_text_words_action: WordsAction,
    /// People whom a message in clear text may mention, at most; without it as many as any message.
    #[arg(long, env)]
    pub clear_text_mentions_max: Option<u32>,
    /// An outside service that is asked about each clear text (docs/moderation.md).
    #[arg(long, env)]
    pub moderation_webhook_url: Option<Url>,
    /// Key of the signatures under what that service is sent: at least 32 bytes, taken as they stand.
    #[arg(long, env)]
    pub moderation_webhook_secret: Option<Secret>,
    /// How long that service may take.
    #[arg(long, env, default_value_t = 500, value_parser = clap::value_parser!(u32).range(10..=5_000))]
    pub moderation_webhook_timeout_ms: u32,
    /// What happens while it does not answer: `allow` the text, or `refuse` it for the time being (`unavailable`).
    #[arg(long, env, default_value = "allow")]
    pub moderation_webhook_silence: OnSilence,
}

/// What happens to a text with a listed word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum WordsAction {
    /// It is refused.
    Refuse,
    /// The word is hidden.
    Mask,
}

/// What happens to a text about which the outside service says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OnSilence {
    /// It is stored.
    Allow,
    /// It is refused until the service answers.
    Refuse,
}

/// The checks in force.
#[derive(Debug)]
pub(crate) struct Moderation {
    characters_max: Option<NonZeroU32>,
    checks_encoding: bool,
    sanitiser: Option<Sanitiser>,
    links_max: Option<u32>,
    spam: SpamLimits,
    words: Option<Words>,
    mentions_max: Option<u32>,
    webhook: Option<Webhook>,
}

impl Moderation {
    /// # Errors
    /// Names the setting that is wrong.
    pub(crate) fn new(config: &ModerationConfig, tasks: &Tasks) -> Result<Self, ConfigError> {
        Ok(Self {
            characters_max: config.clear_text_characters_max,
            checks_encoding: config.clear_text_check_encoding,
            sanitiser: config.clear_text_sanitise.then(Sanitiser::new),
            links_max: config.clear_text_links_max,
            spam: SpamLimits {
                repeats_max: config.clear_text_repeats_max,
                repeats_seconds: config.clear_text_repeats_seconds,
                flood_max: config.clear_text_flood_max,
                flood_seconds: config.clear_text_flood_seconds,
            },
            words: Words::parse(config.clear_text_words.as_deref(), config.clear_text_words_action)?,
            mentions_max: config.clear_text_mentions_max,
            webhook: Webhook::new(config, tasks)?,
        })
    }

    /// What is stored of a content as far as the text itself tells.
    ///
    /// # Errors
    /// `invalid_request`.
    pub(crate) fn clean(&self, content: &RawValue, mentions: usize) -> Result<Box<RawValue>, Failure> {
        let mut fields: ContentFields = serde_json::from_str(content.get()).map_err(|_| Failure::internal())?;
        let mut text = fields.text.take().unwrap_or_default();
        self.check_encoding(&mut text)?;
        if let Some(sanitiser) = &self.sanitiser {
            sanitiser.clean(&mut text, fields.format.unwrap_or(TextFormat::Plain))?;
        }
        if let Some(max) = self.links_max {
            links::check(&text, max)?;
        }
        if let Some(words) = &self.words {
            words.check(&mut text)?;
        }
        if self.mentions_max.is_some_and(|max| mentions > usize::try_from(max).unwrap_or(usize::MAX)) {
            return Err(Failure::invalid("mentions", "are more than this server allows in clear text"));
        }
        stored_form(fields, text)
    }

    fn check_encoding(&self, text: &mut String) -> Result<(), Failure> {
        if self.checks_encoding {
            encoding::check(text)?;
        }
        match self.characters_max {
            Some(max) if u32::try_from(text.chars().count()).is_ok_and(|count| count <= max.get()) => Ok(()),
            Some(max) => Err(Failure::invalid(FIELD, format!("must be at most {max} characters"))),
            None => Ok(()),
        }
    }

    /// Whether a sender's last entries count.
    pub(crate) fn judges_senders(&self) -> bool {
        self.spam.is_any()
    }

    /// How far back a sender's entries count: as the same text again, and as a flood.
    pub(crate) fn windows_seconds(&self) -> (u32, u32) {
        (self.spam.repeats_seconds, self.spam.flood_seconds)
    }

    /// Whether somebody who has lately sent so much may send one more.
    ///
    /// # Errors
    /// `invalid_request` for the same text again, `rate_limited` for a flood.
    pub(crate) fn judge_sender(&self, recent: Recent) -> Result<(), Failure> {
        self.spam.judge(recent)
    }

    /// Whether an outside service is asked.
    pub(crate) fn asks_outside(&self) -> bool {
        self.webhook.is_some()
    }

    /// Asks the outside service; nobody there: allowed. The same question gets the same answer for a while, so that it can be
    /// asked again instead of waited for.
    pub(crate) fn ask(&self, question: &Question<'_>) -> webhook::Asking {
        match &self.webhook {
            Some(webhook) => webhook.ask(question),
            None => webhook::allowed(),
        }
    }

    /// What is stored after the outside service has spoken. Its text passes the checks of encoding and HTML too.
    ///
    /// # Errors
    /// `invalid_request` with its reason; `unavailable` where it is silent and that means no.
    pub(crate) fn conclude(&self, content: Box<RawValue>, verdict: &Verdict) -> Result<Box<RawValue>, Failure> {
        match verdict {
            Verdict::Allow => Ok(content),
            Verdict::Refuse(reason) => Err(Failure::invalid(FIELD, reason.as_str())),
            Verdict::Silent => Err(Failure::unavailable("the service that judges clear text does not answer")),
            Verdict::Replace(text) => {
                let mut fields: ContentFields = serde_json::from_str(content.get()).map_err(|_| Failure::internal())?;
                let mut text = text.clone();
                encoding::check(&mut text)?;
                if let Some(sanitiser) = &self.sanitiser {
                    sanitiser.clean(&mut text, fields.format.unwrap_or(TextFormat::Plain))?;
                }
                fields.text = None;
                stored_form(fields, text)
            }
        }
    }
}

fn stored_form(mut fields: ContentFields, text: String) -> Result<Box<RawValue>, Failure> {
    if text.trim().is_empty() {
        return Err(Failure::invalid(FIELD, "holds nothing that may be stored"));
    }
    fields.text = Some(text);
    serde_json::value::to_raw_value(&fields).map_err(|_| Failure::internal())
}

#[cfg(test)]
mod tests;
