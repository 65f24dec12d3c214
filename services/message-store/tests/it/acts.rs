//! Method `act`, and what history and the log show of it.

use diesel_async::SimpleAsyncConnection;
use entrenous_model::{ConversationId, EntryId, IdGenerator};
use entrenous_protocol::{
    Act, Code, Entry, EntryKind, Failure, Limits, NewMessage, RawValue,
    act::{DeleteScope, EditFields, NewEdit, Reaction},
    entry::{Encryption, Role},
    limits::{PINS_MAX, REACTIONS_PER_MESSAGE_MAX, REACTIONS_PER_PERSON_MAX},
    live::UserNotice,
    rest::{CreateConversation, Message, MessageReaction, Page, Posting},
    rpc::store::{
        self, ActRequest, AppendResult, ConversationRequest, GetMessage, GetMessageRequest, History, HistoryFilter,
        HistoryPosition, HistoryRequest, ListPins, ListReactions, ListReactionsRequest, ListUnread, ListUnreadRequest,
        ReadCursor,
    },
};

use crate::{
    channels::heard,
    fixture::{
        Fixture, channel_of, connect, device, group_of, into, new_message, payload, refused, sealed, seqs, stored, to,
        user,
    },
    function::count,
    privacy::block,
};

impl Fixture {
    async fn act_as(&self, caller: u128, conversation_id: ConversationId, id: EntryId, act: Act) -> AppendResult {
        let request = ActRequest {
            conversation_id,
            caller: user(caller),
            device_id: device(caller),
            origin: 0,
            id,
            act,
            not_after: None,
        };
        self.call::<store::Act>(&request).await.unwrap()
    }

    async fn act(&self, caller: u128, conversation_id: ConversationId, act: Act) -> AppendResult {
        self.act_as(caller, conversation_id, IdGenerator.next(), act).await
    }

    async fn message(&self, caller: u128, conversation_id: ConversationId, id: EntryId) -> Result<Message, Failure> {
        let request = GetMessageRequest { caller: user(caller), conversation_id, message_id: id };
        let text = self.call::<GetMessage>(&request).await?;
        Ok(serde_json::from_str(text.get()).unwrap())
    }

    async fn history(&self, caller: u128, conversation_id: ConversationId) -> Vec<Message> {
        let position = HistoryPosition::Latest;
        let request = HistoryRequest {
            caller: user(caller),
            conversation_id,
            position,
            limit: 100,
            filter: store::HistoryFilter::default(),
        };
        let page = self.call::<History>(&request).await.unwrap();
        page.items.iter().map(|item| serde_json::from_str(item.get()).unwrap()).collect()
    }

    async fn entries(&self, reader: u128, conversation_id: ConversationId) -> Vec<Entry> {
        self.log(Some(reader), conversation_id).await.entries.iter().map(|entry| payload(&entry.frame)).collect()
    }

    async fn pins(&self, caller: u128, conversation_id: ConversationId) -> Vec<Message> {
        let request = ConversationRequest { caller: user(caller), conversation_id };
        let items = self.call::<ListPins>(&request).await.unwrap();
        items.iter().map(|item| serde_json::from_str(item.get()).unwrap()).collect()
    }

    async fn reactions(
        &self,
        caller: u128,
        conversation_id: ConversationId,
        message_id: EntryId,
    ) -> Result<Page<MessageReaction>, Failure> {
        let request = ListReactionsRequest { caller: user(caller), conversation_id, message_id, after: None, limit: 2 };
        self.call::<ListReactions>(&request).await
    }
}

fn edit(message_id: EntryId, content: &str) -> NewEdit {
    let fields: EditFields = serde_json::from_str(&format!(r#"{{"content":{content}}}"#)).unwrap();
    fields.check(message_id, &Limits::default()).unwrap()
}

/// A ciphertext that stands for this text.
fn ciphertext(text: &str) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    format!(r#"{{"scheme":"mls","ciphertext":"{}"}}"#, STANDARD.encode(text))
}

fn react(message_id: EntryId, reaction: &str) -> Act {
    Act::React(Reaction { message_id, reaction: reaction.to_owned() })
}

fn unreact(message_id: EntryId, reaction: &str) -> Act {
    Act::Unreact(Reaction { message_id, reaction: reaction.to_owned() })
}

fn delete(message_id: EntryId, scope: DeleteScope) -> Act {
    Act::Delete { message_id, scope }
}

/// Which message a notice says is hidden.
fn hidden_message(notice: &UserNotice) -> Option<(ConversationId, EntryId)> {
    match notice {
        UserNotice::MessageHidden { conversation_id, message_id } => Some((*conversation_id, *message_id)),
        _ => None,
    }
}

fn text_of(entry: &Entry) -> Option<&str> {
    entry.content.as_deref().map(RawValue::get)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ciphertext_stands_in_one_place_only() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    let first = into(group, 1, sealed("one"));
    let id = first.message.id;
    fixture.send(first.clone()).await;
    let edit_id = IdGenerator.next();
    let two = || Act::Edit(edit(id, &ciphertext("two")));
    let done = stored(&fixture.act_as(1, group, edit_id, two()).await);
    assert_eq!((done.seq, done.is_repeat), (3, false));

    let again = stored(&fixture.act_as(1, group, edit_id, two()).await);
    assert_eq!((again.seq, again.sent_at, again.is_repeat), (3, done.sent_at, true), "the same again");
    let other = Act::Edit(edit(id, &ciphertext("other")));
    assert_eq!(refused(&fixture.act_as(1, group, edit_id, other).await), Code::IdConflict);
    assert_eq!(refused(&fixture.act_as(1, group, id, two()).await), Code::IdConflict, "the message's own id");
    assert!(stored(&fixture.append_one(first).await).is_repeat, "the message itself is still known");

    let log = fixture.entries(2, group).await;
    assert_eq!((text_of(&log[1]), log[1].superseded_by, log[1].edit_count), (None, Some(3), 1));
    assert_eq!((log[2].kind, log[2].target_id), (EntryKind::Edit, Some(id)));
    assert_eq!(text_of(&log[2]), Some(ciphertext("two").as_str()));

    fixture.act(1, group, Act::Edit(edit(id, &ciphertext("three")))).await;
    let log = fixture.entries(2, group).await;
    assert_eq!([&log[1], &log[2]].map(|entry| (text_of(entry), entry.superseded_by)), [(None, Some(4)); 2]);
    let shown = fixture.message(2, group, id).await.unwrap();
    assert_eq!(text_of(&shown.entry), Some(ciphertext("three").as_str()));
    let edit = shown.state.edit.unwrap();
    assert_eq!((edit.id, edit.seq, shown.entry.edit_count), (log[3].id, 4, 2));
    assert_eq!((shown.entry.edited_at, shown.entry.superseded_by), (Some(edit.at), None));
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clear_text_keeps_each_version() {
    let (fixture, replica) = Fixture::start().await;
    let room = CreateConversation { encryption: Encryption::None, ..group_of(&[2]) };
    let room = fixture.create(user(1), room).await.unwrap().id;
    let message = into(room, 1, new_message(r#"{"content":{"text":"one"},"metadata":{"a":1}}"#));
    let id = message.message.id;
    fixture.send(message).await;
    for text in ["two", "three"] {
        fixture.act(1, room, Act::Edit(edit(id, &format!(r#"{{"text":"{text}"}}"#)))).await;
    }
    let log = fixture.entries(2, room).await;
    let texts: Vec<_> = log[1..].iter().map(|entry| text_of(entry).unwrap()).collect();
    assert_eq!(texts, [r#"{"text":"one"}"#, r#"{"text":"two"}"#, r#"{"text":"three"}"#]);
    let shown = &fixture.history(2, room).await[0];
    assert_eq!(text_of(&shown.entry), Some(r#"{"text":"three"}"#));
    assert_eq!(shown.entry.metadata.get(), r#"{"a":1}"#, "what an edit does not name stays");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_its_author_edits_a_message_that_is_there() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    let message = into(group, 2, sealed("one"));
    let id = message.message.id;
    fixture.send(message).await;
    fixture.add(1, group, 3, None).await.unwrap();
    let new = || Act::Edit(edit(id, &ciphertext("two")));
    let code = async |caller, act| refused(&fixture.act(caller, group, act).await);
    assert_eq!(code(1, new()).await, Code::Forbidden, "not even the owner");
    assert_eq!(code(3, new()).await, Code::NotFound, "came later");
    assert_eq!(code(4, new()).await, Code::NotFound, "no member");
    assert_eq!(code(2, Act::Edit(edit(id, r#"{"text":"clear"}"#))).await, Code::Invalid);
    assert_eq!(code(2, Act::Edit(edit(IdGenerator.next(), &ciphertext("x")))).await, Code::NotFound);
    let created = fixture.entries(1, group).await[0].id;
    assert_eq!(code(1, react(created, "x")).await, Code::NotFound, "no message");
    fixture.act(2, group, delete(id, DeleteScope::All)).await;
    assert_eq!(code(2, new()).await, Code::Conflict);
    fixture.remove(1, group, 2).await.unwrap();
    assert_eq!(code(2, new()).await, Code::NotFound, "removed");

    let control =
        into(group, 1, new_message(&format!(r#"{{"message_type":"control","content":{}}}"#, ciphertext("commit"))));
    let control_id = control.message.id;
    fixture.send(control).await;
    assert_eq!(code(1, delete(control_id, DeleteScope::All)).await, Code::Forbidden);
    replica.stop().await;
}

/// Whoever may not post (any more) edits nothing, and may take back what they said.
#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_post_edits_nothing() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    let channel = CreateConversation { posting: Some(Posting::Everyone), ..channel_of(&[2]) };
    let channel = fixture.create(user(1), channel).await.unwrap().id;
    for room in [group, channel] {
        let message = into(room, 2, sealed("one"));
        let id = message.message.id;
        fixture.send(message).await;
        let new = || Act::Edit(edit(id, &ciphertext("two")));
        stored(&fixture.act(2, room, new()).await);
        let silence = if room == group {
            format!("UPDATE messaging.members SET role = 'reader' WHERE conversation_id = '{room}' AND role = 'member'")
        } else {
            format!("UPDATE messaging.conversations SET posting = 'moderators' WHERE id = '{room}'")
        };
        connect(&fixture.postgres).await.batch_execute(&silence).await.unwrap();
        assert_eq!(refused(&fixture.act(2, room, new()).await), Code::Forbidden);
        stored(&fixture.act(2, room, delete(id, DeleteScope::All)).await);
    }
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_for_everyone_erases_everything_that_was_said() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    let mentioned = user(2);
    let fields = format!(
        r#"{{"content":{},"metadata":{{"secret":"metadata"}},"mentions":["{mentioned}"],"attachments":["{}"]}}"#,
        ciphertext("secret one"),
        IdGenerator.next::<EntryId>(),
    );
    let message = into(group, 1, new_message(&fields));
    let id = message.message.id;
    fixture.send(message.clone()).await;
    fixture.act(1, group, Act::Edit(edit(id, &ciphertext("secret two")))).await;
    fixture.act(2, group, react(id, "secret")).await;
    fixture.act(1, group, Act::Pin { message_id: id }).await;
    assert_eq!(refused(&fixture.act(2, group, delete(id, DeleteScope::All)).await), Code::Forbidden);
    let first = stored(&fixture.act(1, group, delete(id, DeleteScope::All)).await);
    let second = stored(&fixture.act(1, group, delete(id, DeleteScope::All)).await);
    assert_eq!((second.seq, second.sent_at, second.is_repeat), (first.seq, first.sent_at, true));

    let log = fixture.entries(2, group).await;
    assert_eq!(log.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(log.iter().map(|entry| entry.deleted).collect::<Vec<_>>(), [false, true, true, true, false, false]);
    for entry in &log[1..4] {
        assert_eq!((text_of(entry), entry.metadata.get(), entry.signature.as_deref()), (None, "{}", None));
        assert!(entry.attachments.is_empty() && entry.mentions.is_empty());
    }
    let shown = fixture.message(2, group, id).await.unwrap();
    assert!(
        shown.entry.deleted && shown.state.edit.is_none() && shown.state.reactions.is_empty() && !shown.state.pinned
    );
    // "secret" as it stands, and in base64.
    let left = "SELECT (SELECT count(*) FROM messaging.log l
                        WHERE encode(content, 'escape') ~ 'secret|c2VjcmV0' OR metadata ~ 'secret'
                            OR (deleted AND num_nonnulls(content, request_digest, attachments, mentions, signature) > 0))
                + (SELECT count(*) FROM messaging.reactions) + (SELECT count(*) FROM messaging.reaction_counts)
                + (SELECT count(*) FROM messaging.mentions) + (SELECT count(*) FROM messaging.pins) AS count";
    let mut connection = connect(&fixture.postgres).await;
    assert_eq!(count(&mut connection, left).await, 0);
    let audited = "SELECT count(*) FROM messaging.audit WHERE action = 'message_deleted'";
    assert_eq!(count(&mut connection, audited).await, 1);
    assert_eq!(stored(&fixture.append_one(message).await).seq, 2, "its id is still known");

    let cursor = ReadCursor { conversation_id: group, read_seq: 0 };
    let unread = fixture.call::<ListUnread>(&ListUnreadRequest { user_id: user(2), cursor }).await.unwrap();
    assert!(unread.seqs.is_empty(), "nothing is left to read: {unread:?}");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moderators_delete_what_others_wrote_but_not_between_two() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1]).await.id;
    fixture.add(1, group, 2, Some(Role::Moderator)).await.unwrap();
    let message = into(group, 1, sealed("a"));
    let id = message.message.id;
    fixture.send(message).await;
    stored(&fixture.act(2, group, delete(id, DeleteScope::All)).await);
    let direct = to(2, 1, sealed("a"));
    let (id, conversation) = (direct.message.id, direct.conversation_id);
    fixture.send(direct).await;
    assert_eq!(refused(&fixture.act(2, conversation, delete(id, DeleteScope::All)).await), Code::Forbidden);
    stored(&fixture.act(2, conversation, Act::Pin { message_id: id }).await);
    stored(&fixture.act(1, conversation, delete(id, DeleteScope::All)).await);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_for_oneself_hides_it_from_oneself_alone() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    let messages = ["a", "b"].map(|text| into(group, 1, sealed(text)));
    let ids = messages.each_ref().map(|message| message.message.id);
    fixture.append(messages.into()).await;
    let mut live = fixture.gateway.subscribe_live().await.unwrap();
    let other = fixture.clear_group(&[1, 2]).await;
    let elsewhere = into(other, 1, new_message(r#"{"content":{"text":"a"}}"#));
    fixture.send(elsewhere.clone()).await;
    let hidden = [(group, ids[0]), (group, ids[0]), (other, elsewhere.message.id)];
    for (conversation, id) in hidden {
        assert_eq!(fixture.act(2, conversation, delete(id, DeleteScope::Me)).await, AppendResult::Done);
    }
    let told = heard(&mut live, user(2).as_uuid().into(), 3).await;
    let told: Vec<UserNotice> = told.iter().map(|one| serde_json::from_slice(&one.body).unwrap()).collect();
    let told: Vec<_> = told.iter().filter_map(hidden_message).collect();
    assert_eq!(told, [hidden[0], hidden[2]], "the second time is silent");
    assert_eq!(fixture.history(2, group).await.len(), 1);
    assert_eq!(fixture.history(1, group).await.len(), 2);
    assert_eq!(fixture.message(2, group, ids[0]).await.unwrap_err().code, Code::NotFound);
    fixture.act(1, group, Act::Edit(edit(ids[0], &ciphertext("c")))).await;
    let hidden: Vec<_> = fixture.entries(2, group).await.iter().map(|entry| (entry.seq, entry.deleted)).collect();
    assert_eq!(hidden, [(1, false), (2, true), (3, false), (4, true)], "its place stays, its content does not");
    let log = fixture.entries(1, group).await;
    assert!(log.iter().all(|entry| !entry.deleted));
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reactions_are_entries_and_counts() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2, 3]).await.id;
    fixture.add(1, group, 4, Some(Role::Reader)).await.unwrap();
    let message = into(group, 1, sealed("a"));
    let id = message.message.id;
    fixture.send(message).await;
    let first = stored(&fixture.act(2, group, react(id, "👍")).await);
    let again = stored(&fixture.act(2, group, react(id, "👍")).await);
    assert_eq!((again.seq, again.is_repeat), (first.seq, true), "twice: the first one's");
    stored(&fixture.act(3, group, react(id, "👍")).await);
    stored(&fixture.act(3, group, react(id, "/")).await);
    assert_eq!(fixture.act(1, group, unreact(id, "👍")).await, AppendResult::Done, "nothing to take back");

    let shown = fixture.message(3, group, id).await.unwrap();
    let shown: Vec<_> = shown.state.reactions.iter().map(|one| (one.reaction.as_str(), one.count, one.mine)).collect();
    assert_eq!(shown, [("👍", 2, true), ("/", 1, true)]);
    let page = fixture.reactions(1, group, id).await.unwrap();
    assert_eq!(page.items.iter().map(|item| item.user_id).collect::<Vec<_>>(), [user(2), user(3)]);
    assert_eq!((&page.items[1].reactions[..], page.has_more), (&["👍".to_owned(), "/".to_owned()][..], false));

    let undone = stored(&fixture.act(2, group, unreact(id, "👍")).await);
    assert_eq!(stored(&fixture.act(2, group, unreact(id, "👍")).await).seq, undone.seq);
    let back = stored(&fixture.act(2, group, react(id, "👍")).await);
    assert!(back.seq > undone.seq && !back.is_repeat, "again, after it was taken back");
    let last = fixture.entries(1, group).await.pop().unwrap();
    assert_eq!(
        (last.kind, last.target_id, text_of(&last)),
        (EntryKind::Reaction, Some(id), Some(r#"{"reaction":"👍"}"#))
    );

    stored(&fixture.act(3, group, unreact(id, "/")).await);
    let shown = fixture.message(3, group, id).await.unwrap();
    let shown: Vec<_> = shown.state.reactions.iter().map(|one| (one.reaction.as_str(), one.count)).collect();
    assert_eq!(shown, [("👍", 2)], "what everybody has taken back is gone");
    for number in 0..REACTIONS_PER_PERSON_MAX {
        stored(&fixture.act(1, group, react(id, &number.to_string())).await);
    }
    assert_eq!(refused(&fixture.act(1, group, react(id, "one more")).await), Code::TooLarge);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_has_only_so_many_reactions() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2, 3, 4, 5, 6]).await.id;
    let message = into(group, 1, sealed("a"));
    let id = message.message.id;
    fixture.send(message).await;
    for number in 0..REACTIONS_PER_MESSAGE_MAX {
        let caller = 1 + u128::try_from(number / REACTIONS_PER_PERSON_MAX).unwrap();
        stored(&fixture.act(caller, group, react(id, &number.to_string())).await);
    }
    match fixture.act(6, group, react(id, "another")).await {
        AppendResult::Refused(failure) => {
            assert!(failure.code == Code::TooLarge && failure.detail.contains("reactions_per_message"), "{failure}");
        }
        other => panic!("{other:?}"),
    }
    stored(&fixture.act(6, group, react(id, "0")).await);
    stored(&fixture.act(1, group, unreact(id, "1")).await);
    stored(&fixture.act(6, group, react(id, "another")).await);
    replica.stop().await;
}

/// By none of the ways that lead to a message.
#[tokio::test(flavor = "multi_thread")]
async fn who_came_later_reads_nothing_of_before() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    let root = into(group, 1, sealed("a"));
    let id = root.message.id;
    fixture.send(root).await;
    let thread_id = Some(id);
    fixture.send(into(group, 2, NewMessage { thread_id, ..sealed("b") })).await;
    fixture.act(1, group, Act::Pin { message_id: id }).await;
    fixture.act(2, group, react(id, "x")).await;
    fixture.add(1, group, 3, None).await.unwrap();
    fixture.send(into(group, 2, NewMessage { thread_id, ..sealed("c") })).await;
    let thread = async |caller| {
        let (position, filter) = (HistoryPosition::After(0), HistoryFilter { thread_id, ..HistoryFilter::default() });
        let request = HistoryRequest { caller: user(caller), conversation_id: group, position, limit: 100, filter };
        fixture.call::<History>(&request).await.map_err(|failure| failure.code).map(|page| page.items.len())
    };
    assert_eq!((fixture.history(2, group).await.len(), thread(2).await), (3, Ok(2)));
    assert_eq!(fixture.history(3, group).await.len(), 1);
    assert_eq!(thread(3).await, Ok(1), "what was said since");
    assert_eq!((fixture.pins(2, group).await.len(), fixture.pins(3, group).await.len()), (1, 0));
    assert_eq!(fixture.message(3, group, id).await.unwrap_err().code, Code::NotFound);
    assert_eq!(fixture.reactions(2, group, id).await.unwrap().items.len(), 1);
    assert_eq!(fixture.reactions(3, group, id).await.unwrap_err().code, Code::NotFound);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_channels_reactions_are_counts_alone() {
    let (fixture, replica) = Fixture::start().await;
    let channel = fixture.create(user(1), channel_of(&[2, 3])).await.unwrap().id;
    let message = into(channel, 1, sealed("a"));
    let id = message.message.id;
    fixture.send(message).await;
    for caller in [2, 3, 3] {
        assert_eq!(fixture.act(caller, channel, react(id, "👍")).await, AppendResult::Done);
    }
    assert_eq!(fixture.act(2, channel, unreact(id, "👍")).await, AppendResult::Done);
    assert_eq!(fixture.message(2, channel, id).await.unwrap().state.reactions[0].count, 1);
    assert_eq!(seqs(&fixture.log(Some(1), channel).await), [1, 2], "no entries");
    assert_eq!(fixture.reactions(2, channel, id).await.unwrap_err().code, Code::Forbidden);
    assert_eq!(fixture.reactions(1, channel, id).await.unwrap().items.len(), 1);
    fixture.remove(1, channel, 3).await.unwrap();
    assert_eq!(refused(&fixture.act(3, channel, unreact(id, "👍")).await), Code::NotFound);
    stored(&fixture.act(1, channel, delete(id, DeleteScope::All)).await);
    assert_eq!(refused(&fixture.act(2, channel, react(id, "👍")).await), Code::Conflict);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moderators_pin_and_everyone_sees_it() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    let messages: Vec<_> = (0..=PINS_MAX).map(|_| into(group, 2, sealed("a"))).collect();
    let ids: Vec<_> = messages.iter().map(|message| message.message.id).collect();
    fixture.append(messages).await;
    let pin = |at: usize| Act::Pin { message_id: ids[at] };
    assert_eq!(refused(&fixture.act(2, group, pin(0)).await), Code::Forbidden);
    let first = stored(&fixture.act(1, group, pin(0)).await);
    assert_eq!(stored(&fixture.act(1, group, pin(0)).await).seq, first.seq);
    stored(&fixture.act(1, group, pin(1)).await);
    let pinned = fixture.pins(2, group).await;
    assert_eq!(pinned.iter().map(|message| message.entry.id).collect::<Vec<_>>(), [ids[1], ids[0]]);
    assert!(
        pinned[0].state.pinned && pinned[0].state.pinned_by == Some(user(1)) && pinned[0].state.pinned_at.is_some()
    );
    stored(&fixture.act(1, group, Act::Unpin { message_id: ids[1] }).await);
    assert_eq!(fixture.pins(2, group).await.len(), 1);
    for at in 1..PINS_MAX {
        stored(&fixture.act(1, group, pin(at)).await);
    }
    assert_eq!(refused(&fixture.act(1, group, pin(PINS_MAX)).await), Code::TooLarge);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_does_not_want_between_two_is_not_done() {
    let (fixture, replica) = Fixture::start().await;
    let direct = to(2, 1, sealed("a"));
    let (id, conversation) = (direct.message.id, direct.conversation_id);
    fixture.send(direct).await;
    block(&fixture, 2, 1, &[1]).await;
    assert_eq!(refused(&fixture.act(1, conversation, react(id, "x")).await), Code::Forbidden);
    assert_eq!(refused(&fixture.act(1, conversation, Act::Edit(edit(id, &ciphertext("b")))).await), Code::Forbidden);
    stored(&fixture.act(1, conversation, delete(id, DeleteScope::All)).await);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_act_that_comes_too_late_is_not_done() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    let message = into(group, 1, sealed("a"));
    let message_id = message.message.id;
    fixture.send(message).await;
    let request = ActRequest {
        conversation_id: group,
        caller: user(1),
        device_id: device(1),
        origin: 0,
        id: IdGenerator.next(),
        act: Act::Pin { message_id },
        not_after: Some(chrono::DateTime::UNIX_EPOCH.into()),
    };
    assert_eq!(fixture.call::<store::Act>(&request).await.unwrap_err().code, Code::Unavailable);
    assert!(fixture.pins(1, group).await.is_empty());
    replica.stop().await;
}
