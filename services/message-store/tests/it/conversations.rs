//! Methods `create`, `get_conversation`, `list_conversations` and `list_members`.

use entrenous_protocol::{
    Code,
    entry::{ConversationKind, Encryption, MemberChange, Role},
    rest::CreateConversation,
    rpc::store::{
        ConversationRequest, Create, CreateRequest, GetConversation, ListConversations, ListConversationsRequest,
    },
};

use crate::fixture::{Fixture, group_of, into, member_content, payload, sealed, stranger, to, user};

#[tokio::test(flavor = "multi_thread")]
async fn a_group_begins_with_its_members_and_one_entry() {
    let (fixture, replica) = Fixture::start().await;
    let request = CreateConversation { members: vec![user(2), user(1), user(3), user(2)], ..group_of(&[]) };
    let group = fixture.create(user(1), request).await.unwrap();
    assert_eq!((group.last_seq, group.first_seq, group.member_count, group.role), (1, 1, 3, Role::Owner));
    let log = fixture.log(Some(3), group.id).await;
    let created = member_content(&payload(&log.entries[0].frame));
    assert_eq!((created.change, created.by, created.role), (MemberChange::Created, user(1), Some(Role::Owner)));
    assert_eq!(created.members, [user(1), user(2), user(3)]);
    let list = |caller| ConversationRequest { caller: user(caller), conversation_id: group.id };
    let members = fixture.members(2, group.id).await.unwrap().items;
    let roles: Vec<_> = members.iter().map(|member| (member.user_id, member.role, member.joined_seq)).collect();
    assert_eq!(roles, [(user(1), Role::Owner, 1), (user(2), Role::Member, 1), (user(3), Role::Member, 1)]);
    assert_eq!(fixture.members(4, group.id).await.unwrap_err().code, Code::NotFound);
    assert_eq!(fixture.call::<GetConversation>(&list(4)).await.unwrap_err().code, Code::NotFound);
    let seen = fixture.call::<GetConversation>(&list(2)).await.unwrap();
    assert_eq!((seen.role, seen.title.as_deref()), (Role::Member, Some("title")));
    assert!(seen.last_entry.unwrap().get().contains("\"created\""));
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_conversation_is_made_once() {
    let (fixture, replica) = Fixture::start().await;
    let direct = CreateConversation { kind: ConversationKind::Direct, encryption: Encryption::None, ..group_of(&[2]) };
    let create = async |caller: u128, other: u128| {
        let conversation = CreateConversation { members: vec![user(other)], ..direct.clone() };
        fixture.call::<Create>(&CreateRequest { caller: user(caller), conversation }).await
    };
    let first = create(1, 2).await.unwrap();
    let second = create(2, 1).await.unwrap();
    assert!(first.is_new && !second.is_new && first.conversation.id == second.conversation.id);
    assert_eq!((first.conversation.last_seq, first.conversation.role), (0, Role::Member));
    assert!(first.conversation.last_entry.is_none());
    assert_eq!(first.conversation.peer.unwrap().id, user(2));
    assert_eq!(second.conversation.peer.unwrap().id, user(1));
    assert_eq!(second.conversation.encryption, Encryption::None);
    assert_eq!(create(1, 1).await.unwrap_err().code, Code::Invalid);
    assert_eq!(create(1, stranger()).await.unwrap_err().code, Code::NotFound);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_made_is_refused() {
    let (fixture, replica) = Fixture::start().await;
    let refusal = async |conversation| fixture.create(user(1), conversation).await.unwrap_err().code;
    assert_eq!(refusal(CreateConversation { title: Some("x".repeat(201)), ..group_of(&[2]) }).await, Code::Invalid);
    assert_eq!(
        refusal(CreateConversation { description: Some("\0".to_owned()), ..group_of(&[2]) }).await,
        Code::Invalid
    );
    let metadata = serde_json::from_str(r#"{"a":["\u0000"]}"#).unwrap();
    assert_eq!(refusal(CreateConversation { metadata, ..group_of(&[2]) }).await, Code::Invalid);
    assert_eq!(refusal(group_of(&[2, stranger()])).await, Code::NotFound);
    assert_eq!(refusal(group_of(&[2, 3, 4, 5, 6, 7, 8, 9])).await, Code::TooLarge);
    for _ in 0..5 {
        fixture.group(&[1, 2]).await;
    }
    assert_eq!(refusal(group_of(&[3])).await, Code::TooLarge);
    assert_eq!(fixture.create(user(3), group_of(&[2])).await.unwrap_err().code, Code::TooLarge);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_are_listed_by_activity() {
    let (fixture, replica) = Fixture::start().await;
    let mut groups = Vec::new();
    for _ in 0..3 {
        groups.push(fixture.group(&[1, 2]).await.id);
    }
    let direct = to(2, 1, sealed("a"));
    fixture.send(direct.clone()).await;
    fixture.send(into(groups[1], 2, sealed("b"))).await;
    fixture.group(&[2, 3]).await;
    let mut cursor = None;
    let mut listed = Vec::new();
    loop {
        let request = ListConversationsRequest { caller: user(1), cursor, limit: 2 };
        let page = fixture.call::<ListConversations>(&request).await.unwrap();
        assert_eq!(page.has_more, page.next.is_some());
        listed.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    let ids: Vec<_> = listed.iter().map(|conversation| conversation.id).collect();
    assert_eq!(ids, [groups[1], direct.conversation_id, groups[2], groups[0]]);
    assert_eq!(listed[1].peer.as_ref().unwrap().username, "user2");
    assert!(listed[0].last_entry.as_ref().unwrap().get().contains("ciphertext"));
    let wrong = ListConversationsRequest { caller: user(1), cursor: Some("x".to_owned()), limit: 2 };
    assert_eq!(fixture.call::<ListConversations>(&wrong).await.unwrap_err().code, Code::Invalid);
    replica.stop().await;
}
