//! Random sequences of calls, always the same ones: what the fuzzer `calls` does for hours (docs/fuzzing.md), in short.

mod common;

use common::toy::Random;

#[test]
fn sequences_of_calls_keep_twins_alike_and_failing_calls_change_nothing() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let bytes: Vec<u8> = (0..400).map(|_| (127.5 * (random.next() + 1.0)) as u8).collect();
        let outcome = std::panic::catch_unwind(|| common::sequence::run(&bytes));
        assert!(outcome.is_ok(), "the sequence of seed {seed}");
    }
}
