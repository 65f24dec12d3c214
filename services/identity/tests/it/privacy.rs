//! What the message store is told of what people allow each other, and when.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use entrenous_bus::{Bus, LiveEvent, LiveSubscription, NatsConfig, ServeOptions};
use entrenous_config::Secret;
use entrenous_local_servers::permissions::Service as NatsService;
use entrenous_model::UserId;
use entrenous_protocol::{
    Code, Failure,
    live::{LiveKind, UserNotice},
    rest::{MessagesFrom, ProfilePatch, User, VisibleTo},
    rpc::{
        Done,
        identity::*,
        store::{Privacy, TakePrivacy},
    },
};
use entrenous_runtime::{Shutdown, Tasks};
use entrenous_test_support::{TestNats, wait_for};

use crate::fixture::{Fixture, code};

/// A message store that remembers what it is told, and may be away.
pub(crate) struct Store {
    told: Arc<Mutex<Vec<Privacy>>>,
    is_away: Arc<AtomicBool>,
    stop: Shutdown,
    _bus: Bus,
}

impl Store {
    pub(crate) async fn serve(fixture: &Fixture) -> Self {
        let bus = Bus::connect(&credential(&fixture.nats, NatsService::MessageStore), "message-store").await.unwrap();
        let (told, is_away, stop) =
            (Arc::<Mutex<Vec<Privacy>>>::default(), Arc::<AtomicBool>::default(), Shutdown::new());
        let (taken, away) = (Arc::clone(&told), Arc::clone(&is_away));
        let take = move |privacy: Privacy, _| {
            let answer = if away.load(Ordering::SeqCst) { Err(Failure::unavailable("away")) } else { Ok(Done {}) };
            if answer.is_ok() {
                taken.lock().unwrap().push(privacy);
            }
            std::future::ready(answer)
        };
        bus.serve::<TakePrivacy, _, _>(&Tasks::new(), &stop, ServeOptions::default(), take).await.unwrap();
        Self { told, is_away, stop, _bus: bus }
    }

    fn told(&self) -> Vec<Privacy> {
        self.told.lock().unwrap().clone()
    }

    fn last(&self) -> Privacy {
        self.told().pop().expect("something was told")
    }

    fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::SeqCst);
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.stop.trigger();
    }
}

fn credential(nats: &TestNats, service: NatsService) -> NatsConfig {
    NatsConfig {
        nats_url: nats.url(),
        nats_user: Some(service.name().to_owned()),
        nats_password: Some(Secret::new(TestNats::password(service))),
    }
}

async fn block(fixture: &Fixture, user: &User, person: UserId) -> Result<(), Code> {
    code(fixture.call::<Block>(PersonRequest { user_id: user.id, person }).await)
}

async fn update(fixture: &Fixture, user: &User, patch: ProfilePatch) -> Result<User, Failure> {
    fixture.call::<UpdateProfile>(UpdateProfileRequest { user_id: user.id, patch }).await
}

fn visible_to(to: Option<VisibleTo>) -> ProfilePatch {
    ProfilePatch { presence_visible_to: Some(to), ..ProfilePatch::default() }
}

/// Waits for the notice that a user's privacy has changed.
async fn next_changed(live: &mut LiveSubscription, user: &User) {
    let search = async {
        loop {
            let Some(LiveEvent::Messages(messages)) = live.next().await else { continue };
            let is_it = |body: &[u8]| matches!(serde_json::from_slice(body), Ok(UserNotice::PrivacyChanged {}));
            let mut notices = messages.iter().filter(|message| message.preamble.kind == LiveKind::UserNotice);
            if notices.any(|message| message.preamble.subject == user.id.as_uuid() && is_it(&message.body)) {
                return;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), search).await.expect("a notice");
}

const UNTOLD: &str = "SELECT count(*) FROM identity.users WHERE privacy_told_version < privacy_version";

#[tokio::test(flavor = "multi_thread")]
async fn each_change_is_told_whole_before_it_is_answered() {
    let fixture = Fixture::start().await;
    let (store, mut live) = (Store::serve(&fixture).await, fixture.bus.subscribe_live().await.unwrap());
    let (alice, bob) = (fixture.register("alice").await, fixture.register("bob").await);
    assert_eq!((alice.presence_visible_to, alice.messages_from), (VisibleTo::Shared, MessagesFrom::Everyone));
    block(&fixture, &alice, bob.id).await.unwrap();
    let first = store.last();
    assert_eq!((first.user_id, first.blocked.as_slice()), (alice.id, [bob.id].as_slice()));
    assert_eq!((first.presence_visible_to, first.messages_from), (VisibleTo::Shared, MessagesFrom::Everyone));
    next_changed(&mut live, &alice).await;

    let patch = ProfilePatch {
        presence_visible_to: Some(Some(VisibleTo::Nobody)),
        messages_from: Some(Some(MessagesFrom::Contacts)),
        ..ProfilePatch::default()
    };
    let user = update(&fixture, &alice, patch).await.unwrap();
    assert_eq!((user.presence_visible_to, user.messages_from), (VisibleTo::Nobody, MessagesFrom::Contacts));
    let second = store.last();
    assert!(second.version > first.version);
    assert_eq!((second.presence_visible_to, second.messages_from), (VisibleTo::Nobody, MessagesFrom::Contacts));
    assert_eq!(second.blocked, [bob.id]);
    next_changed(&mut live, &alice).await;

    fixture.call::<Unblock>(PersonRequest { user_id: alice.id, person: bob.id }).await.unwrap();
    assert_eq!((store.last().blocked, store.last().version > second.version), (Vec::new(), true));
    let user = update(&fixture, &alice, visible_to(None)).await.unwrap();
    assert_eq!((user.presence_visible_to, user.messages_from), (VisibleTo::Shared, MessagesFrom::Contacts));
    assert_eq!(fixture.count(UNTOLD).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_nothing_is_not_told() {
    let fixture = Fixture::start().await;
    let store = Store::serve(&fixture).await;
    let (alice, bob) = (fixture.register("alice").await, fixture.register("bob").await);
    block(&fixture, &alice, bob.id).await.unwrap();
    let told = store.told().len();
    block(&fixture, &alice, bob.id).await.unwrap();
    let unblock = PersonRequest { user_id: bob.id, person: alice.id };
    fixture.call::<Unblock>(unblock).await.unwrap();
    fixture.call::<Follow>(unblock).await.unwrap();
    update(&fixture, &alice, visible_to(Some(VisibleTo::Shared))).await.unwrap();
    let named = ProfilePatch { display_name: Some(Some("Alice".into())), ..ProfilePatch::default() };
    update(&fixture, &alice, named).await.unwrap();
    assert_eq!(store.told().len(), told);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_could_not_be_told_follows_with_its_notice() {
    let fixture = Fixture::with(2, &[]).await;
    let (alice, bob) = (fixture.register("alice").await, fixture.register("bob").await);
    let mut live = fixture.bus.subscribe_live().await.unwrap();
    // Nobody is there; then somebody who cannot.
    assert_eq!(block(&fixture, &alice, bob.id).await, Err(Code::Unavailable));
    let store = Store::serve(&fixture).await;
    store.set_away(true);
    assert_eq!(block(&fixture, &alice, bob.id).await, Err(Code::Unavailable), "a repeat too");
    assert_eq!(code(update(&fixture, &bob, visible_to(Some(VisibleTo::Nobody))).await), Err(Code::Unavailable));
    // The change itself is there.
    let listed = ListPeopleRequest { user_id: alice.id, cursor: None, limit: 50 };
    assert_eq!(fixture.call::<ListBlocked>(listed).await.unwrap().items.len(), 1);
    store.set_away(false);
    next_changed(&mut live, &alice).await;
    next_changed(&mut live, &bob).await;
    let all_told = async || match fixture.count(UNTOLD).await {
        0 => Ok(()),
        untold => Err(format!("{untold} untold")),
    };
    wait_for("everything to be told", all_told).await.unwrap();
    let last = |user: &User| store.told().into_iter().rfind(|privacy| privacy.user_id == user.id).unwrap();
    assert_eq!(last(&alice).blocked, [bob.id]);
    assert_eq!(last(&bob).presence_visible_to, VisibleTo::Nobody);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_changes_at_once_end_in_the_newest_state() {
    let fixture = Fixture::with(2, &[]).await;
    let store = Store::serve(&fixture).await;
    let alice = fixture.register("alice").await;
    let mut others = Vec::new();
    for number in 0..12 {
        others.push(fixture.register(&format!("other{number}")).await.id);
    }
    let blocks = others.iter().map(|other| block(&fixture, &alice, *other));
    assert!(futures::future::join_all(blocks).await.iter().all(Result::is_ok));
    let newest = store.told().into_iter().max_by_key(|privacy| privacy.version).unwrap();
    assert_eq!(newest.blocked.len(), 12);
    // Whatever was told twice, a version says one thing.
    let mut told = store.told();
    told.sort_by_key(|privacy| privacy.version);
    assert!(told.windows(2).all(|pair| pair[0].version < pair[1].version || pair[0] == pair[1]));
}
