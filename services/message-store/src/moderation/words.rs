//! Listed words.

use std::ops::Range;

use aho_corasick::AhoCorasick;
use entrenous_config::ConfigError;
use entrenous_protocol::Failure;
use unicode_normalization::UnicodeNormalization;

use super::{FIELD, WordsAction};

const NAME: &str = "CLEAR_TEXT_WORDS";

/// Finds listed words in one pass, however many there are.
#[derive(Debug)]
pub(super) struct Words {
    automaton: AhoCorasick,
    action: WordsAction,
}

/// A text in lower case, and which bytes of the text each of its bytes came from.
struct Folded {
    text: String,
    origins: Vec<Range<usize>>,
}

impl Words {
    /// None where nothing is listed.
    pub(super) fn parse(list: Option<&str>, action: WordsAction) -> Result<Option<Self>, ConfigError> {
        let lines = list.unwrap_or_default().lines().map(str::trim);
        let words = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let words: Vec<String> = words.map(|word| word.nfc().flat_map(char::to_lowercase).collect()).collect();
        if words.is_empty() {
            return Ok(None);
        }
        let automaton = AhoCorasick::new(&words)
            .map_err(|error| ConfigError::Value { name: NAME, problem: format!("cannot be searched for: {error}") })?;
        Ok(Some(Self { automaton, action }))
    }

    pub(super) fn check(&self, text: &mut String) -> Result<(), Failure> {
        let found = self.find(text);
        match self.action {
            _ if found.is_empty() => Ok(()),
            WordsAction::Refuse => Err(Failure::invalid(FIELD, "holds a word that is not allowed here")),
            WordsAction::Mask => {
                *text = mask(text, &found);
                Ok(())
            }
        }
    }

    /// Where whole words of the list stand, in the order of their ends.
    fn find(&self, text: &str) -> Vec<Range<usize>> {
        let folded = fold(text);
        let matches = self.automaton.find_overlapping_iter(&folded.text);
        let whole = matches.filter(|found| is_whole(&folded.text, found.range()));
        whole.filter_map(|found| origin(&folded, found.range())).collect()
    }
}

fn fold(text: &str) -> Folded {
    let mut folded = Folded { text: String::with_capacity(text.len()), origins: Vec::with_capacity(text.len()) };
    for (at, character) in text.char_indices() {
        folded.text.extend(character.to_lowercase());
        folded.origins.resize(folded.text.len(), at..at + character.len_utf8());
    }
    folded
}

fn origin(folded: &Folded, range: Range<usize>) -> Option<Range<usize>> {
    let (first, last) = (folded.origins.get(range.start)?, folded.origins.get(range.end.checked_sub(1)?)?);
    Some(first.start..last.end)
}

/// Whether no letter or digit stands on either side.
fn is_whole(text: &str, range: Range<usize>) -> bool {
    let before = text.get(..range.start).and_then(|part| part.chars().next_back());
    let after = text.get(range.end..).and_then(|part| part.chars().next());
    ![before, after].into_iter().flatten().any(|neighbour| neighbour.is_alphanumeric() || neighbour == '_')
}

/// An asterisk for each character, but for blanks.
fn mask(text: &str, found: &[Range<usize>]) -> String {
    let mut hidden = vec![false; text.len()];
    for range in found {
        hidden.get_mut(range.clone()).unwrap_or_default().fill(true);
    }
    let shown = |(at, character): (usize, char)| match hidden.get(at) {
        Some(true) if !character.is_whitespace() => '*',
        _ => character,
    };
    text.char_indices().map(shown).collect()
}
