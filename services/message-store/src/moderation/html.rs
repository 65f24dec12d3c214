//! HTML: taken out of plain text, and out of Markdown where it stands raw.

use std::{collections::HashSet, fmt, ops::Range};

use entrenous_protocol::{Failure, message::TextFormat};
use pulldown_cmark::{Event, Options, Parser, Tag};

use super::FIELD;

/// What is taken out may leave new tags behind, made of the pieces on both sides; so often it is looked again. Who nests
/// deeper gets a blank behind each `<` instead.
const PASSES_MAX: usize = 4;

/// Schemes of links that run what they hold.
const SCRIPTS: [&str; 3] = ["javascript:", "vbscript:", "data:"];

/// Takes HTML out.
pub(super) struct Sanitiser(ammonia::Builder<'static>);

impl fmt::Debug for Sanitiser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sanitiser")
    }
}

impl Sanitiser {
    pub(super) fn new() -> Self {
        let mut builder = ammonia::Builder::empty();
        builder.clean_content_tags(HashSet::from(["script", "style"]));
        Self(builder)
    }

    /// Cleans a text; leaves one without tags as it is, with every `<` and `&` that is none.
    pub(super) fn clean(&self, text: &mut String, format: TextFormat) -> Result<(), Failure> {
        for _ in 0..PASSES_MAX {
            let cleaned = match format {
                TextFormat::Plain if has_tag(text) => self.strip(text),
                TextFormat::Plain => return Ok(()),
                TextFormat::Markdown => match raw_html(text)? {
                    raw if raw.is_empty() => return Ok(()),
                    raw => self.strip_parts(text, &raw),
                },
            };
            *text = cleaned;
        }
        *text = defuse(text);
        Ok(())
    }

    /// The text without its tags. Entities stay as they were written.
    fn strip(&self, text: &str) -> String {
        unescape(&self.0.clean(&escape(text)).to_string())
    }

    fn strip_parts(&self, text: &str, parts: &[Range<usize>]) -> String {
        let mut cleaned = String::with_capacity(text.len());
        let mut end = 0;
        for part in parts {
            cleaned.push_str(text.get(end..part.start).unwrap_or_default());
            cleaned.push_str(&self.strip(text.get(part.clone()).unwrap_or_default()));
            end = part.end;
        }
        cleaned.push_str(text.get(end..).unwrap_or_default());
        cleaned
    }
}

/// Where raw HTML stands in Markdown, in order.
fn raw_html(text: &str) -> Result<Vec<Range<usize>>, Failure> {
    let mut parts: Vec<Range<usize>> = Vec::new();
    for (event, range) in Parser::new_ext(text, Options::empty()).into_offset_iter() {
        match event {
            Event::Html(_) | Event::InlineHtml(_) => match parts.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => parts.push(range),
            },
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) if is_script(&dest_url) => {
                return Err(Failure::invalid(FIELD, "holds a link that runs a script"));
            }
            _ => {}
        }
    }
    Ok(parts)
}

fn is_script(url: &str) -> bool {
    let visible = url.chars().filter(|character| !character.is_control() && !character.is_whitespace());
    let url: String = visible.flat_map(char::to_lowercase).take(16).collect();
    SCRIPTS.iter().any(|scheme| url.starts_with(scheme))
}

/// Whether `<` before this begins a tag, a comment or the like. Source: WHATWG HTML 13.2.5.6.
fn begins_tag(after: Option<char>) -> bool {
    after.is_some_and(|after| after.is_ascii_alphabetic() || matches!(after, '/' | '!' | '?'))
}

fn has_tag(text: &str) -> bool {
    text.match_indices('<').any(|(at, _)| begins_tag(after(text, at)))
}

fn after(text: &str, at: usize) -> Option<char> {
    text.get(at + 1..).and_then(|rest| rest.chars().next())
}

/// Makes of everything that is no tag the text that it is.
fn escape(text: &str) -> String {
    let last_end = text.rfind('>');
    let mut escaped = String::with_capacity(text.len() + 16);
    for (at, character) in text.char_indices() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' if !begins_tag(after(text, at)) => escaped.push_str("&lt;"),
            // A parser would take all that follows for a part of the tag.
            '<' if last_end.is_none_or(|end| end < at) => escaped.push_str("&lt; "),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// Undoes what is escaped when text is written as HTML. Source: WHATWG HTML 13.3.
fn unescape(html: &str) -> String {
    html.replace("&lt;", "<").replace("&gt;", ">").replace("&nbsp;", "\u{a0}").replace("&amp;", "&")
}

/// A blank behind each `<` that begins a tag: then it begins none.
fn defuse(text: &str) -> String {
    let mut defused = String::with_capacity(text.len() + 16);
    for (at, character) in text.char_indices() {
        defused.push(character);
        if character == '<' && begins_tag(after(text, at)) {
            defused.push(' ');
        }
    }
    defused
}
