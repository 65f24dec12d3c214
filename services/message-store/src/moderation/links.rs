//! The number of links.

use entrenous_protocol::Failure;

use super::FIELD;

const BEGINNINGS: [&str; 3] = ["http://", "https://", "www."];

pub(super) fn check(text: &str, max: u32) -> Result<(), Failure> {
    let text = text.to_ascii_lowercase();
    let links = text.split(char::is_whitespace).map(links_in).sum::<usize>();
    if links > usize::try_from(max).unwrap_or(usize::MAX) {
        return Err(Failure::invalid(FIELD, format!("must hold at most {max} links")));
    }
    Ok(())
}

/// `https://www.` is one.
fn links_in(word: &str) -> usize {
    let schemes = BEGINNINGS[..2].iter().map(|beginning| word.matches(beginning).count()).sum::<usize>();
    if schemes > 0 { schemes } else { word.matches(BEGINNINGS[2]).count() }
}
