//! Characters: no control characters, and one form for what looks alike.

use entrenous_protocol::Failure;
use unicode_normalization::{UnicodeNormalization, is_nfc};

use super::FIELD;

/// Line ends become line feeds, the rest NFC: so that the same word is one word for search, lists of words and people.
pub(super) fn check(text: &mut String) -> Result<(), Failure> {
    if text.contains('\r') {
        *text = text.replace("\r\n", "\n").replace('\r', "\n");
    }
    let control = text.chars().find(|character| character.is_control() && !matches!(character, '\n' | '\t'));
    if let Some(control) = control {
        let code = u32::from(control);
        return Err(Failure::invalid(FIELD, format!("must not contain the control character U+{code:04X}")));
    }
    if !is_nfc(text) {
        *text = text.nfc().collect();
    }
    Ok(())
}
