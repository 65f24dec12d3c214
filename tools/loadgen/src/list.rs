//! Somebody with very many conversations asks for their list: how long a page takes, and what it costs.
//!
//! Closed loop: each caller asks for the next page when it has the one before.

use std::time::{Duration, Instant};

use entrenous_client::{Api, OutgoingMessage, api};
use entrenous_model::{ConversationId, IdGenerator};
use entrenous_protocol::{
    entry::{ConversationKind, Encryption},
    rest::{Conversation, CreateConversation, Page},
};
use futures::{StreamExt, TryStreamExt, stream};
use reqwest::Method;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::{
    Target,
    measure::{Samples, rate},
    output::progress,
    people::{self, CALLS_AT_ONCE},
    processes::{Snapshot, of_generator},
    report::{Calls, Report, Servers},
};

/// How many, how long.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub(crate) struct Parameters {
    /// Groups that the user is in. Above 100 start the servers with a higher `CONVERSATIONS_PER_USER_MAX`.
    #[arg(long, default_value_t = 500)]
    conversations: usize,
    /// Unread messages in each of them.
    #[arg(long, default_value_t = 5)]
    messages: usize,
    /// Conversations in a page, at most 100.
    #[arg(long, default_value_t = 50)]
    page: u32,
    /// Callers at once.
    #[arg(long, default_value_t = 1)]
    callers: usize,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 15)]
    duration: u64,
    /// Bytes of each ciphertext.
    #[arg(long, default_value_t = 256)]
    payload: usize,
}

/// Runs the scenario.
pub(crate) async fn run(target: Target<'_>, parameters: &Parameters) -> anyhow::Result<Report> {
    anyhow::ensure!(parameters.conversations > 0 && parameters.callers > 0, "there must be something to ask for");
    let people = people::make(target.servers, 2).await?;
    let [reader, writer] = people.as_slice() else { anyhow::bail!("two people") };
    fill(&writer.api()?, reader.user_id, parameters).await?;
    let reader = reader.api()?;
    // The first walk warms up, and shows that there is what was asked for.
    let first = Walk::default().walk(&reader, parameters.page).await?;
    anyhow::ensure!(first.conversations == parameters.conversations, "{} are listed", first.conversations);
    progress(&format!("listing for {} s", parameters.duration));
    let (before, own_before) = (Snapshot::take(target.processes)?, of_generator());
    let began = Instant::now();
    let end = began + Duration::from_secs(parameters.duration);
    let mut callers = JoinSet::new();
    for _ in 0..parameters.callers {
        callers.spawn(call(reader.clone(), parameters.page, end));
    }
    let (pages, lists) = (Samples::default(), Samples::default());
    while let Some(walks) = callers.join_next().await {
        for walk in walks?? {
            walk.pages.iter().for_each(|(from, to)| pages.add(*from, *to));
            if let (Some((from, _)), Some((_, to))) = (walk.pages.first(), walk.pages.last()) {
                lists.add(*from, *to);
            }
        }
    }
    let ended = Instant::now();
    let (after, own_after) = (Snapshot::take(target.processes)?, of_generator());
    let servers = Servers { used: after.since(&before), generator_cpu: own_after.saturating_sub(own_before) };
    let (page, list) = (pages.between(began, ended)?, lists.between(began, ended)?);
    let calls = Calls { page, list, per_second: rate(page.count, ended - began) };
    Ok(Report::calls(serde_json::to_value(parameters)?, calls, servers))
}

/// Makes the conversations and what is unread in them.
async fn fill(writer: &Api, reader: entrenous_model::UserId, parameters: &Parameters) -> anyhow::Result<()> {
    let group = || CreateConversation {
        kind: ConversationKind::Group,
        encryption: Encryption::E2ee,
        title: Some("load".to_owned()),
        description: None,
        metadata: None,
        members: vec![reader],
        history_visible: false,
        posting: None,
    };
    progress(&format!("making {} conversations", parameters.conversations));
    let making = (0..parameters.conversations).map(|_| async { writer.create_conversation(&group()).await });
    let made: Vec<Conversation> = stream::iter(making).buffer_unordered(CALLS_AT_ONCE).try_collect().await?;
    let bytes: Vec<u8> = (0..parameters.payload).map(|_| rand::random()).collect();
    progress(&format!("sending {} messages", parameters.conversations * parameters.messages));
    let rooms = made.iter().flat_map(|one| std::iter::repeat_n(one.id, parameters.messages));
    let sending = rooms.map(async |room: ConversationId| {
        writer.send_message(room, &OutgoingMessage::sealed(IdGenerator.next(), "load", &bytes)).await
    });
    stream::iter(sending).buffer_unordered(CALLS_AT_ONCE).try_for_each(async |_| Ok(())).await?;
    Ok(())
}

/// From the first page of the list to the last.
#[derive(Debug, Default)]
struct Walk {
    conversations: usize,
    /// When each page was asked for, and when it was there.
    pages: Vec<(Instant, Instant)>,
}

impl Walk {
    async fn walk(mut self, reader: &Api, limit: u32) -> anyhow::Result<Self> {
        let mut cursor: Option<String> = None;
        loop {
            let request = reader.request(Method::GET, "conversations").query(&[("limit", limit)]);
            let request = request.query(&cursor.map(|cursor| [("cursor", cursor)]).unwrap_or_default());
            let asked = Instant::now();
            let page: Page<Conversation> = api::json(request).await?;
            self.pages.push((asked, Instant::now()));
            self.conversations += page.items.len();
            cursor = page.next;
            if !page.has_more {
                return Ok(self);
            }
        }
    }
}

async fn call(reader: Api, limit: u32, end: Instant) -> anyhow::Result<Vec<Walk>> {
    let mut walks = Vec::new();
    while Instant::now() < end {
        walks.push(Walk::default().walk(&reader, limit).await?);
    }
    Ok(walks)
}
