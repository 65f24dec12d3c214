//! Methods `update_conversation` and `set_own_settings`.

use entrenous_bus::{LiveEvent, LiveSubscription};
use entrenous_protocol::{
    Code, EntryKind,
    entry::Role,
    live::{LiveKind, UserNotice},
    rest::{CreateConversation, Posting},
    rpc::store::{SetOwnSettings, SetOwnSettingsRequest},
};
use serde_json::{Map, Value, json};

use super::code;
use crate::{
    channels::channel,
    fixture::{Fixture, group_of, into, sealed, stranger, to, user},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_an_entry_of_what_changed() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    fixture.add(1, group, 3, Some(Role::Moderator)).await.unwrap();
    let wanted = json!({
        "title": "new", "description": null, "metadata": {"k": [1]}, "retention_seconds": 60, "history_visible": true,
    });
    let changed = fixture.update(3, group, wanted.clone()).await.unwrap();
    assert_eq!((changed.title.as_deref(), changed.retention_seconds), (Some("new"), Some(60)));
    assert_eq!((changed.role, changed.history_visible, changed.last_seq), (Role::Moderator, true, 3));
    assert!(changed.updated_at > changed.created_at);
    let by = user(3);
    let (kind, content) = fixture.said(group).await.pop().unwrap();
    let said = json!({
        "by": by, "title": "new", "metadata": {"k": [1]}, "retention_seconds": 60, "history_visible": true,
    });
    assert_eq!((kind, content), (EntryKind::Settings, said));
    assert_eq!(fixture.update(3, group, wanted).await.unwrap().last_seq, 3, "nothing changed: no entry");
    let sent = fixture.send(into(group, 2, sealed("a"))).await;
    assert_eq!(sent.expires_at.unwrap().unix_seconds() - sent.sent_at.unix_seconds(), 60);
    assert_eq!(fixture.update(1, group, json!({"title": null})).await.unwrap().title, None);
    assert_eq!(fixture.said(group).await.pop().unwrap().1, json!({"by": user(1), "title": null}));
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_change_what() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    fixture.add(1, group, 3, Some(Role::Moderator)).await.unwrap();
    let update = async |caller, change: Value| fixture.update(caller, group, change).await.map(|one| one.last_seq);
    assert_eq!(code(update(2, json!({"title": "x"})).await), Code::Forbidden);
    assert_eq!(code(update(2, json!({})).await), Code::Forbidden);
    assert_eq!(code(update(9, json!({"title": "x"})).await), Code::NotFound);
    for reach in [json!({"is_public": true}), json!({"max_members": 5})] {
        assert_eq!(code(update(3, reach.clone()).await), Code::Forbidden);
        update(1, reach.clone()).await.unwrap();
        update(3, reach).await.unwrap();
    }
    assert_eq!(update(3, json!({})).await.unwrap(), 4);
    assert_eq!(code(update(1, json!({"max_members": 9})).await), Code::TooLarge);
    assert_eq!(code(update(1, json!({"max_members": 2})).await), Code::Conflict);
    assert_eq!(code(update(1, json!({"posting": "moderators"})).await), Code::Invalid);
    assert_eq!(code(update(1, json!({"retention_seconds": 0})).await), Code::Invalid);
    assert_eq!(code(update(1, json!({"title": "\0"})).await), Code::Invalid);
    fixture.add(1, group, 4, None).await.unwrap();
    fixture.add(1, group, 5, None).await.unwrap();
    assert_eq!(code(fixture.add(1, group, 6, None).await), Code::TooLarge, "five at most now");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_may_set_how_long_messages_stay() {
    let (fixture, replica) = Fixture::start().await;
    let message = to(2, 1, sealed("a"));
    let direct = message.conversation_id;
    fixture.send(message).await;
    for (caller, seconds) in [(1, json!(5)), (2, Value::Null)] {
        let changed = fixture.update(caller, direct, json!({"retention_seconds": seconds})).await.unwrap();
        assert_eq!(json!(changed.retention_seconds), seconds);
    }
    for other in [json!({"title": "x"}), json!({"retention_seconds": 7, "metadata": {}}), json!({"is_public": true})] {
        assert_eq!(code(fixture.update(1, direct, other).await), Code::Forbidden);
    }
    assert_eq!(code(fixture.update(3, direct, json!({"retention_seconds": 5})).await), Code::NotFound);
    let log = fixture.log(Some(2), direct).await;
    assert_eq!(log.last_seq, 3);
    let frame: Value = serde_json::from_str(log.entries[2].frame.get()).unwrap();
    assert_eq!((&frame["type"], &frame["meta"]["target_id"]), (&json!("conversation_updated"), &json!(user(1))));
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_a_channel_are_entries_after_its_leaves() {
    let (fixture, replica) = Fixture::start().await;
    let room = channel(&fixture, &[1, 2, 3]).await;
    fixture.remove(2, room, 2).await.unwrap();
    let mut live = fixture.gateway.subscribe_live().await.unwrap();
    fixture.update(1, room, json!({"posting": "everyone", "slow_mode_seconds": 5})).await.unwrap();
    let heard = crate::channels::heard(&mut live, room, 1).await;
    assert_eq!((heard[0].preamble.seq, heard[0].preamble.leaves), (2, 1));
    assert_eq!(fixture.get(3, room).await.unwrap().posting, Posting::Everyone);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_at_the_beginning_holds() {
    let (fixture, replica) = Fixture::start().await;
    let wanted = CreateConversation {
        is_public: true,
        retention_seconds: Some(60),
        slow_mode_seconds: Some(5),
        max_members: Some(3),
        ..group_of(&[2])
    };
    let made = fixture.create(user(1), wanted.clone()).await.unwrap();
    assert_eq!((made.is_public, made.retention_seconds, made.slow_mode_seconds), (true, Some(60), Some(5)));
    assert_eq!(made.max_members, 3);
    let code_of = async |wanted| code(fixture.create(user(1), wanted).await);
    assert_eq!(code_of(CreateConversation { max_members: Some(9), ..wanted.clone() }).await, Code::TooLarge);
    assert_eq!(code_of(CreateConversation { max_members: Some(1), ..wanted.clone() }).await, Code::TooLarge);
    assert_eq!(code_of(CreateConversation { slow_mode_seconds: Some(0), ..wanted.clone() }).await, Code::Invalid);
    let kind = entrenous_protocol::entry::ConversationKind::Direct;
    assert_eq!(code_of(CreateConversation { kind, ..wanted }).await, Code::Invalid, "nothing is taken and forgotten");
    replica.stop().await;
}

/// The next notice to somebody.
async fn noticed(live: &mut LiveSubscription, number: u128) -> UserNotice {
    loop {
        let LiveEvent::Messages(messages) = live.next().await.unwrap() else { panic!("interrupted") };
        let is_his = |kind, subject| kind == LiveKind::UserNotice && subject == user(number).as_uuid();
        if let Some(message) = messages.iter().find(|one| is_his(one.preamble.kind, one.preamble.subject)) {
            return serde_json::from_slice(&message.body).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn own_settings_are_merged_and_told_to_oneself() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    let object = |value: Value| -> Map<String, Value> { serde_json::from_value(value).unwrap() };
    let set = async |caller, settings: Value| {
        let request =
            SetOwnSettingsRequest { caller: user(caller), conversation_id: group, settings: object(settings) };
        fixture.call::<SetOwnSettings>(&request).await
    };
    let mut live = fixture.gateway.subscribe_live().await.unwrap();
    set(2, json!({"archived": true, "pinned": {"at": 1}})).await.unwrap();
    let first = noticed(&mut live, 2).await;
    let settings = object(json!({"archived": true, "pinned": {"at": 1}}));
    assert_eq!(first, UserNotice::SettingsChanged { conversation_id: group, settings: settings.clone() });
    let member = set(2, json!({"archived": true})).await.unwrap();
    assert_eq!((member.user_id, member.joined_seq, member.settings), (user(2), 1, Some(settings)));
    let left = object(json!({"pinned": {"at": 1}, "muted_until": "x"}));
    assert_eq!(set(2, json!({"archived": null, "muted_until": "x"})).await.unwrap().settings.unwrap(), left);
    let second = noticed(&mut live, 2).await;
    assert_eq!(
        second,
        UserNotice::SettingsChanged { conversation_id: group, settings: left.clone() },
        "told once each"
    );
    let seen = fixture.get(2, group).await.unwrap();
    assert_eq!((seen.settings, seen.last_seq), (left, 1));
    assert!(fixture.get(1, group).await.unwrap().settings.is_empty());
    assert_eq!(code(set(2, json!({"x": "y".repeat(4_096)})).await), Code::TooLarge);
    assert_eq!(code(set(9, json!({})).await), Code::NotFound);
    fixture.remove(1, group, 2).await.unwrap();
    assert_eq!(code(set(2, json!({})).await), Code::NotFound);
    assert_eq!(code(fixture.get(stranger(), group).await), Code::NotFound);
    replica.stop().await;
}
