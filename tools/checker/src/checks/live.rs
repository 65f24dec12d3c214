//! Live streams: on one connection, from where its `sync` began, every entry once and in order.
//!
//! Where a conversation is live, the sender's `ack` stands in the place of the entry. From a `sync` to its
//! `sync_complete` the conversations that it replays are not live: there an `ack` comes at once and does not count.

use std::collections::{BTreeMap, BTreeSet};

use entrenous_model::{ConversationId, EntryId, UserId};

use super::Findings;
use crate::{Check, ConnectionNumber, Synced, What, index::At};

/// Where a connection stands in a conversation.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// Being replayed; `after` is the cursor or what was sent last, `first` what was sent first. Where it was live when the
    /// `sync` began, what is live may still be on its way: then the replay begins again, once, behind the cursor `again`.
    Syncing { after: Option<u64>, first: Option<u64>, since: At, again: Option<u64> },
    /// The next entry must follow `after`; where that is not known, any may come.
    Live { after: Option<u64>, since: At },
    /// Nothing may come until another `sync`.
    Paused { since: At },
    /// The user was removed: nothing may come.
    Left { since: At },
}

impl Place {
    /// It was live, and if the last `sync` was refused it still is.
    fn may_be_live(&self) -> bool {
        matches!(self, Self::Live { .. } | Self::Syncing { again: Some(_), .. })
    }
}

#[derive(Debug)]
struct Stream {
    user: UserId,
    places: BTreeMap<ConversationId, Place>,
    /// Where conversations stand that have no place of their own; none before the first `sync`.
    others: Option<Place>,
    synced_at: At,
    /// Joins that were acknowledged: in the place of their entry, or ahead of it where the news of them had come late.
    joined: BTreeSet<(ConversationId, u64)>,
}

pub(super) fn check(found: &mut Findings<'_>) {
    let mut streams: BTreeMap<ConnectionNumber, Stream> = BTreeMap::new();
    for (at, event) in found.index.events.iter().enumerate() {
        if let What::Connected { connection, user, .. } = &event.what {
            let stream =
                Stream { user: *user, places: BTreeMap::new(), others: None, synced_at: at, joined: BTreeSet::new() };
            streams.insert(*connection, stream);
        } else if let Some(stream) = connection_of(&event.what).and_then(|connection| streams.get_mut(&connection)) {
            stream.follow(found, at, &event.what);
        }
    }
}

fn connection_of(what: &What) -> Option<ConnectionNumber> {
    match what {
        What::SyncBegan { connection, .. }
        | What::SyncEnded { connection, .. }
        | What::Saw { connection, .. }
        | What::SawAck { connection, .. }
        | What::Joined { connection, .. }
        | What::Left { connection, .. }
        | What::Settled { connection } => Some(*connection),
        _ => None,
    }
}

impl Stream {
    fn follow(&mut self, found: &mut Findings<'_>, at: At, what: &What) {
        match what {
            What::SyncBegan { cursors, from_start, .. } => self.begin_sync(at, cursors, *from_start),
            What::SyncEnded { conversations, .. } => self.end_sync(found, at, conversations),
            What::Saw { conversation, seq, .. } => self.take_entry(found, at, *conversation, *seq),
            What::SawAck { conversation, seq, id, .. } => self.take_ack(found, at, *conversation, (*seq, *id)),
            What::Joined { conversation, seq, .. } => self.join(at, *conversation, *seq),
            What::Left { conversation, .. } => {
                self.places.insert(*conversation, Place::Left { since: at });
            }
            What::Settled { .. } => self.check_tails(found, at),
            _ => {}
        }
    }

    fn begin_sync(&mut self, at: At, cursors: &BTreeMap<ConversationId, u64>, from_start: bool) {
        let after = from_start.then_some(0);
        self.places.retain(|_, place| !matches!(place, Place::Left { .. }));
        // What an earlier `sync` left paused, or did not end, is replayed by this one, also without a cursor.
        for place in self.places.values_mut().filter(|place| !place.may_be_live()) {
            *place = Place::Syncing { after, first: None, since: at, again: None };
        }
        if !matches!(self.others, Some(Place::Live { .. })) {
            self.others = Some(Place::Syncing { after, first: None, since: at, again: None });
        }
        for (conversation, cursor) in cursors {
            let again = self.place(*conversation).filter(Place::may_be_live).map(|_| *cursor);
            self.places.insert(*conversation, Place::Syncing { after: Some(*cursor), first: None, since: at, again });
        }
    }

    fn end_sync(&mut self, found: &mut Findings<'_>, at: At, listed: &[Synced]) {
        self.synced_at = at;
        for synced in listed {
            self.end_listed(found, at, synced);
        }
        for (conversation, place) in &mut self.places {
            if let Place::Syncing { after, first, since, .. } = *place {
                if let Some(first) = first {
                    let summary = format!("seqs from {first} were sent and sync_complete does not list them");
                    found.add(Check::LiveStream, *conversation, summary, &[since, at]);
                }
                *place = Place::Live { after, since: at };
            }
        }
        if let Some(Place::Syncing { after, .. }) = self.others {
            self.others = Some(Place::Live { after, since: at });
        }
    }

    fn end_listed(&mut self, found: &mut Findings<'_>, at: At, synced: &Synced) {
        let conversation = synced.conversation;
        let Some(Place::Syncing { after, first, since, .. }) = self.place(conversation) else {
            self.places.insert(conversation, Place::Live { after: Some(synced.sent_up_to), since: at });
            return;
        };
        let mut complain = |summary: String| found.add(Check::LiveStream, conversation, summary, &[since, at]);
        if first.is_some_and(|first| first != synced.starts_at) {
            complain(format!("sync_complete says it began at {}, but seq {first:?} came first", synced.starts_at));
        }
        if first.is_some() && after != Some(synced.sent_up_to) {
            complain(format!("sync_complete says it sent up to {}, but {after:?} came last", synced.sent_up_to));
        }
        let is_ahead = first.is_none() && after.is_some_and(|cursor| cursor > synced.last_seq);
        if first.is_none() && !synced.has_more && !is_ahead {
            complain(format!("sync_complete lists seqs up to {} of which none came", synced.sent_up_to));
        }
        if first.is_some() && !synced.has_more && synced.sent_up_to < synced.last_seq {
            complain(format!("{} of {} came, and sync_complete does not say so", synced.sent_up_to, synced.last_seq));
        }
        let place = if synced.has_more || is_ahead {
            Place::Paused { since: at }
        } else {
            Place::Live { after: Some(synced.sent_up_to), since: at }
        };
        self.places.insert(conversation, place);
    }

    fn place(&self, conversation: ConversationId) -> Option<Place> {
        self.places.get(&conversation).copied().or(self.others)
    }

    fn take_entry(&mut self, found: &mut Findings<'_>, at: At, conversation: ConversationId, seq: u64) {
        let place = match self.place(conversation) {
            None => {
                found.add(Check::LiveStream, conversation, format!("seq {seq} came before any sync"), &[at]);
                Place::Live { after: Some(seq), since: at }
            }
            Some(place @ (Place::Paused { since } | Place::Left { since })) => {
                let summary = format!("seq {seq} came while the conversation was paused");
                found.add(Check::LiveStream, conversation, summary, &[since, at]);
                place
            }
            Some(Place::Syncing { after, again: Some(cursor), .. })
                if after.is_some_and(|after| seq <= after)
                    && found.index.next_visible(conversation, self.user, cursor) == Some(seq) =>
            {
                Place::Syncing { after: Some(seq), first: Some(seq), since: at, again: None }
            }
            Some(Place::Syncing { after, first, since, again }) => {
                // Who joined again reads from there on, whatever the cursor says.
                let begins = first.is_none() && found.index.begins_at(conversation, self.user, seq);
                if !begins || after.is_some_and(|after| seq <= after) {
                    self.check_next(found, conversation, (after, since), (seq, at));
                }
                Place::Syncing { after: Some(seq), first: first.or(Some(seq)), since: at, again }
            }
            Some(place @ Place::Live { after: Some(after), .. })
                if after == seq && self.joined.remove(&(conversation, seq)) =>
            {
                place
            }
            Some(Place::Live { after, since }) => {
                self.check_next(found, conversation, (after, since), (seq, at));
                Place::Live { after: Some(seq.max(after.unwrap_or(0))), since: at }
            }
        };
        self.places.insert(conversation, place);
    }

    fn check_next(
        &self,
        found: &mut Findings<'_>,
        conversation: ConversationId,
        (after, since): (Option<u64>, At),
        (seq, at): (u64, At),
    ) {
        let Some(after) = after else { return };
        if seq <= after {
            let summary = format!("seq {seq} came again, or late: {after} had been reached");
            found.add(Check::LiveStream, conversation, summary, &[since, at]);
        } else if let Some(next) = found.index.next_visible(conversation, self.user, after)
            && next < seq
        {
            let summary = format!("seqs {next} to {} are missing before seq {seq}", seq - 1);
            found.add(Check::LiveStream, conversation, summary, &[since, at]);
        }
    }

    fn take_ack(&mut self, found: &mut Findings<'_>, at: At, conversation: ConversationId, ack: (u64, EntryId)) {
        let (seq, id) = ack;
        let moving = found.index.moves.get(&(conversation, id)).map(|(_, is_coming)| *is_coming);
        // Who comes, and is not told yet, is acknowledged at once.
        if moving.is_some() && !self.places.contains_key(&conversation) {
            return;
        }
        let follows = |after: Option<u64>| {
            after.and_then(|after| found.index.next_visible(conversation, self.user, after)) == Some(seq)
        };
        let (after, since) = match self.place(conversation) {
            Some(Place::Live { after, since }) => (after, since),
            // Still on its way from when the conversation was live.
            Some(Place::Syncing { after, first, since, again: again @ Some(_) }) if follows(after) => {
                self.places.insert(conversation, Place::Syncing { after: Some(seq), first, since, again });
                return;
            }
            _ => return,
        };
        if after.is_none() || follows(after) {
            let place = match moving {
                Some(false) => Place::Left { since: at },
                Some(true) | None => Place::Live { after: Some(seq), since: at },
            };
            self.places.insert(conversation, place);
            self.joined.extend((moving == Some(true)).then_some((conversation, seq)));
            return;
        }
        // That of who has come or gone before names that; a scheduled message has come or comes as an entry.
        if moving.is_some() || found.index.planned.contains_key(&(conversation, id)) {
            return;
        }
        // Whoever was added since the `sync` and is not told yet is acknowledged at once.
        if !self.places.contains_key(&conversation) {
            return;
        }
        // The `ack` of a repeat may come at any time, and so may that of a send from before the `sync` was complete.
        let sent = found.index.first_attempt(conversation, id).map(|attempt| attempt.began);
        if found.index.is_repeated(conversation, id) || sent.is_some_and(|sent| sent < self.synced_at) {
            return;
        }
        let summary = format!("the ack of seq {seq} is out of its place: {after:?} had been reached");
        found.add(Check::LiveStream, conversation, summary, &[since, at]);
    }

    fn join(&mut self, at: At, conversation: ConversationId, seq: u64) {
        let before = seq.saturating_sub(1);
        let is_beyond = match self.places.get(&conversation) {
            Some(Place::Live { after: Some(after), .. } | Place::Syncing { after: Some(after), .. }) => {
                *after >= before
            }
            _ => false,
        };
        if !is_beyond {
            self.places.insert(conversation, Place::Live { after: Some(before), since: at });
        }
    }

    /// Everything that the user may see has come.
    fn check_tails(&self, found: &mut Findings<'_>, at: At) {
        let index = found.index;
        for (conversation, log) in &index.logs {
            let (next, since) = match self.places.get(conversation) {
                Some(Place::Live { after: Some(after), since }) => {
                    (index.next_visible(*conversation, self.user, *after), *since)
                }
                Some(_) => continue,
                // Nothing came at all: then there must be nothing that a member may see.
                None => match self.others {
                    Some(Place::Live { after: Some(_), since }) => {
                        (index.member_since(*conversation, self.user), since)
                    }
                    _ => continue,
                },
            };
            if let Some(next) = next.filter(|next| *next <= log.head()) {
                let summary = format!("{} never got seqs from {next} on; the head is {}", self.user, log.head());
                found.add(Check::LiveStream, *conversation, summary, &[since, at]);
            }
        }
    }
}
