//! However callers, answers and interruptions follow each other: each caller gets the first that was meant for it.

use futures::FutureExt;
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Ask,
    /// Of any number: also one that was answered, that has left, or that nobody has yet.
    Answer(u64),
    /// A caller takes what came for it, or gives up.
    Leave(usize),
    Interrupt,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Expected {
    Nothing,
    Answer(u64),
    Interruption,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Ask),
        4 => (0..20_u64).prop_map(Step::Answer),
        2 => (0..20_usize).prop_map(Step::Leave),
        1 => Just(Step::Interrupt),
    ];
    prop::collection::vec(step, 0..80)
}

fn got(call: Call<'_>) -> Expected {
    match call.answer().now_or_never() {
        None => Expected::Nothing,
        Some(Ok(bytes)) => Expected::Answer(u64::from_be_bytes(bytes.as_ref().try_into().unwrap())),
        Some(Err(BusError::Interrupted)) => Expected::Interruption,
        Some(Err(error)) => panic!("{error}"),
    }
}

/// Whether it is still to be told something.
fn is_open((_, expected): &&mut (Call<'_>, Expected)) -> bool {
    *expected == Expected::Nothing
}

proptest! {
    #[test]
    fn every_caller_gets_the_first_that_was_meant_for_it(steps in steps()) {
        let waiting = Waiting::default();
        let mut callers: Vec<(Call<'_>, Expected)> = Vec::new();
        for (place, step) in (0_u64..).zip(steps) {
            match step {
                Step::Ask => {
                    let call = waiting.ask();
                    prop_assert!(callers.iter().all(|(other, _)| other.number() != call.number()));
                    callers.push((call, Expected::Nothing));
                }
                Step::Answer(number) => {
                    waiting.answer(number, Ok(Bytes::copy_from_slice(&place.to_be_bytes())));
                    let of_number = callers.iter_mut().filter(is_open).find(|(call, _)| call.number() == number);
                    if let Some((_, expected)) = of_number {
                        *expected = Expected::Answer(place);
                    }
                }
                Step::Leave(which) if which < callers.len() => {
                    let (call, expected) = callers.remove(which);
                    prop_assert_eq!(got(call), expected);
                }
                Step::Leave(_) => {}
                Step::Interrupt => {
                    waiting.interrupt();
                    for (_, expected) in callers.iter_mut().filter(is_open) {
                        *expected = Expected::Interruption;
                    }
                }
            }
            prop_assert_eq!(waiting.senders().len(), callers.iter_mut().filter(is_open).count());
        }
        for (call, expected) in callers {
            prop_assert_eq!(got(call), expected);
        }
        prop_assert!(waiting.senders().is_empty());
    }
}
