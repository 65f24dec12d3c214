//! How a batch is cut: the append function takes each pair of conversation and id once a call, and a message that the
//! database cannot take must be found.

use std::hash::Hash;

use ahash::{AHashMap, AHashSet};

/// One message, as far as cutting goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece<C, I, V> {
    /// Its place in the request.
    pub(crate) index: usize,
    /// Its conversation.
    pub(crate) conversation: C,
    /// Its id.
    pub(crate) id: I,
    /// What a repeat must share: sender, device, digest.
    pub(crate) value: V,
}

/// What goes to the database in one call, and what waits for it.
#[derive(Debug)]
pub(crate) struct Round<C, I, V> {
    /// Distinct pairs of conversation and id, in the order of the request.
    pub(crate) now: Vec<Piece<C, I, V>>,
    /// Repeats of one in `now`: (its own index, the index of the one that it repeats). Same outcome.
    pub(crate) copies: Vec<(usize, usize)>,
    /// Others with an id of one in `now`, and all that come after them in their conversations.
    pub(crate) later: Vec<Piece<C, I, V>>,
}

/// Takes as much as one call can carry.
pub(crate) fn round<C, I, V>(pieces: Vec<Piece<C, I, V>>) -> Round<C, I, V>
where
    C: Copy + Eq + Hash,
    I: Copy + Eq + Hash,
    V: PartialEq,
{
    let mut round = Round { now: Vec::with_capacity(pieces.len()), copies: Vec::new(), later: Vec::new() };
    let mut first: AHashMap<(C, I), usize> = AHashMap::with_capacity(pieces.len());
    let mut waiting: AHashSet<C> = AHashSet::new();
    for piece in pieces {
        if waiting.contains(&piece.conversation) {
            round.later.push(piece);
            continue;
        }
        let known = first.get(&(piece.conversation, piece.id)).and_then(|place| round.now.get(*place));
        match known {
            None => {
                first.insert((piece.conversation, piece.id), round.now.len());
                round.now.push(piece);
            }
            Some(known) if known.value == piece.value => round.copies.push((piece.index, known.index)),
            Some(_) => {
                waiting.insert(piece.conversation);
                round.later.push(piece);
            }
        }
    }
    round
}

/// Both halves of a batch that the database refused; none for a single one, which is the one at fault.
pub(crate) fn halves<T>(mut batch: Vec<T>) -> Option<(Vec<T>, Vec<T>)> {
    if batch.len() < 2 {
        return None;
    }
    let second = batch.split_off(batch.len() / 2);
    Some((batch, second))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(list: &[(u8, u8, u8)]) -> Vec<Piece<u8, u8, u8>> {
        list.iter()
            .enumerate()
            .map(|(index, (conversation, id, value))| Piece {
                index,
                conversation: *conversation,
                id: *id,
                value: *value,
            })
            .collect()
    }

    fn indices(pieces: &[Piece<u8, u8, u8>]) -> Vec<usize> {
        pieces.iter().map(|piece| piece.index).collect()
    }

    #[test]
    fn repeats_share_the_outcome_of_the_first() {
        let round = round(pieces(&[(1, 1, 1), (2, 1, 1), (1, 1, 1), (1, 2, 1)]));
        assert_eq!(indices(&round.now), [0, 1, 3]);
        assert_eq!(round.copies, [(2, 0)]);
        assert!(round.later.is_empty());
    }

    #[test]
    fn other_values_wait_with_all_behind_them_in_their_conversation() {
        let round = round(pieces(&[(1, 1, 1), (1, 1, 2), (1, 2, 1), (2, 1, 1), (1, 1, 1)]));
        assert_eq!(indices(&round.now), [0, 3]);
        assert_eq!(indices(&round.later), [1, 2, 4]);
        assert!(round.copies.is_empty());
    }

    #[test]
    fn halves_end_at_one() {
        assert_eq!(halves(vec![1, 2, 3]), Some((vec![1], vec![2, 3])));
        assert_eq!(halves(vec![1]), None);
        assert_eq!(halves(Vec::<u8>::new()), None);
    }
}
