//! People who talk in direct and group conversations, over WebSocket and REST, at once and later, while members come and go
//! and may do more or less; and what they did and saw.

mod caller;
mod logs;
mod plans;
mod rooms;
mod talker;
mod world;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use entrenous_checker::{History, What};
use entrenous_model::UserId;
use entrenous_protocol::{
    entry::{ConversationKind, Encryption},
    rest::CreateConversation,
};
use entrenous_test_support::Proxy;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{task::JoinSet, time::Instant};

pub use self::world::{Phase, World};
use self::{
    caller::Caller,
    talker::{Habit, Talker},
};
use crate::Person;

/// How long it may take afterwards until everything sent is acknowledged.
const FINISH_LIMIT: Duration = Duration::from_secs(60);
/// Nothing new for so long means that everything has come.
const QUIET_FOR: Duration = Duration::from_secs(3);
/// How long that may take.
const QUIET_LIMIT: Duration = Duration::from_secs(30);
/// Who talks.
const NAMES: [&str; 6] = ["anna", "bert", "cleo", "dora", "emil", "fritz"];
/// The conversations at the beginning, and whether everybody may join; who stands first owns it.
const ROOMS: [(ConversationKind, bool, &[usize]); 6] = [
    (ConversationKind::Group, false, &[0, 1, 2, 3]),
    (ConversationKind::Group, false, &[0, 1, 2, 4, 5]),
    (ConversationKind::Group, true, &[3, 4]),
    (ConversationKind::Direct, false, &[0, 1]),
    (ConversationKind::Direct, false, &[2, 3]),
    (ConversationKind::Direct, false, &[4, 5]),
];

/// How people behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crowd {
    /// One device each, whose connections last until the server ends them.
    Steady,
    /// Several devices, which also go by themselves and come back elsewhere, and some that take what comes now and then.
    Restless,
}

/// People who talk.
#[derive(Debug)]
pub struct Talk {
    world: Arc<World>,
    people: JoinSet<()>,
}

impl Talk {
    /// Starts it, over these lines to gateways.
    ///
    /// # Errors
    /// When an account, a login or a conversation cannot be made.
    pub async fn begin(lines: Vec<Proxy>, seed: u64, crowd: Crowd) -> anyhow::Result<Self> {
        let gateway = world::url_of(lines.first().context("there is no gateway")?)?;
        let (mut people, mut listeners) = (Vec::new(), Vec::new());
        for name in NAMES {
            people.push(Person::new(&gateway, name).await?);
        }
        if crowd == Crowd::Restless {
            for name in NAMES {
                listeners.push(Person::login(&gateway, name, "second").await?);
            }
        }
        let mut devices: Vec<_> = people.iter().cloned().map(|person| (person, Habit::TALKS)).collect();
        for (index, person) in listeners.into_iter().enumerate() {
            devices.push((person, if index % 2 == 0 { Habit::TALKS } else { Habit::LISTENS }));
        }
        let world = Arc::new(World::new(lines, people, devices.len())?);
        world.recorder.record(What::Fault { name: format!("seed {seed}") });
        for (kind, is_public, members) in ROOMS {
            begin_room(&world, kind, is_public, members).await?;
        }
        let mut people = JoinSet::new();
        for (index, (person, habit)) in (0..).zip(devices) {
            let habit = Habit { is_restless: crowd == Crowd::Restless, ..habit };
            people.spawn(Talker::new(Arc::clone(&world), person, habit, rng(seed, index, 1)).run());
        }
        for (index, person) in (0..).zip(&world.people) {
            let caller = |purpose| Caller::new(Arc::clone(&world), person.clone(), rng(seed, index, purpose));
            people.spawn(caller(2).send());
            people.spawn(rooms::administer(caller(3)));
            people.spawn(plans::plan(caller(4)));
        }
        Ok(Self { world, people })
    }

    /// What they share.
    pub fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// What has happened up to now.
    pub fn history(&self) -> History {
        self.world.recorder.history()
    }

    /// Nobody says anything new; ends when everything is acknowledged and has come, and everybody has read every log and
    /// every unread count that they may.
    ///
    /// # Errors
    /// When that takes too long, or a log cannot be read; the history tells more.
    pub async fn finish(&mut self) -> anyhow::Result<()> {
        self.world.enter(Phase::Finishing);
        let waited = self.wait_whole().await;
        self.world.enter(Phase::Done);
        while let Some(ended) = self.people.join_next().await {
            ended.context("somebody gave up")?;
        }
        // What became of the rest can be told all the same.
        logs::read(&self.world).await?;
        waited
    }
}

impl Talk {
    async fn wait_whole(&self) -> anyhow::Result<()> {
        wait_finished(&self.world).await?;
        logs::wait_sent(&self.world, FINISH_LIMIT).await?;
        wait_quiet(&self.world).await
    }
}

/// Of one person for one purpose.
fn rng(seed: u64, index: u64, purpose: u64) -> StdRng {
    StdRng::seed_from_u64(seed ^ (index << 8) ^ (purpose << 32))
}

async fn begin_room(world: &World, kind: ConversationKind, is_public: bool, members: &[usize]) -> anyhow::Result<()> {
    let members: Vec<&Person> = members.iter().filter_map(|index| world.people.get(*index)).collect();
    let owner = members.first().context("nobody")?;
    let ids: Vec<UserId> = members.iter().map(|member| member.user_id).collect();
    let new = new_conversation(kind, is_public, &ids);
    world.add_room(owner.api.create_conversation(&new).await?.id, &new);
    Ok(())
}

fn new_conversation(kind: ConversationKind, is_public: bool, members: &[UserId]) -> CreateConversation {
    CreateConversation {
        encryption: Encryption::None,
        title: (kind != ConversationKind::Direct).then(|| "chaos".to_owned()),
        members: members.to_vec(),
        is_public,
        ..CreateConversation::of(kind)
    }
}

async fn wait_finished(world: &World) -> anyhow::Result<()> {
    let finished = async {
        while world.unfinished() > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let limit = FINISH_LIMIT.as_secs();
    tokio::time::timeout(FINISH_LIMIT, finished)
        .await
        .with_context(|| format!("{} sends are still without an answer after {limit} s", world.unfinished()))
}

/// Until nothing has been recorded for a while, and every device is connected and live.
async fn wait_quiet(world: &World) -> anyhow::Result<()> {
    let deadline = Instant::now() + QUIET_LIMIT;
    let (mut length, mut since) = (world.recorder.len(), Instant::now());
    while since.elapsed() < QUIET_FOR || world.live() < world.devices() {
        anyhow::ensure!(
            Instant::now() < deadline,
            "not quiet: {} of {} devices are live",
            world.live(),
            world.devices()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
        if world.recorder.len() != length {
            (length, since) = (world.recorder.len(), Instant::now());
        }
    }
    Ok(())
}

/// A pause between these.
pub(crate) fn between(rng: &mut StdRng, milliseconds: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.random_range(milliseconds))
}
