use entrenous_protocol::Code;
use serde_json::{Value, json};

use super::*;

fn moderation(settings: &[(&str, &str)]) -> Result<Moderation, ConfigError> {
    #[derive(clap::Parser)]
    struct Config {
        #[command(flatten)]
        moderation: ModerationConfig,
    }
    let pairs: Vec<_> = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Moderation::new(&entrenous_config::from_pairs::<Config>(&pairs)?.moderation, &Tasks::new())
}

fn clean(settings: &[(&str, &str)], content: &Value) -> Result<Value, Failure> {
    let content = serde_json::value::to_raw_value(content).unwrap();
    let cleaned = moderation(settings).unwrap().clean(&content, 3)?;
    Ok(serde_json::from_str(cleaned.get()).unwrap())
}

fn text(settings: &[(&str, &str)], text: &str) -> Result<String, Failure> {
    clean(settings, &json!({"text": text})).map(|content| content["text"].as_str().unwrap().to_owned())
}

fn markdown(text: &str) -> Result<String, Failure> {
    let cleaned = clean(&[], &json!({"text": text, "format": "markdown"}))?;
    assert_eq!(cleaned["format"], "markdown");
    Ok(cleaned["text"].as_str().unwrap().to_owned())
}

fn fields(failure: &Failure) -> Vec<&str> {
    failure.errors.iter().map(|error| error.field.as_str()).collect()
}

#[test]
fn text_without_tags_stays_as_it_is() {
    for same in [
        "a < b && c > d",
        "i <3 you",
        "AT&amp;T &lt;b&gt; stays as it was written",
        "1<2>3",
        "line\n\tline",
        "\u{202b}עברית\u{202c}",
        "👩‍👩‍👧",
    ] {
        assert_eq!(text(&[], same).unwrap(), same);
    }
    assert_eq!(clean(&[], &json!({"text": "a"})).unwrap(), json!({"text": "a"}));
}

#[test]
fn html_is_taken_out_of_plain_text() {
    for (html, plain) in [
        ("<b>bold</b> & more", "bold & more"),
        ("a<script>alert(1)</script>b", "ab"),
        ("a <img src=x onerror=\"alert('<')\"> b", "a  b"),
        ("<<b></b>script>alert(1)</script>", ""),
        ("&lt;script&gt;<i>x</i>", "&lt;script&gt;x"),
        ("if x <y and z", "if x < y and z"),
        ("x<img src=x onerror=alert(1) ", "x< img src=x onerror=alert(1) "),
        ("a<!-- b -->c", "ac"),
    ] {
        let cleaned = text(&[], &format!(".{html}")).unwrap();
        assert_eq!(cleaned, format!(".{plain}"), "{html}");
    }
    assert_eq!(text(&[("CLEAR_TEXT_SANITISE", "false")], "<b>x</b>").unwrap(), "<b>x</b>");
    assert_eq!(fields(&text(&[], "<br>").unwrap_err()), [FIELD]);
}

/// However it is nested, no `<` is left that begins a tag.
#[test]
fn nested_tags_end_as_text() {
    let nested = format!("{}b{}", "<".repeat(20), "b>".repeat(20));
    for format in ["plain", "markdown"] {
        let cleaned = clean(&[], &json!({"text": format!("x {nested}"), "format": format})).unwrap();
        let cleaned = cleaned["text"].as_str().unwrap();
        assert!(!cleaned.contains("<b"), "{cleaned}");
    }
}

#[test]
fn markdown_keeps_all_but_raw_html() {
    for same in [
        "# a\n\n* **b** `<i>` <https://example.org>\n\n```\n<script>\n```\n",
        "[a](https://a.example?x=1&y=2)",
        "1 < 2",
    ] {
        assert_eq!(markdown(same).unwrap(), same);
    }
    assert_eq!(markdown("a <b onclick=x>*b*</b> c").unwrap(), "a *b* c");
    assert_eq!(markdown("a\n\n<script>\nalert(1)\n</script>\n\nb").unwrap(), "a\n\n\n\nb");
    for bad in [
        "[a](javascript:alert(1))",
        "![a](DATA:text/html,x)",
        "[a]\n\n[a]: vbscript:x",
        "<javascript:alert(1)>",
        "[a](java&#10;script:x)",
    ] {
        assert_eq!(fields(&markdown(bad).unwrap_err()), [FIELD], "{bad}");
    }
}

#[test]
fn characters_have_one_form() {
    assert_eq!(text(&[], "e\u{301}\r\nb\rc").unwrap(), "\u{e9}\nb\nc");
    for bad in ["a\u{7}", "\u{1b}[31m", "a\u{85}"] {
        assert_eq!(text(&[], bad).unwrap_err().code, Code::Invalid);
        assert!(text(&[("CLEAR_TEXT_CHECK_ENCODING", "false")], bad).is_ok());
    }
    let limit = [("CLEAR_TEXT_CHARACTERS_MAX", "3")];
    assert!(text(&limit, "äöü").is_ok());
    assert_eq!(fields(&text(&limit, "abcd").unwrap_err()), [FIELD]);
}

#[test]
fn links_and_mentions_are_counted() {
    let limit = [("CLEAR_TEXT_LINKS_MAX", "1")];
    assert!(text(&limit, "see https://www.example.org").is_ok());
    for bad in ["http://a.example www.b.example", "HTTP://a.example,https://b.example"] {
        assert_eq!(fields(&text(&limit, bad).unwrap_err()), [FIELD]);
    }
    assert_eq!(fields(&text(&[("CLEAR_TEXT_MENTIONS_MAX", "2")], "a").unwrap_err()), ["mentions"]);
    assert!(text(&[("CLEAR_TEXT_MENTIONS_MAX", "3")], "a").is_ok());
}

#[test]
fn listed_words_are_refused_or_masked() {
    let list = "# a list\nbad\nvery bad thing\n\nSCHÖN\n";
    let (refuse, mask) =
        ([("CLEAR_TEXT_WORDS", list)], [("CLEAR_TEXT_WORDS", list), ("CLEAR_TEXT_WORDS_ACTION", "mask")]);
    for fine in ["badge", "a list", "forbad", "bad_", "schöner"] {
        assert_eq!(text(&refuse, fine).unwrap(), fine);
    }
    for bad in ["Bad!", "so bad", "scho\u{308}n", "a Very BAD Thing."] {
        assert_eq!(fields(&text(&refuse, bad).unwrap_err()), [FIELD], "{bad}");
    }
    assert_eq!(text(&mask, "İ Bad, a very bad thing; badge SCHÖN").unwrap(), "İ ***, a **** *** *****; badge *****");
    assert!(text(&[("CLEAR_TEXT_WORDS", "# nothing")], "bad").is_ok());
}

/// What is looked for is looked for in what people will read: after HTML is gone and characters have one form.
#[test]
fn tags_and_forms_hide_nothing() {
    for hidden in ["b<b></b>ad", "<i>b</i>ad", "scho\u{308}n"] {
        assert_eq!(fields(&text(&[("CLEAR_TEXT_WORDS", "bad\nschön")], hidden).unwrap_err()), [FIELD], "{hidden}");
    }
    let link = "htt<b></b>ps://a.example";
    assert_eq!(fields(&text(&[("CLEAR_TEXT_LINKS_MAX", "0")], link).unwrap_err()), [FIELD]);
}

#[test]
fn who_sends_too_much_is_told_what() {
    let limits = [("CLEAR_TEXT_FLOOD_MAX", "3"), ("CLEAR_TEXT_REPEATS_MAX", "2")];
    let judge = |entries, same| {
        let recent = Recent { entries, oldest_leaves_ms: 700, same };
        moderation(&limits).unwrap().judge_sender(recent).map_err(|failure| (failure.code, failure.retry_after_ms))
    };
    assert_eq!(judge(2, 1), Ok(()));
    assert_eq!(judge(2, 2), Err((Code::Invalid, None)));
    assert_eq!(judge(3, 0), Err((Code::RateLimited, Some(700))));
    assert!(!moderation(&[]).unwrap().judges_senders());
}

#[test]
fn a_webhook_needs_a_good_secret() {
    let url = ("MODERATION_WEBHOOK_URL", "http://127.0.0.1:1/");
    assert!(moderation(&[url]).is_err());
    assert!(moderation(&[url, ("MODERATION_WEBHOOK_SECRET", "short")]).is_err());
    assert!(moderation(&[url, ("MODERATION_WEBHOOK_SECRET", &"x".repeat(32))]).unwrap().asks_outside());
}

#[test]
fn a_text_put_in_place_is_cleaned_too() {
    let moderation = moderation(&[]).unwrap();
    let content = || RawValue::from_string(r#"{"text":"a","format":"plain"}"#.to_owned()).unwrap();
    let replaced = moderation.conclude(content(), &Verdict::Replace("<b>c</b>".to_owned())).unwrap();
    assert_eq!(replaced.get(), r#"{"text":"c","format":"plain"}"#);
    let refused = moderation.conclude(content(), &Verdict::Refuse("rude".to_owned())).unwrap_err();
    assert_eq!((fields(&refused), refused.errors[0].message.as_str()), (vec![FIELD], "rude"));
    assert_eq!(moderation.conclude(content(), &Verdict::Silent).unwrap_err().code, Code::Unavailable);
}
