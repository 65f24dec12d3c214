//! Whom users follow and have blocked.

use entrenous_model::{IdGenerator, UserId};
use entrenous_protocol::{
    Code, Failure,
    rest::{Page, Profile, User},
    rpc::{Done, Method, identity::*},
};

use crate::{
    fixture::{Fixture, code, fields},
    privacy::Store,
};

/// The three methods of a list.
trait List {
    type Add: Method<Request = PersonRequest, Response = Done>;
    type Remove: Method<Request = PersonRequest, Response = Done>;
    type Read: Method<Request = ListPeopleRequest, Response = Page<Profile>>;
    /// What its limit is called.
    const NAME: &str;
    const TABLE: &str;
}

enum Follows {}
enum Blocks {}

impl List for Follows {
    type Add = Follow;
    type Remove = Unfollow;
    type Read = ListFollowing;
    const NAME: &str = "follows";
    const TABLE: &str = "identity.follows (user_id, followed_id, created_at)";
}

impl List for Blocks {
    type Add = Block;
    type Remove = Unblock;
    type Read = ListBlocked;
    const NAME: &str = "blocks";
    const TABLE: &str = "identity.blocks (user_id, blocked_id, created_at)";
}

async fn add<L: List>(fixture: &Fixture, user: &User, person: UserId) -> Result<Done, Failure> {
    fixture.call::<L::Add>(PersonRequest { user_id: user.id, person }).await
}

async fn remove<L: List>(fixture: &Fixture, user: &User, person: UserId) -> Result<Done, Failure> {
    fixture.call::<L::Remove>(PersonRequest { user_id: user.id, person }).await
}

async fn read<L: List>(
    fixture: &Fixture,
    user: &User,
    cursor: Option<&str>,
    limit: u32,
) -> Result<Page<Profile>, Failure> {
    let cursor = cursor.map(str::to_owned);
    fixture.call::<L::Read>(ListPeopleRequest { user_id: user.id, cursor, limit }).await
}

async fn names<L: List>(fixture: &Fixture, user: &User) -> Vec<String> {
    let page = read::<L>(fixture, user, None, 100).await.unwrap();
    assert!(!page.has_more && page.next.is_none());
    page.items.into_iter().map(|profile| profile.username).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_lists_keep_their_order() {
    let fixture = Fixture::start().await;
    let _store = Store::serve(&fixture).await;
    lists::<Follows>(&fixture, "a").await;
    lists::<Blocks>(&fixture, "b").await;
}

async fn lists<L: List>(fixture: &Fixture, prefix: &str) {
    let alice = fixture.register(&format!("{prefix}-alice")).await;
    let mut people = Vec::new();
    for number in 0..5 {
        people.push(fixture.register(&format!("{prefix}-{number}")).await);
    }
    for number in [3, 0, 4, 1, 3, 0] {
        add::<L>(fixture, &alice, people[number].id).await.unwrap();
    }
    let wanted = [3, 0, 4, 1].map(|number| format!("{prefix}-{number}"));
    assert_eq!(names::<L>(fixture, &alice).await, wanted);
    assert_eq!(names::<L>(fixture, &people[3]).await, [""; 0], "nobody else's");

    let first = read::<L>(fixture, &alice, None, 3).await.unwrap();
    assert!(first.has_more);
    let second = read::<L>(fixture, &alice, first.next.as_deref(), 3).await.unwrap();
    let seen: Vec<_> = first.items.into_iter().chain(second.items).map(|profile| profile.username).collect();
    assert_eq!((seen, second.has_more, second.next), (wanted.to_vec(), false, None));

    for number in [0, 0, 2] {
        remove::<L>(fixture, &alice, people[number].id).await.unwrap();
    }
    assert_eq!(names::<L>(fixture, &alice).await, [3, 4, 1].map(|number| format!("{prefix}-{number}")));
    remove::<L>(fixture, &alice, IdGenerator.next()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused() {
    let fixture = Fixture::start().await;
    let _store = Store::serve(&fixture).await;
    refusals::<Follows>(&fixture, "a").await;
    refusals::<Blocks>(&fixture, "b").await;
}

async fn refusals<L: List>(fixture: &Fixture, prefix: &str) {
    let alice = fixture.register(&format!("{prefix}-alice")).await;
    let bob = fixture.register(&format!("{prefix}-bob")).await;
    assert_eq!(fields(add::<L>(fixture, &alice, alice.id).await), ["id"]);
    assert_eq!(code(add::<L>(fixture, &alice, IdGenerator.next()).await), Err(Code::NotFound));
    for limit in [0, 101] {
        assert_eq!(fields(read::<L>(fixture, &alice, None, limit).await), ["limit"]);
    }
    assert_eq!(fields(read::<L>(fixture, &alice, Some("x"), 50).await), ["cursor"]);

    let (table, id) = (L::TABLE, alice.id);
    let fill = format!(
        "INSERT INTO identity.users (id, username, password_hash, created_at, updated_at)
             SELECT gen_random_uuid(), '{prefix}.' || n, '', now(), now() FROM generate_series(1, 1000) n;
         INSERT INTO {table} SELECT '{id}', id, now() FROM identity.users WHERE username LIKE '{prefix}.%'"
    );
    fixture.execute(&fill).await.unwrap();
    let refused = add::<L>(fixture, &alice, bob.id).await.unwrap_err();
    assert_eq!((refused.code, refused.detail.contains(L::NAME)), (Code::TooLarge, true), "{}", refused.detail);
    let listed = read::<L>(fixture, &alice, None, 1).await.unwrap().items[0].id;
    add::<L>(fixture, &alice, listed).await.unwrap();
    remove::<L>(fixture, &alice, listed).await.unwrap();
    add::<L>(fixture, &alice, bob.id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_holds_its_limit_whoever_adds_at_once() {
    let fixture = Fixture::with(2, &[]).await;
    let alice = fixture.register("alice").await;
    let fill = format!(
        "INSERT INTO identity.users (id, username, password_hash, created_at, updated_at)
             SELECT gen_random_uuid(), 'u.' || n, '', now(), now() FROM generate_series(1, 1010) n;
         INSERT INTO identity.follows SELECT '{}', id, now() FROM identity.users WHERE username LIKE 'u.%' LIMIT 998",
        alice.id
    );
    fixture.execute(&fill).await.unwrap();
    let mut others = Vec::new();
    for number in 0..6 {
        others.push(fixture.register(&format!("other{number}")).await.id);
    }
    let tries = others.iter().map(|other| add::<Follows>(&fixture, &alice, *other));
    let results: Vec<_> = futures::future::join_all(tries).await.into_iter().map(code).collect();
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 2, "{results:?}");
    assert_eq!(fixture.count("SELECT count(*) FROM identity.follows").await, 1_000);
}
