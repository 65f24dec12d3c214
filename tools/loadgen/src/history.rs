//! A long conversation whose end is read again and again by REST: how long a read takes, and what it costs.
//!
//! Closed loop: each reader reads again when it has its answer.

use std::time::Duration;

use entrenous_client::{Target as To, api::HistoryPage};
use serde::Serialize;

use crate::{Target, calls::Callers, fill, group, people, report::Report};

/// How much, how many, how long.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub(crate) struct Parameters {
    /// Messages in the conversation.
    #[arg(long, default_value_t = 20_000)]
    messages: usize,
    /// Readers at once.
    #[arg(long, default_value_t = 4)]
    readers: usize,
    /// Messages that each read asks for, at most 100: the last ones.
    #[arg(long, default_value_t = 50)]
    page: u32,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 15)]
    duration: u64,
    /// Bytes of each ciphertext.
    #[arg(long, default_value_t = 256)]
    payload: usize,
}

/// Runs the scenario.
pub(crate) async fn run(target: Target<'_>, parameters: &Parameters) -> anyhow::Result<Report> {
    let Parameters { messages, readers, page, duration, payload } = *parameters;
    anyhow::ensure!(messages > 0 && readers > 0, "there must be something to read");
    let people = people::make(target.servers, 2).await?;
    let [reader, writer] = people.as_slice() else { anyhow::bail!("two people") };
    let conversation = group::begin(&people).await?;
    fill::conversation(writer, To::Conversation(conversation), (messages, payload)).await?;
    let reader = reader.api()?;
    let wanted = HistoryPage { limit: Some(page), ..HistoryPage::default() };
    let expected = messages.min(usize::try_from(page)?);
    let mut callers = Callers::begin(target, Duration::from_secs(duration))?;
    for _ in 0..readers {
        let reader = reader.clone();
        callers.spawn(move || {
            let reader = reader.clone();
            async move {
                let read = reader.history(conversation, wanted).await?;
                anyhow::ensure!(read.items.len() == expected, "{} messages were read", read.items.len());
                Ok(read)
            }
        });
    }
    callers.report(target, (parameters, "a read")).await
}
