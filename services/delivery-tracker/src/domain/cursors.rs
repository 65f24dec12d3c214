//! Cursors of one batch, brought into the form in which they are stored.
//!
//! A cursor only grows: it is the maximum of what was ever reported. A maximum may be taken in any order and as often as
//! one likes, so requests may be repeated, reordered and merged without harm.

use entrenous_protocol::rpc::tracker::CursorAdvance;

/// One cursor for each device and conversation, the greatest; sorted by device, then conversation, so that two batches
/// lock the rows that they share in the same order. Cursors at 0 say nothing and are left out.
pub fn merge(mut advances: Vec<CursorAdvance>) -> Vec<CursorAdvance> {
    advances.retain(|advance| advance.delivered_seq.max(advance.known_read_seq()) > 0);
    // The user last, so that the outcome does not depend on the order even where two users claim one device.
    advances.sort_unstable_by_key(|advance| (advance.device_id, advance.conversation_id, advance.user_id));
    advances.dedup_by(|next, kept| {
        let is_same = (next.device_id, next.conversation_id) == (kept.device_id, kept.conversation_id);
        if is_same {
            kept.delivered_seq = kept.delivered_seq.max(next.delivered_seq);
            kept.read_seq = kept.read_seq.max(next.read_seq);
            kept.sent_seq = kept.sent_seq.max(next.sent_seq);
        }
        is_same
    });
    advances
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use entrenous_model::{ConversationId, DeviceId};
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    type Cursors = BTreeMap<(DeviceId, ConversationId), u64>;

    fn advances() -> impl Strategy<Value = Vec<CursorAdvance>> {
        let advance =
            (0..4_u128, 0..4_u128, 0..20_u64).prop_map(|(device, conversation, delivered_seq)| CursorAdvance {
                user_id: Uuid::from_u128(device % 2).into(),
                device_id: Uuid::from_u128(device).into(),
                conversation_id: Uuid::from_u128(conversation).into(),
                delivered_seq,
                read_seq: delivered_seq / 2,
                sent_seq: 0,
            });
        proptest::collection::vec(advance, 0..40)
    }

    /// What the table does with a batch.
    fn store(cursors: &mut Cursors, batch: &[CursorAdvance]) {
        for advance in batch {
            let cursor = cursors.entry((advance.device_id, advance.conversation_id)).or_default();
            *cursor = advance.delivered_seq.max(*cursor);
        }
    }

    proptest! {
        #[test]
        fn any_order_of_repeated_receipts_gives_the_same_cursors(
            (once, again) in advances().prop_flat_map(|once| {
                let twice = [once.clone(), once.clone()].concat();
                (Just(once), Just(twice).prop_shuffle())
            }),
            size in 1..20_usize,
        ) {
            let (mut expected, mut cursors) = (Cursors::new(), Cursors::new());
            store(&mut expected, &merge(once));
            for batch in again.chunks(size) {
                store(&mut cursors, &merge(batch.to_vec()));
            }
            prop_assert_eq!(cursors, expected);
        }

        #[test]
        fn a_merged_batch_is_sorted_and_names_each_cursor_once(advances in advances()) {
            let merged = merge(advances.clone());
            let keys: Vec<_> = merged.iter().map(|advance| (advance.device_id, advance.conversation_id)).collect();
            prop_assert!(keys.is_sorted_by(|one, other| one < other));
            prop_assert_eq!(merge(merged.clone()), merged.clone());
            for advance in advances {
                let kept = merged.iter().find(|kept| {
                    (kept.device_id, kept.conversation_id) == (advance.device_id, advance.conversation_id)
                });
                prop_assert!(kept.map_or(0, |kept| kept.delivered_seq) >= advance.delivered_seq);
                prop_assert!(kept.map_or(0, |kept| kept.read_seq) >= advance.read_seq);
            }
        }
    }
}
