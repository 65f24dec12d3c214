//! Messages that are there before something is measured.

use entrenous_client::{
    Socket, Target as To,
    frame::{self, HeadKind},
};
use entrenous_model::{IdGenerator, UserId};
use futures::{StreamExt, TryStreamExt, stream};

use crate::{
    output::Bar,
    people::{Person, Sync},
    traffic::{Template, error_code},
};

/// Messages that one connection keeps under way, at most 256. Source: docs/protocol.md, section 3.
const IN_FLIGHT: usize = 128;

/// People who write at once: each first message makes a conversation, and too many of these at once are refused.
const WRITERS_AT_ONCE: usize = 4;

/// Sends all, many under way at once, and waits until all are acknowledged.
pub(crate) async fn send(
    socket: &mut Socket,
    mut frames: impl Iterator<Item = String>,
    bar: &Bar,
) -> anyhow::Result<()> {
    let mut under_way = 0_usize;
    loop {
        for frame in frames.by_ref().take(IN_FLIGHT - under_way) {
            socket.feed(frame).await?;
            under_way += 1;
        }
        if under_way == 0 {
            return Ok(());
        }
        socket.flush().await?;
        let text = socket.next().await?;
        match frame::head(&text)?.kind {
            HeadKind::Ack => {
                under_way -= 1;
                bar.step();
            }
            HeadKind::Error => anyhow::bail!("the server refuses: {}", error_code(&text)),
            _ => {}
        }
    }
}

/// One conversation gets so many messages of one person's.
pub(crate) async fn conversation(writer: &Person, to: To, (count, payload): (usize, usize)) -> anyhow::Result<()> {
    let bar = Bar::of(&format!("sending {count} messages"), count);
    let template = Template::new(to, payload)?;
    let mut socket = writer.connect(Sync::None).await?;
    send(&mut socket, (0..count).map(|_| template.with(IdGenerator.next())), &bar).await
}

/// Everybody gets so many direct conversations with others, and each of these so many messages.
pub(crate) async fn directs(
    people: &[Person],
    conversations: usize,
    (messages, payload): (usize, usize),
) -> anyhow::Result<()> {
    let pairs = pairs(people.len(), conversations);
    let count = pairs.len() * messages;
    let bar = Bar::of(&format!("sending {count} messages into {} conversations", pairs.len()), count);
    let writing = people.iter().enumerate().map(async |(number, writer)| {
        let others = pairs.iter().filter(|(from, _)| *from == number).filter_map(|(_, to)| people.get(*to));
        write(writer, others.map(|other| other.user_id).collect(), (messages, payload), &bar).await
    });
    stream::iter(writing).buffer_unordered(WRITERS_AT_ONCE).try_collect().await
}

async fn write(
    writer: &Person,
    others: Vec<UserId>,
    (messages, payload): (usize, usize),
    bar: &Bar,
) -> anyhow::Result<()> {
    let templates = others.into_iter().map(|other| Template::new(To::User(other), payload));
    let templates: Vec<_> = templates.collect::<Result<_, _>>()?;
    let frames = (0..messages).flat_map(|_| &templates).map(|template| template.with(IdGenerator.next()));
    send(&mut writer.connect(Sync::None).await?, frames, bar).await
}

/// Who meets whom, so that each of `people` is in `degree` pairs: everybody with the next ones in a circle, and where the
/// degree is odd with the one opposite.
pub(crate) fn pairs(people: usize, degree: usize) -> Vec<(usize, usize)> {
    let around = |step: usize| (0..people).map(move |from| (from, (from + step) % people));
    let mut pairs: Vec<_> = (1..=degree / 2).flat_map(around).collect();
    if !degree.is_multiple_of(2) {
        pairs.extend((0..people / 2).map(|from| (from, from + people / 2)));
    }
    pairs
}

/// Whether so many people can have as many conversations each.
pub(crate) fn check_pairs(people: usize, conversations: usize) -> anyhow::Result<()> {
    anyhow::ensure!(
        conversations < people && (conversations.is_multiple_of(2) || people.is_multiple_of(2)),
        "{people} people cannot have {conversations} conversations each: give fewer, or an even number"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn everybody_is_in_as_many_pairs_and_no_pair_comes_twice() {
        for (people, degree) in [(2, 1), (10, 1), (10, 4), (10, 5), (9, 4), (3_000, 7), (10, 0)] {
            assert!(check_pairs(people, degree).is_ok(), "{people} {degree}");
            let pairs = pairs(people, degree);
            let different: BTreeSet<_> = pairs.iter().map(|(one, other)| (one.min(other), one.max(other))).collect();
            assert_eq!((different.len(), pairs.len()), (people * degree / 2, people * degree / 2), "{people} {degree}");
            let of = |who: usize| pairs.iter().filter(|(one, other)| who == *one || who == *other).count();
            assert!((0..people.min(50)).all(|who| of(who) == degree), "{people} {degree}");
        }
        assert!(check_pairs(9, 5).is_err() && check_pairs(4, 4).is_err());
    }
}
