//! A channel: its owner writes, very many members receive; what counts is when the last of them has it.
//!
//! What the members do is kept cheap, because on a small machine it takes from the servers: of each frame only the beginning
//! is looked at.

use std::sync::Arc;

use entrenous_client::{Socket, Target as To};
use entrenous_model::{ConversationId, EntryId};
use entrenous_protocol::{entry::ConversationKind, rest::CreateConversation};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use crate::{
    Target,
    course::{Course, Loop},
    group::LastOf,
    measure::Measure,
    output::progress,
    people::{self, CALLS_AT_ONCE, Person, Sync},
    report::Report,
    stamp::Stamps,
    traffic::{Receipts, Run, Template},
    window::{Span, Window},
};

/// Members that the channel is made with: their ids fit the smallest body that a server takes. The others are added.
const FIRST_MEMBERS: usize = 1_000;
/// Open files beside the connections.
const OTHER_FILES: u64 = 64;
/// How a message's frame begins, before its id.
const MESSAGE_BEGINS: &str = r#"{"type":"group_message","id":""#;
/// Characters of an id.
const ID_CHARS: usize = 36;

/// How many, how fast, how long.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub(crate) struct Parameters {
    /// Members of the channel, its owner among them.
    #[arg(long, default_value_t = 10_000)]
    members: usize,
    /// Messages a second.
    #[arg(long, default_value_t = 1.0)]
    rate: f64,
    /// How long.
    #[command(flatten)]
    #[serde(flatten)]
    span: Span,
    /// Bytes of each ciphertext.
    #[arg(long, default_value_t = 256)]
    payload: usize,
}

/// Runs the scenario.
pub(crate) async fn run(target: Target<'_>, parameters: &Parameters) -> anyhow::Result<Report> {
    check(target, parameters)?;
    let people = people::make(target.servers, parameters.members).await?;
    let template = Template::new(To::Conversation(begin(&people).await?), parameters.payload)?;
    let mut sockets = people::connect(&people, Sync::Now).await?;
    let Some(writing) = sockets.pop() else { anyhow::bail!("nobody writes") };
    let receivers = sockets.len();
    let stamps = Stamps::begin();
    let window = Window::soon(&stamps, parameters.span);
    let measure = Arc::new(Measure::new(window, true)?);
    let observer = Arc::new(LastOf::new(&measure, receivers));
    let run = Arc::new(Run { observer, stamps, window, receipts: Receipts::None });
    let mut course = Course::new(window);
    for socket in sockets {
        course.spawn(read(Arc::clone(&run), socket));
    }
    course.write(&run, vec![(writing, template)], Loop::Open(parameters.rate))?;
    let servers = course.finish(target, &[&measure]).await?;
    let measured = measure.result();
    Ok(Report::messages(parameters, &measured, servers)?.with_cpu_per_delivery(&measured, receivers))
}

fn check(target: Target<'_>, parameters: &Parameters) -> anyhow::Result<()> {
    let members = parameters.members;
    anyhow::ensure!(members > 1 && parameters.rate > 0.0, "there must be something to send");
    let needed = u64::try_from(members)? + OTHER_FILES;
    let files_max = target.files_max;
    anyhow::ensure!(
        needed <= files_max,
        "{members} members need {needed} open files, and this process may have {files_max}: give fewer --members, or \
         raise the limit (ulimit -n), for the gateways too"
    );
    Ok(())
}

/// Makes the channel: the last one is its owner.
async fn begin(people: &[Person]) -> anyhow::Result<ConversationId> {
    let Some((owner, others)) = people.split_last() else { anyhow::bail!("nobody") };
    let (first, later) = others.split_at(others.len().min(FIRST_MEMBERS));
    let channel = CreateConversation {
        title: Some("load".to_owned()),
        members: first.iter().map(|person| person.user_id).collect(),
        ..CreateConversation::of(ConversationKind::Channel)
    };
    let api = owner.api()?;
    let channel = api.create_conversation(&channel).await?.id;
    progress(&format!("adding {} members", later.len()));
    let adding = later.iter().map(|person| api.add_member(channel, person.user_id, None));
    stream::iter(adding).buffer_unordered(CALLS_AT_ONCE).try_for_each(async |_| Ok(())).await?;
    Ok(channel)
}

/// Receives.
async fn read(run: Arc<Run>, mut socket: Socket) {
    loop {
        match socket.next().await {
            Ok(text) => {
                if let Some((id, due)) = message_id(&text).and_then(|id| Some((id, run.stamps.due(id)?))) {
                    run.observer.received(due, id);
                }
            }
            Err(end) => return run.observer.failed(&end.to_string()),
        }
    }
}

/// The id of a message, from the beginning of its frame.
fn message_id(text: &str) -> Option<EntryId> {
    text.strip_prefix(MESSAGE_BEGINS)?.get(..ID_CHARS)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use entrenous_protocol::Entry;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_beginning_of_a_frame_tells_the_message() {
        let id = "01900000-0000-7000-8000-000000000001";
        let entry: Entry = serde_json::from_value(json!({
            "id": id, "conversation_id": id, "seq": 2, "kind": "message", "sender_id": id, "sender_device_id": id,
            "message_type": "text", "content": {"text": "x"}, "reply_to": null, "thread_id": null, "attachments": [],
            "mentions": [], "metadata": {}, "signature": null, "sent_at": "2026-11-20T10:30:00.123Z",
            "edited_at": null, "edit_count": 0, "deleted": false, "expires_at": null
        }))
        .unwrap();
        let frame = entry.frame(ConversationKind::Channel, uuid::Uuid::nil());
        assert_eq!(message_id(frame.get()), Some(id.parse().unwrap()));
        assert_eq!(message_id(r#"{"type":"heartbeat","id":null}"#), None);
        assert_eq!(message_id(MESSAGE_BEGINS), None);
    }
}
