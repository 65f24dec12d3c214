//! What cursors promise.

use std::collections::BTreeMap;

use entrenous_protocol::{Code, Failure, rpc::tracker::CURSORS_MAX};
use tokio::task::JoinSet;

use crate::fixture::{Fixture, advance, cursor, device, moved};

#[tokio::test(flavor = "multi_thread")]
async fn cursors_move_forward_and_never_back() {
    let fixture = Fixture::start().await;
    let replica = fixture.replica().await;
    assert_eq!(fixture.cursors(device(1)).await.unwrap(), []);

    fixture.advance(vec![moved(1, 1, 5), moved(1, 2, 7), moved(1, 1, 3), moved(2, 1, 1)]).await.unwrap();
    assert_eq!(fixture.cursors(device(1)).await.unwrap(), [cursor(1, 5), cursor(2, 7)]);

    fixture.advance(vec![moved(1, 1, 4), moved(1, 2, 7), moved(1, 3, 0)]).await.unwrap();
    assert_eq!(fixture.cursors(device(1)).await.unwrap(), [cursor(1, 5), cursor(2, 7)]);

    fixture.advance(vec![moved(1, 1, 6)]).await.unwrap();
    assert_eq!(fixture.cursors(device(1)).await.unwrap(), [cursor(1, 6), cursor(2, 7)]);
    assert_eq!(fixture.cursors(device(2)).await.unwrap(), [cursor(1, 1)]);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_bounded() {
    let fixture = Fixture::start().await;
    let replica = fixture.replica().await;
    let full: Vec<_> = (1..=CURSORS_MAX).map(|number| moved(1, u128::try_from(number).unwrap(), 1)).collect();
    fixture.advance(full.clone()).await.unwrap();
    assert_eq!(fixture.cursors(device(1)).await.unwrap().len(), CURSORS_MAX);

    let too_many = [full, vec![moved(2, 1, 1)]].concat();
    assert_eq!(fixture.advance(too_many).await.unwrap_err().code, Code::Invalid);
    let too_far = vec![moved(2, 1, 1), moved(2, 2, u64::MAX)];
    assert_eq!(fixture.advance(too_far).await.unwrap_err().code, Code::Invalid);
    assert_eq!(fixture.cursors(device(2)).await.unwrap(), []);
    replica.stop().await;
}

/// Requests on their way at once: fewer than one replica takes, so that none is refused.
const IN_FLIGHT: usize = 32;

/// Receipts of 8 devices in 40 conversations, 10 each.
fn receipts() -> Vec<(u128, u128, u64)> {
    (1..=8)
        .flat_map(|device| (1..=40).map(move |conversation| (device, conversation)))
        .flat_map(|(device, conversation)| {
            (1..=10_u64).map(move |step| (device, conversation, step * u64::try_from(device + conversation).unwrap()))
        })
        .collect()
}

/// Another order for each `round`, of any length that 7,919 (a prime) does not divide.
fn shuffled<T: Copy>(values: &[T], round: usize) -> Vec<T> {
    (0..values.len()).map(|index| values[(index * 7_919 + round * 131) % values.len()]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn any_order_of_repeated_receipts_gives_the_same_cursors_with_two_replicas() {
    let fixture = Fixture::start().await;
    let replicas = [fixture.replica().await, fixture.replica().await];
    let receipts = receipts();
    let mut requests: JoinSet<Result<(), Failure>> = JoinSet::new();
    for round in 0..3 {
        for batch in shuffled(&receipts, round).chunks(97 + round) {
            if requests.len() == IN_FLIGHT {
                requests.join_next().await.unwrap().unwrap().unwrap();
            }
            let (gateway, batch) = (fixture.gateway.clone(), batch.to_vec());
            let cursors =
                batch.into_iter().map(|(device, conversation, seq)| moved(device, conversation, seq)).collect();
            requests.spawn(async move { advance(&gateway, cursors).await });
        }
    }
    for answer in requests.join_all().await {
        answer.unwrap();
    }

    let mut expected: BTreeMap<u128, BTreeMap<u128, u64>> = BTreeMap::new();
    for (device, conversation, seq) in receipts {
        let cursor = expected.entry(device).or_default().entry(conversation).or_default();
        *cursor = seq.max(*cursor);
    }
    for (number, cursors) in expected {
        let cursors: Vec<_> = cursors.into_iter().map(|(conversation, seq)| cursor(conversation, seq)).collect();
        assert_eq!(fixture.cursors(device(number)).await.unwrap(), cursors, "device {number}");
    }
    for replica in replicas {
        replica.stop().await;
    }
}
