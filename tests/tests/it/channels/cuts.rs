//! A gateway that is cut off from NATS hears of no join and no leave; when it is back, it makes up for all of them.

use entrenous_system_tests::{Cluster, Node, Person};

use super::{Told, channel, fence, post, told, told_before};
use crate::support::live;

/// Two gateways, one of which will be cut off.
struct Scene {
    _cluster: Cluster,
    _store: Node,
    near: Node,
    _far: Node,
    owner: Person,
}

impl Scene {
    async fn start() -> Self {
        let cluster = Cluster::start().await.unwrap();
        let store = cluster.store(&[]).await.unwrap();
        let settings = [("CUT_OFF_AFTER_MS", "300000")];
        let (near, far) = tokio::join!(cluster.gateway(&settings), cluster.gateway(&settings));
        let (near, far) = (near.unwrap(), far.unwrap());
        let owner = Person::new(&far.url(), "owner").await.unwrap();
        Self { _cluster: cluster, _store: store, near, _far: far, owner }
    }

    /// Somebody at the gateway that will be cut off.
    async fn person(&self, name: &str) -> Person {
        Person::new(&self.near.url(), name).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_and_leaves_that_were_missed_are_made_up_for() {
    let scene = Scene::start().await;
    let owner = &scene.owner;
    let (gone, stays, comes) = (scene.person("gone").await, scene.person("stays").await, scene.person("comes").await);
    let room = channel(owner, &[&gone, &stays]).await;
    let (mut at_gone, mut at_stays, mut at_comes) = (live(&gone).await, live(&stays).await, live(&comes).await);
    scene.near.nats.cut();
    assert_eq!(post(owner, room).await, 2);
    owner.api.remove_member(room, gone.user_id).await.unwrap();
    owner.api.add_member(room, comes.user_id, None).await.unwrap();
    assert_eq!(post(owner, room).await, 3);
    scene.near.nats.heal();

    assert_eq!([told(&mut at_gone, room).await, told(&mut at_gone, room).await], [Told::Entry(2), Told::Left(2)]);
    assert_eq!([told(&mut at_stays, room).await, told(&mut at_stays, room).await], [Told::Entry(2), Told::Entry(3)]);
    assert_eq!([told(&mut at_comes, room).await, told(&mut at_comes, room).await], [Told::Joined(3), Told::Entry(3)]);
    assert_eq!(post(owner, room).await, 4);
    assert_eq!([told(&mut at_comes, room).await, told(&mut at_stays, room).await], [Told::Entry(4), Told::Entry(4)]);
    let mark = fence(owner, &gone).await;
    assert_eq!(told_before(&mut at_gone, room, mark).await, []);
}

/// Nobody posts meanwhile: without any entry the news is made up for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_quiet_channel_they_are_made_up_for_too() {
    let scene = Scene::start().await;
    let owner = &scene.owner;
    let (gone, comes) = (scene.person("gone").await, scene.person("comes").await);
    let room = channel(owner, &[&gone]).await;
    let (mut at_gone, mut at_comes) = (live(&gone).await, live(&comes).await);
    scene.near.nats.cut();
    owner.api.remove_member(room, gone.user_id).await.unwrap();
    owner.api.add_member(room, comes.user_id, None).await.unwrap();
    scene.near.nats.heal();
    assert_eq!(told(&mut at_gone, room).await, Told::Left(1));
    assert_eq!(told(&mut at_comes, room).await, Told::Joined(2));
    assert_eq!(post(owner, room).await, 2);
    assert_eq!(told(&mut at_comes, room).await, Told::Entry(2));
    let mark = fence(owner, &gone).await;
    assert_eq!(told_before(&mut at_gone, room, mark).await, []);
}
