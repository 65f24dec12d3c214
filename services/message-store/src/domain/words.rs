//! The words by which public channels are found: runs of letters and digits, in lower case. Text and question are cut by the
//! same rule, so that neither the parser nor the locale of a database has a say.

/// Of a longer word the beginning counts: a lexeme of PostgreSQL has at most 2,046 bytes.
const WORD_CHARS_MAX: usize = 100;
/// Words of a question, at most; more are left out.
const ASKED_MAX: usize = 20;

/// The words of a text.
pub(crate) fn words(text: &str) -> impl Iterator<Item = String> {
    let is_between = |letter: char| !letter.is_alphanumeric();
    let runs = text.split(is_between).filter(|run| !run.is_empty());
    runs.map(|run| run.chars().flat_map(char::to_lowercase).take(WORD_CHARS_MAX).collect())
}

/// A question as PostgreSQL takes it (`tsquery`): all words, of which the last one may be the beginning of one. None where
/// there is no word.
pub(crate) fn question(text: &str) -> Option<String> {
    let asked: Vec<String> = words(text).take(ASKED_MAX).map(|word| format!("'{word}'")).collect();
    (!asked.is_empty()).then(|| asked.join(" & ") + ":*")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_letters_and_digits_in_lower_case() {
        let found: Vec<String> = words("Ça va? rust-lang's «Русский» 日本 2nd\u{0}").collect();
        assert_eq!(found, ["ça", "va", "rust", "lang", "s", "русский", "日本", "2nd"]);
        assert_eq!(words(&"ß".repeat(200)).next().map(|word| word.chars().count()), Some(WORD_CHARS_MAX));
    }

    #[test]
    fn nothing_of_a_question_is_syntax() {
        assert_eq!(question("Rust 'or':* & !ca").as_deref(), Some("'rust' & 'or' & 'ca':*"));
        assert_eq!(question(" -- "), None);
        assert_eq!(question(&"a ".repeat(50)).unwrap().matches('a').count(), ASKED_MAX);
    }
}
