//! A presence storm: all watched users leave and come back, first within the grace and then after it, while bystanders talk.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use entrenous_client::{
    Socket,
    frame::{self, Body},
    outgoing,
};
use entrenous_model::UserId;
use entrenous_protocol::rest::{ProfilePatch, VisibleTo};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    Target,
    bystanders::{Bystanders, Talk},
    output::progress,
    people::{self, CALLS_AT_ONCE, Person, Sync},
    phases::Reading,
    report::{Report, to_f64},
};

/// Open files beside the connections.
const OTHER_FILES: u64 = 64;
/// How long the watchers may take to be told of everybody.
const TOLD_MAX: Duration = Duration::from_secs(120);
/// How long it is waited for news that should not come: longer than grace and signs of life.
const BLINK: Duration = Duration::from_secs(20);

/// How many, and who looks on.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub(crate) struct Parameters {
    /// Users who are watched.
    #[arg(long, default_value_t = 3_000)]
    watched: usize,
    /// Connections that watch.
    #[arg(long, default_value_t = 300)]
    watchers: usize,
    /// Users whom each of them watches.
    #[arg(long, default_value_t = 100)]
    each: usize,
    /// Pairs of bystanders, whose connections stay.
    #[arg(long, default_value_t = 10)]
    bystanders: usize,
    /// Messages a second of all bystanders together.
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// Bytes of each ciphertext.
    #[arg(long, default_value_t = 256)]
    payload: usize,
    /// Seconds that are measured before the storm, and after it.
    #[arg(long, default_value_t = 10)]
    calm: u64,
}

/// What the watchers were told.
#[derive(Debug, Default)]
struct Seen {
    frames: watch::Sender<u64>,
    /// Pairs of watcher and user who is said to be there.
    there: watch::Sender<usize>,
    trouble: Mutex<Option<String>>,
}

/// Runs the scenario.
pub(crate) async fn run(target: Target<'_>, parameters: &Parameters) -> anyhow::Result<Report> {
    check(target, parameters)?;
    let Parameters { watched, watchers, each, bystanders, rate, payload, calm } = *parameters;
    let people = people::make(target.servers, watched + watchers + bystanders * 2).await?;
    let (stars, others) = people.split_at(watched);
    let (fans, staying) = others.split_at(watchers);
    show_to_everyone(stars).await?;
    let seen = Arc::new(Seen::default());
    let _watching = watch_all(fans, stars, each, &seen).await?;
    let pairs = watchers * each;
    let at_most = Duration::from_secs(calm * 2) + BLINK + TOLD_MAX * 3;
    let talking = Bystanders::start(staying, Talk { rate, payload, at_most }).await?;
    let mut storm = Storm { target, seen, pairs, readings: Vec::new() };
    let mut here = come(stars).await?;
    storm.seen.wait(pairs).await.context("the watchers were not told that all are there")?;

    storm.phase("before").await?;
    tokio::time::sleep(Duration::from_secs(calm)).await;
    storm.phase("blink").await?;
    here.shutdown().await;
    here = come(stars).await?;
    tokio::time::sleep(BLINK).await;
    storm.phase("all leave").await?;
    here.shutdown().await;
    storm.seen.wait(0).await.context("the watchers were not told that all have left")?;
    storm.phase("all come").await?;
    here = come(stars).await?;
    storm.seen.wait(pairs).await.context("the watchers were not told that all are back")?;
    storm.phase("after").await?;
    tokio::time::sleep(Duration::from_secs(calm)).await;
    storm.phase("end").await?;
    here.shutdown().await;
    let samples = talking.stop().await?;
    storm.report(parameters, &samples)
}

fn check(target: Target<'_>, parameters: &Parameters) -> anyhow::Result<()> {
    let Parameters { watched, watchers, each, bystanders, rate, .. } = *parameters;
    anyhow::ensure!(each > 0 && each <= watched, "each must watch somebody, and at most all");
    anyhow::ensure!(watchers > 0 && bystanders > 0 && rate > 0.0, "there must be watchers, bystanders and a rate");
    let needed = u64::try_from(watched + watchers + bystanders * 2)? + OTHER_FILES;
    let files_max = target.files_max;
    anyhow::ensure!(needed <= files_max, "{needed} open files are needed, and this process may have {files_max}");
    Ok(())
}

/// Nobody shares a conversation with anybody here.
async fn show_to_everyone(people: &[Person]) -> anyhow::Result<()> {
    progress("showing the presence of all to everyone");
    let patch = ProfilePatch { presence_visible_to: Some(Some(VisibleTo::Everyone)), ..ProfilePatch::default() };
    let showing = people.iter().map(|person| {
        let patch = patch.clone();
        async move { person.api()?.update_me(&patch).await.map(drop).map_err(anyhow::Error::from) }
    });
    stream::iter(showing).buffer_unordered(CALLS_AT_ONCE).try_collect().await
}

/// Each fan watches the next few stars, so that all of them are watched alike.
async fn watch_all(fans: &[Person], stars: &[Person], each: usize, seen: &Arc<Seen>) -> anyhow::Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    for (number, mut socket) in people::connect(fans, Sync::Now).await?.into_iter().enumerate() {
        let user_ids: Vec<UserId> =
            stars.iter().cycle().skip(number * each % stars.len()).take(each).map(|star| star.user_id).collect();
        socket.send(outgoing::watch_status(None, &user_ids)).await?;
        tasks.spawn(look(socket, Arc::clone(seen)));
    }
    Ok(tasks)
}

/// Counts what one watcher is told.
async fn look(mut socket: Socket, seen: Arc<Seen>) {
    let mut there: HashMap<UserId, bool> = HashMap::new();
    loop {
        let text = match socket.next().await {
            Ok(text) => text,
            Err(error) => return seen.note(&format!("a watcher was closed: {error}")),
        };
        match frame::parse(&text).map(|frame| frame.body) {
            Ok(Body::Status(status)) => {
                let is_there = status.status != "offline";
                let was_there = there.insert(status.user_id, is_there).unwrap_or(false);
                seen.frames.send_modify(|count| *count += 1);
                seen.there.send_modify(|count| *count = *count + usize::from(is_there) - usize::from(was_there));
            }
            Ok(Body::Error(error)) => return seen.note(&format!("a watcher was refused: {error:?}")),
            _ => {}
        }
    }
}

impl Seen {
    fn note(&self, trouble: &str) {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| trouble.to_owned());
    }

    async fn wait(&self, pairs: usize) -> anyhow::Result<()> {
        let mut there = self.there.subscribe();
        let waited = tokio::time::timeout(TOLD_MAX, there.wait_for(|count| *count == pairs)).await;
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        anyhow::ensure!(trouble.is_none(), trouble.unwrap_or_default());
        anyhow::ensure!(waited.is_ok(), "{} of {pairs} after {} s", *self.there.borrow(), TOLD_MAX.as_secs());
        Ok(())
    }
}

/// Connects all, and keeps them connected until the tasks are ended.
async fn come(people: &[Person]) -> anyhow::Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    for mut socket in people::connect(people, Sync::Now).await? {
        tasks.spawn(async move { while socket.next().await.is_ok() {} });
    }
    Ok(tasks)
}

struct Storm<'a> {
    target: Target<'a>,
    seen: Arc<Seen>,
    pairs: usize,
    readings: Vec<(&'static str, Reading, u64)>,
}

impl Storm<'_> {
    /// A phase begins, and the one before it ends.
    async fn phase(&mut self, name: &'static str) -> anyhow::Result<()> {
        progress(name);
        let frames = *self.seen.frames.borrow();
        self.readings.push((name, Reading::take(self.target).await?, frames));
        Ok(())
    }

    fn report(self, parameters: &Parameters, samples: &crate::measure::Samples) -> anyhow::Result<Report> {
        let (Some(first), Some(last)) = (self.readings.first(), self.readings.last()) else {
            anyhow::bail!("nothing was measured")
        };
        let mut report = Report::new(parameters, first.1.servers(&last.1))?
            .with_figure("pairs of watcher and watched user", to_f64(u64::try_from(self.pairs)?));
        let mut phases = Vec::new();
        for (from, to) in self.readings.iter().zip(self.readings.iter().skip(1)) {
            phases.push(from.1.phase(from.0, &to.1, samples)?);
            report = report.with_figure(&format!("statuses told, {}", from.0), to_f64(to.2 - from.2));
        }
        Ok(report.with_phases(phases).with_errors(samples.errors()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_waited_for_exactly_as_many_as_are_wanted() {
        let seen = Seen::default();
        seen.there.send_replace(7);
        seen.wait(7).await.unwrap();
        seen.note("gone");
        seen.there.send_replace(0);
        assert!(seen.wait(0).await.unwrap_err().to_string().contains("gone"));
    }
}
