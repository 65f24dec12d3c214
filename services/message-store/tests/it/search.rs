//! Method `search`.

use diesel_async::SimpleAsyncConnection;
use entrenous_model::{ConversationId, EntryId, IdGenerator, Timestamp};
use entrenous_protocol::{
    Act, Code, Failure, RawValue,
    act::{DeleteScope, NewEdit},
    entry::Encryption,
    rest::{CreateConversation, Page},
    rpc::store::{self, ActRequest, Search, SearchRequest, Stored},
};
use serde_json::Value;

use crate::fixture::{Fixture, clear, connect, device, group_of, into, sealed, stored, user};

fn request(caller: u128, query: &str) -> SearchRequest {
    SearchRequest {
        caller: user(caller),
        query: query.to_owned(),
        conversation_id: None,
        sender_id: None,
        from: None,
        to: None,
        cursor: None,
        limit: 50,
    }
}

async fn page(fixture: &Fixture, request: &SearchRequest) -> Result<(Vec<String>, Option<String>), Failure> {
    let Page { items, has_more, next } = fixture.call::<Search>(request).await?;
    assert_eq!(has_more, next.is_some());
    let text = |item: &entrenous_protocol::RawValue| {
        let message: Value = serde_json::from_str(item.get()).unwrap();
        assert!(message["reactions"].is_array() && message["thread_count"].is_number(), "{message}");
        message["content"]["text"].as_str().unwrap().to_owned()
    };
    Ok((items.iter().map(|item| text(item)).collect(), next))
}

/// The texts of the first page.
async fn found(fixture: &Fixture, request: SearchRequest) -> Vec<String> {
    page(fixture, &request).await.unwrap().0
}

async fn refused(fixture: &Fixture, request: SearchRequest) -> (Code, Vec<String>) {
    let failure = fixture.call::<Search>(&request).await.map(|_| ()).unwrap_err();
    (failure.code, failure.errors.into_iter().map(|error| error.field).collect())
}

async fn say(fixture: &Fixture, group: ConversationId, sender: u128, text: &str) -> Stored {
    fixture.send(into(group, sender, clear(text))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn words_are_found_newest_first_in_what_one_may_read() {
    let (fixture, replica) = Fixture::start().await;
    let (one, two) = (fixture.clear_group(&[1, 2]).await, fixture.clear_group(&[1, 3]).await);
    let secret = fixture.group(&[1, 2]).await.id;
    fixture.send(into(secret, 1, sealed("apple"))).await;
    for (group, sender, text) in [
        (one, 1, "an apple a day"),
        (two, 3, "Apple pie, and more"),
        (one, 2, "a pie without fruit"),
        (two, 1, "the last apple of the pie"),
    ] {
        say(&fixture, group, sender, text).await;
    }
    let query = |caller, query: &str| found(&fixture, request(caller, query));
    assert_eq!(query(1, "apple").await, ["the last apple of the pie", "Apple pie, and more", "an apple a day"]);
    assert_eq!(query(1, "apple pie").await, ["the last apple of the pie", "Apple pie, and more"]);
    assert_eq!(query(1, "\"apple pie\"").await, ["Apple pie, and more"]);
    assert_eq!(query(1, "apple -pie").await, ["an apple a day"]);
    assert_eq!(query(1, "fruit or day").await, ["a pie without fruit", "an apple a day"]);
    assert_eq!(query(2, "apple").await, ["an apple a day"]);
    assert_eq!(query(9, "apple").await, [""; 0]);
    assert_eq!(query(1, "banana").await, [""; 0]);

    let in_one = |caller| SearchRequest { conversation_id: Some(one), ..request(caller, "pie") };
    assert_eq!(found(&fixture, in_one(1)).await, ["a pie without fruit"]);
    assert_eq!(refused(&fixture, in_one(3)).await, (Code::NotFound, vec![]));
    let in_secret = SearchRequest { conversation_id: Some(secret), ..request(1, "apple") };
    assert_eq!(found(&fixture, in_secret).await, [""; 0]);
    let of_three = SearchRequest { sender_id: Some(user(3)), ..request(1, "pie") };
    assert_eq!(found(&fixture, of_three).await, ["Apple pie, and more"]);
    for bad in ["", " ", "!!!", "\"\"", &"x".repeat(257)] {
        assert_eq!(refused(&fixture, request(1, bad)).await, (Code::Invalid, vec!["q".to_owned()]), "{bad}");
    }
    let bad_cursor = SearchRequest { cursor: Some("x".to_owned()), ..request(1, "pie") };
    assert_eq!(refused(&fixture, bad_cursor).await, (Code::Invalid, vec!["cursor".to_owned()]));
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_go_on_where_they_ended() {
    let (fixture, replica) = Fixture::start().await;
    let (one, two) = (fixture.clear_group(&[1, 2]).await, fixture.clear_group(&[1, 2]).await);
    // Many of one moment: a batch has one time.
    for round in 0..3 {
        let text = |number: usize| clear(&format!("word {}", round * 10 + number));
        fixture
            .append((0..10).map(|number| into(if number % 3 == 0 { one } else { two }, 1, text(number))).collect())
            .await;
    }
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let request = SearchRequest { cursor, limit: 4, ..request(2, "word") };
        let (texts, next) = page(&fixture, &request).await.unwrap();
        assert!(texts.len() <= 4);
        all.extend(texts);
        match next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    let whole = found(&fixture, request(2, "word")).await;
    assert_eq!((all.len(), &all), (30, &whole));
    assert!(whole[..10].iter().all(|text| text.starts_with("word 2")), "{whole:?}");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_is_not_found() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.clear_group(&[1, 2]).await;
    let mut connection = connect(&fixture.postgres).await;
    let first = into(group, 1, clear("word first"));
    fixture.send(first.clone()).await;
    let second = into(group, 1, clear("word second"));
    fixture.send(second.clone()).await;
    fixture.add(1, group, 4, None).await.unwrap();
    say(&fixture, group, 1, "word third").await;
    assert_eq!(found(&fixture, request(4, "word")).await, ["word third"], "only since they came");
    assert_eq!(found(&fixture, request(2, "word")).await.len(), 3);

    let erase = format!("SELECT messaging.erase('{group}', ARRAY['{}']::uuid[])", first.message.id);
    connection.batch_execute(&erase).await.unwrap();
    assert_eq!(found(&fixture, request(2, "word")).await, ["word third", "word second"]);
    let hide = format!("INSERT INTO messaging.hidden VALUES ('{}', '{group}', '{}')", user(2), second.message.id);
    connection.batch_execute(&hide).await.unwrap();
    assert_eq!(found(&fixture, request(2, "word")).await, ["word third"]);
    assert_eq!(found(&fixture, request(1, "word")).await, ["word third", "word second"]);
    let expire = "UPDATE messaging.search SET expires_at = now() - interval '1 second' WHERE seq > 3";
    connection.batch_execute(expire).await.unwrap();
    assert_eq!(found(&fixture, request(1, "word")).await, ["word second"]);
    fixture.remove(1, group, 2).await.unwrap();
    assert_eq!(found(&fixture, request(2, "word")).await, [""; 0]);

    let visible = CreateConversation { encryption: Encryption::None, history_visible: true, ..group_of(&[2]) };
    let visible = fixture.create(user(1), visible).await.unwrap().id;
    say(&fixture, visible, 1, "word visible").await;
    fixture.add(1, visible, 5, None).await.unwrap();
    assert_eq!(found(&fixture, request(5, "word")).await, ["word visible"]);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn times_bound_what_is_found() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.clear_group(&[1, 2]).await;
    for number in 1..=5 {
        say(&fixture, group, 1, &format!("word {number}")).await;
    }
    let mut connection = connect(&fixture.postgres).await;
    // An hour between each and the next one.
    let spread = "UPDATE messaging.log SET sent_at = '2026-01-01T00:00:00Z'::timestamptz + seq * interval '1 hour';
                  UPDATE messaging.search s SET sent_at = l.sent_at FROM messaging.log l
                  WHERE l.conversation_id = s.conversation_id AND l.seq = s.seq";
    connection.batch_execute(spread).await.unwrap();
    let at = |text: &str| Some(Timestamp::from(text.parse::<chrono::DateTime<chrono::Utc>>().unwrap()));
    let between = |from: &str, to: &str| SearchRequest { from: at(from), to: at(to), ..request(2, "word") };
    // Both ends belong to it: "word 2" has seq 3.
    let some = between("2026-01-01T03:00:00Z", "2026-01-01T05:00:00Z");
    assert_eq!(found(&fixture, some).await, ["word 4", "word 3", "word 2"]);
    let few = between("2026-01-01T03:00:00.001Z", "2026-01-01T04:59:59.999Z");
    assert_eq!(found(&fixture, few).await, ["word 3"]);
    assert_eq!(found(&fixture, between("2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z")).await, [""; 0]);
    replica.stop().await;
}

/// Edits pass the checks of messages; the newest words are found, and what is deleted is not.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_edited_is_found_by_its_newest_words() {
    let fixture = Fixture::without_identity().await;
    fixture.serve_identity().await;
    let replica = fixture.replica_with(&[("CLEAR_TEXT_WORDS", "bad")]).await;
    let group = fixture.clear_group(&[1, 2]).await;
    let message = into(group, 1, clear("old words"));
    let message_id = message.message.id;
    fixture.send(message).await;
    let act = async |id: EntryId, act: Act| {
        let (conversation_id, caller, device_id) = (group, user(1), device(1));
        let request = ActRequest { conversation_id, caller, device_id, origin: 0, id, act, not_after: None };
        fixture.call::<store::Act>(&request).await.unwrap()
    };
    let edit = |text: &str| {
        let content = RawValue::from_string(serde_json::json!({"text": text}).to_string()).unwrap();
        Act::Edit(NewEdit { message_id, content, is_sealed: false, metadata: None, signature: None })
    };
    let id = IdGenerator.next::<EntryId>();
    assert_eq!(stored(&act(id, edit("<b>new</b> words")).await).seq, 3);
    assert_eq!(found(&fixture, request(2, "new")).await, ["new words"]);
    assert_eq!(found(&fixture, request(2, "old")).await, [""; 0]);
    // The id stands for what was sent.
    assert_eq!(stored(&act(id, edit("<b>new</b> words")).await).seq, 3);
    assert_eq!(crate::fixture::refused(&act(id, edit("new words")).await), Code::IdConflict);
    assert_eq!(crate::fixture::refused(&act(IdGenerator.next(), edit("so bad")).await), Code::Invalid);
    let scope = DeleteScope::All;
    stored(&act(IdGenerator.next(), Act::Delete { message_id, scope }).await);
    assert_eq!(found(&fixture, request(2, "new or old")).await, [""; 0]);
    replica.stop().await;
}

/// Texts are found by the rules of the language that was set when they were written.
#[tokio::test(flavor = "multi_thread")]
async fn another_language_loses_nothing() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.clear_group(&[1, 2]).await;
    say(&fixture, group, 1, "the running man").await;
    assert_eq!(found(&fixture, request(1, "runs")).await, [""; 0]);
    replica.stop().await;
    let replica = fixture.replica_with(&[("SEARCH_LANGUAGE", "english")]).await;
    say(&fixture, group, 1, "they were running").await;
    assert_eq!(found(&fixture, request(1, "runs")).await, ["they were running"]);
    assert_eq!(found(&fixture, request(1, "running")).await, ["they were running", "the running man"]);
    // No word in one language, one in the other.
    assert_eq!(found(&fixture, request(1, "the")).await, ["the running man"]);
    replica.stop().await;
}

/// The word stands in the oldest blocks of a long log.
#[tokio::test(flavor = "multi_thread")]
async fn old_words_are_found_below_many_others() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.clear_group(&[1, 2]).await;
    say(&fixture, group, 1, "needle one").await;
    let mut connection = connect(&fixture.postgres).await;
    let fill = format!(
        "INSERT INTO messaging.log (conversation_id, seq, id, kind, sender_id, message_type, content, countable_no, sent_at)
         SELECT '{group}', n, gen_random_uuid(), 'message', '{}', 'text', '{{\"text\":\"hay\"}}', n,
                clock_timestamp() FROM generate_series(3, 12000) n;
         INSERT INTO messaging.search SELECT conversation_id, seq, id, sender_id, sent_at, NULL,
                messaging.search_words(conversation_id, seq, content) FROM messaging.log WHERE seq > 2;
         UPDATE messaging.heads SET last_seq = 12000, countable_no = 12000, last_entry_at = clock_timestamp()",
        user(1)
    );
    connection.batch_execute(&fill).await.unwrap();
    say(&fixture, group, 1, "needle two").await;
    assert_eq!(found(&fixture, request(2, "needle")).await, ["needle two", "needle one"]);
    assert_eq!(found(&fixture, request(2, "hay")).await.len(), 50);
    replica.stop().await;
}
