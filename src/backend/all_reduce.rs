//! One model over several processes, each with a part of every tensor: the host's reduction, and what it must agree on.
//!
//! The buffer of a call: a header, one vote a tensor, and the sums of every chunk of the whole model, which only the process
//! that has the chunk fills. So a reduction never rounds, and the totals, added up in the order of the chunks, have the bits
//! of a single process.

use std::fmt::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, ReductionError, Result};
use crate::model::host_buffers::CheckedGrads;
use crate::model::stats::{GradientSums, StateSums};
use crate::numeric::stochastic_rounding::{NameHash, step_key};

/// The numbers that a call sums over the processes.
#[derive(Debug)]
pub enum Summands<'a> {
    /// In this process's memory.
    Host(&'a mut [f64]),
    /// In the device's, by what is enqueued on the optimizer's stream.
    Device {
        /// Of the first.
        address: u64,
        /// How many.
        len: usize,
    },
}

/// The host's callback: sums the numbers over all processes, in place. Anything but 0 is a failure.
pub type Callback = dyn Fn(Summands) -> i32 + Send + Sync;

/// What the processes must have in common, each as the text that says where they differ.
const SUBJECTS: [&str; 5] = [
    "options, or in the version of the library",
    "the registered tensors: their number, names, shapes, dtypes or groups",
    "param groups, or in their hyper-parameters",
    "the call that they are in, or in its arguments (grad_scale, loss, flags)",
    "the state: steps, meta-updates or the attention module",
];

/// Words of a hash, few enough bits for sums of their squares over a million processes to be exact.
const PIECES: usize = 4;

/// Number of processes; of those that cannot make the call; of those with numbers that are not finite; of those whose
/// `found_inf` is set, on a device. Then the pieces of the hashes, and their squares.
pub const HEADER: usize = BEFORE_PIECES + 2 * PIECES * SUBJECTS.len();
const BEFORE_PIECES: usize = 4;

/// More than these cannot be compared exactly.
const MOST_PROCESSES: f64 = (1_u64 << 20) as f64;

/// Hashes of what the processes must have in common.
#[derive(Clone, Copy, Debug, Default)]
pub struct Agreement {
    /// With the library's version.
    pub options: u64,
    /// All of the registration but shards.
    pub tensors: u64,
    /// With hyper-parameters as they are now.
    pub param_groups: u64,
    /// Which call, and its arguments.
    pub call: u64,
    /// Counts, Φ.
    pub state: u64,
}

impl Agreement {
    /// In the order of what they are of.
    pub fn hashes(&self) -> [u64; SUBJECTS.len()] {
        [self.options, self.tensors, self.param_groups, self.call, self.state]
    }

    fn pieces(&self) -> impl Iterator<Item = f64> {
        self.hashes().into_iter().flat_map(|hash| (0..PIECES).map(move |i| f64::from((hash >> (16 * i)) as u16)))
    }
}

/// A hash of a value's text, the same in every build of the library.
pub struct TextHash(NameHash);

impl TextHash {
    /// Of a value's text.
    pub fn of(text: fmt::Arguments) -> u64 {
        let mut hash = Self(NameHash::default());
        hash.write_fmt(text).expect("hashing does not fail");
        hash.0.finish()
    }

    /// Of numbers.
    pub fn of_numbers(numbers: impl IntoIterator<Item = u64>) -> u64 {
        numbers.into_iter().fold(0, step_key)
    }
}

impl Write for TextHash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

/// The host's reduction, and what is known of those who take part.
#[derive(Clone)]
pub struct AllReduce {
    callback: Arc<Callback>,
    /// Number of processes, from the first call on.
    processes: Option<f64>,
    /// Calls so far, by all copies.
    calls: Arc<AtomicU64>,
}

impl fmt::Debug for AllReduce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AllReduce").field("processes", &self.processes).finish_non_exhaustive()
    }
}

impl AllReduce {
    /// Of a callback that was not called yet.
    #[must_use]
    pub fn new(callback: Arc<Callback>) -> Self {
        Self { callback, processes: None, calls: Arc::default() }
    }

    /// How often it was called.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Processes, from the first call on.
    pub fn processes(&self) -> Option<f64> {
        self.processes
    }

    /// Sums `buffer` over the processes; its header is written here.
    ///
    /// # Errors
    /// The callback's; what the processes do not have in common; that one of them `refuses`.
    pub fn sum(
        &mut self,
        buffer: &mut [f64],
        agreement: &Agreement,
        refuses: bool,
    ) -> std::result::Result<(), ReductionError> {
        write_header(buffer, agreement, refuses);
        self.call(Summands::Host(buffer))?;
        self.check(buffer, agreement)
    }

    /// Calls the host.
    ///
    /// # Errors
    /// What it returns if that is not 0.
    pub fn call(&mut self, summands: Summands) -> std::result::Result<(), ReductionError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        match (self.callback)(summands) {
            0 => Ok(()),
            status => Err(ReductionError::Failed(status)),
        }
    }

    /// What the sums say of the processes.
    ///
    /// # Errors
    /// As for [`Self::sum`].
    pub fn check(&mut self, buffer: &[f64], agreement: &Agreement) -> std::result::Result<(), ReductionError> {
        let (header, body) = buffer.split_at(HEADER);
        self.count_processes(header[0])?;
        if header[1] != 0.0 {
            return Err(ReductionError::Refused);
        }
        compare(header, agreement)?;
        if header[2] == 0.0 && body.iter().any(|x| !x.is_finite()) {
            return Err(ReductionError::NotFinite);
        }
        Ok(())
    }

    /// Takes part in a call that this process cannot make, without a body.
    pub fn refuse_alone(&mut self, agreement: &Agreement) {
        // What this process has to say is its own error.
        let _ = self.sum(&mut [0.0; HEADER], agreement, true);
    }

    fn count_processes(&mut self, sum: f64) -> std::result::Result<(), ReductionError> {
        let plausible = sum.fract() == 0.0 && (1.0..=MOST_PROCESSES).contains(&sum);
        if plausible && self.processes.is_none_or(|known| known == sum) {
            self.processes = Some(sum);
            return Ok(());
        }
        Err(self.no_sum(sum))
    }

    /// That a call made `sum` of 1 from each process.
    pub fn no_sum(&self, sum: f64) -> ReductionError {
        let expected = self.processes.map_or("the number of processes".to_owned(), |known| known.to_string());
        ReductionError::NoSum { got: sum.to_string(), expected }
    }
}

/// What this process says before a call.
pub fn write_header(buffer: &mut [f64], agreement: &Agreement, refuses: bool) {
    let (header, body) = buffer.split_at_mut(HEADER);
    let broken = body.iter().any(|x| !x.is_finite());
    let (counts, pieces) = header.split_at_mut(BEFORE_PIECES);
    counts.copy_from_slice(&[1.0, f64::from(u8::from(refuses)), f64::from(u8::from(broken)), 0.0]);
    let (pieces, squares) = pieces.split_at_mut(PIECES * SUBJECTS.len());
    for ((piece, square), value) in pieces.iter_mut().zip(squares).zip(agreement.pieces()) {
        (*piece, *square) = (value, value * value);
    }
}

/// Whether the processes that have elements of a tensor have a gradient of it. `None`: some have, some have not.
pub fn unanimous(votes: f64, owners: f64) -> Option<bool> {
    if votes == owners { Some(true) } else { (votes == 0.0).then_some(false) }
}

/// That the processes differ in this one of the [`Agreement::hashes`].
pub fn differ(subject: usize) -> ReductionError {
    ReductionError::Differ(SUBJECTS.get(subject).copied().unwrap_or("what they bring"))
}

/// Σ (x − own)² over the processes is 0 only where all have the same: each word is below 2¹⁶, so that no sum is rounded.
fn compare(header: &[f64], agreement: &Agreement) -> std::result::Result<(), ReductionError> {
    let count = header[0];
    let (pieces, squares) = header[BEFORE_PIECES..].split_at(PIECES * SUBJECTS.len());
    let sums = pieces.iter().zip(squares);
    for (i, ((sum, squares), own)) in sums.zip(agreement.pieces()).enumerate() {
        if squares - 2.0 * own * sum + count * own * own != 0.0 {
            return Err(differ(i / PIECES));
        }
    }
    Ok(())
}

/// What a backend whose tensors are shards makes together with the other processes. Passes keep their sums until
/// [`Self::reduce`]; an update's products and a meta-update's passes reduce by themselves, under the last [`Agreement`]: if
/// that fails, their sums are NaN and [`Self::take_failure`] says why.
pub trait Collective {
    /// One call of the host's: votes on the gradients, sums of the state and of the gradients.
    ///
    /// # Errors
    /// [`Error::Reduction`]. The sums of before stay then.
    fn reduce(&mut self, agreement: &Agreement, grads: Option<CheckedGrads>) -> Result<()>;

    /// One more call under the same agreement, for the sums of a pass since then; it fails as passes do.
    fn reduce_again(&mut self);

    /// Takes part in a call that this process cannot make.
    fn refuse(&mut self, agreement: &Agreement);

    /// Calls so far.
    fn calls(&self) -> u64;

    /// Numbers of each chunk from the process that has it to all: `own(tensor, chunk)`, chunks counted in the whole tensor.
    ///
    /// # Errors
    /// [`Error::Reduction`].
    fn share(&mut self, agreement: &Agreement, own: &mut dyn FnMut(usize, usize) -> [f64; 4]) -> Result<()>;

    /// What the process that has the chunk shared.
    fn shared(&self, tensor: usize, chunk: usize) -> [f64; 4];

    /// What was told last of steps that were not made is told again. On the CPU every step tells by itself.
    fn tell_again(&mut self) {}

    /// Why the last passes have no sums.
    fn take_failure(&mut self) -> Option<ReductionError>;

    /// By the last call: whether the processes that have elements of the tensor have a gradient of it. `None`: some have, some
    /// have not.
    fn has_gradient(&self, tensor: usize) -> Option<bool>;

    /// By the last call. `with_momentum`: as the pass before it.
    fn gradient_sums(&self, out: &mut [GradientSums]);

    /// Keeps Σ θ² of this process's chunks as they are.
    fn keep_param_sums(&mut self);

    /// Puts what was kept in the place of what is there now.
    fn recall_param_sums(&mut self);

    /// By the last call. `after_gradients`: it followed sums of gradients with momentum.
    fn state_sums(&self, after_gradients: bool, out: &mut [StateSums]);
}

impl From<ReductionError> for Error {
    fn from(error: ReductionError) -> Self {
        Self::Reduction(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `others` and this process get together, each word of the buffer summed.
    fn together(own: Agreement, others: &[Agreement]) -> std::result::Result<(), ReductionError> {
        let words = |agreement: &Agreement| {
            let pieces: Vec<f64> = agreement.pieces().collect();
            let squares: Vec<f64> = pieces.iter().map(|x| x * x).collect();
            [vec![1.0, 0.0, 0.0, 0.0], pieces, squares].concat()
        };
        let others: Vec<Vec<f64>> = others.iter().map(words).collect();
        let callback = move |summands: Summands| {
            let Summands::Host(buffer) = summands else { return 1 };
            for other in &others {
                buffer.iter_mut().zip(other).for_each(|(sum, x)| *sum += x);
            }
            0
        };
        AllReduce::new(Arc::new(callback)).sum(&mut [0.0; HEADER], &own, false)
    }

    #[test]
    fn processes_agree_only_if_all_hashes_are_equal_and_hear_what_differs() {
        let hash = |text: &str| TextHash::of(format_args!("{text}"));
        let own = Agreement { options: u64::MAX, tensors: hash("a"), param_groups: 0, state: hash("b"), call: 7 };
        assert_eq!(together(own, &vec![own; 4095]), Ok(()));
        for (i, subject) in SUBJECTS.into_iter().enumerate() {
            for bit in 0..64 {
                let mut other = own;
                let Agreement { options, tensors, param_groups, state, call } = &mut other;
                *[options, tensors, param_groups, call, state][i] ^= 1 << bit;
                assert_eq!(together(own, &[own, other, own]), Err(ReductionError::Differ(subject)));
                assert_eq!(together(other, &[own, own, own]), Err(ReductionError::Differ(subject)));
            }
        }
    }

    #[test]
    fn what_is_no_sum_over_the_processes_is_refused() {
        let with = |set: fn(&mut [f64])| {
            let callback = move |summands: Summands| {
                let Summands::Host(buffer) = summands else { return 1 };
                set(buffer);
                0
            };
            AllReduce::new(Arc::new(callback)).sum(&mut [0.0; HEADER + 2], &Agreement::default(), false)
        };
        assert_eq!(with(|_| ()), Ok(()));
        let sets: [fn(&mut [f64]); 4] =
            [|b| b.fill(0.0), |b| b.fill(0.5), |b| b.fill(f64::NAN), |b| b[0] = MOST_PROCESSES + 1.0];
        for set in sets {
            assert!(matches!(with(set), Err(ReductionError::NoSum { .. })));
        }
        assert_eq!(with(|b| b[HEADER + 1] = f64::NAN), Err(ReductionError::NotFinite));
        assert_eq!(with(|b| b[1] += 1.0), Err(ReductionError::Refused));
        let mut fails = AllReduce::new(Arc::new(|_| 5));
        assert_eq!(fails.sum(&mut [0.0; HEADER], &Agreement::default(), false), Err(ReductionError::Failed(5)));
    }
}
