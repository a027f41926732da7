//! What can go wrong: one variant a cause, its status code, its text for the user.
//!
//! The texts know nothing of C: where a C user needs the name of a function, `src/ffi` says it in its own words.

/// The code that a failure has at the C boundary (`MAW_…`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    /// An argument is unusable.
    InvalidArgument = -1,
    /// The call does not fit the state of the optimizer.
    InvalidState = -2,
    /// This version cannot do it.
    Unsupported = -3,
    /// Another call is running.
    Busy = -4,
    /// Something is not finite and the options make that a failure.
    NotFinite = -5,
    /// Memory ran out.
    OutOfMemory = -6,
    /// A bug inside the library.
    Panic = -7,
    /// No such tensor, group or entry.
    NotFound = -8,
    /// Parameters changed unannounced.
    ParamsChanged = -9,
    /// The operating system refused a file operation.
    Io = -10,
    /// A checkpoint is damaged, or is none.
    Corrupt = -11,
    /// A checkpoint does not fit the optimizer.
    Mismatch = -12,
    /// The CUDA driver, or a kernel, failed.
    Cuda = -13,
    /// The host's reduction over the processes failed, or found that they differ.
    Reduction = -14,
}

/// Why processes that share a model cannot make a call together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReductionError {
    /// The callback's own status.
    #[error("the reduction callback returned {0}, expected 0")]
    Failed(i32),
    /// Not a sum over the processes that there were.
    #[error("the reduction did not sum over the processes: of 1 from each it made {got}, expected {expected}")]
    NoSum {
        /// What came back.
        got: String,
        /// What would do.
        expected: String,
    },
    /// A NaN or an infinity that nobody sent.
    #[error("the reduction returned numbers that are not finite, and no process passed such numbers")]
    NotFinite,
    /// Another one's call failed before it could take part.
    #[error("this call failed on another process, whose own error says why")]
    Refused,
    /// They are not in the same call with the same values.
    #[error("the processes differ in {0}")]
    Differ(&'static str),
    /// Shards overlap, or leave something out.
    #[error("of tensor '{name}', the elements from {offset} on are registered by {got} processes, expected 1")]
    Shards {
        /// The tensor.
        name: String,
        /// First of the elements.
        offset: u64,
        /// How many have them.
        got: String,
    },
    /// Some have a gradient of it, some have none.
    #[error("of tensor '{name}', some processes passed a gradient and some passed NULL")]
    Gradient {
        /// The tensor.
        name: String,
    },
}

/// Why a call does not fit the state of the optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// A prepared optimizer keeps at least one tensor.
    #[error("the last tensor cannot be removed")]
    LastTensor,
    /// There is nothing to prepare.
    #[error("no tensors are registered; add a param group first")]
    NoTensors,
    /// Asked too early.
    #[error("prepare the optimizer (or make a step) first")]
    NotPrepared,
    /// A meta-update is under way.
    #[error("a meta-update is open; answer its requests or abort it first")]
    MetaUpdateOpen,
    /// No meta-update is under way.
    #[error("no meta-update is open; begin one first")]
    NoMetaUpdateOpen,
    /// There is no attention module, and so no …
    #[error("modulation is off: there {0}")]
    ModulationOff(&'static str),
    /// Nothing was learned so far.
    #[error("no meta-update has been completed yet")]
    NoMetaGradient,
    /// There are no features and factors so far.
    #[error("no step has been applied and no meta-update begun yet")]
    NoFactors,
    /// There is no report so far.
    #[error("no step has been decided yet")]
    NoReport,
    /// The count of steps would not be exact any more.
    #[error("the optimizer or a tensor has made 2^53 - 1 steps, the most that a run can have")]
    TooManySteps,
    /// Φ learns unasked.
    #[error("under MAW_OBJECTIVE_HORIZON the attention module learns from steps: there are no meta-updates")]
    LearnsFromSteps,
    /// There are no averages.
    #[error("options.horizon is 0: there are no averages")]
    NoAverages,
    /// There are no averages so far.
    #[error("an average begins with the tensor's first step")]
    AverageNotBegun,
    /// The host's parameters are the averages.
    #[error("the averages are in the host's parameters; swap them back first")]
    AveragesSwapped,
    /// There are no masters so far.
    #[error("masters begin with the first step")]
    NoMaster,
    /// The processes must prepare together.
    #[error("registration has ended: set the reduction before")]
    PreparedWithoutReduction,
    /// The sums over all processes are missing.
    #[error("some tensors are shards: set a reduction first")]
    NoReduction,
    /// Prepared on the way, one process would be in another call than the others.
    #[error("with a reduction, prepare the optimizer first, on all processes")]
    PrepareTogether,
}

/// What helps where a checkpoint does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Remedy {
    /// The differences only steer the future.
    #[error("choose with OnConflict::File or OnConflict::Own whose values hold")]
    Choose,
    /// The file is of another model.
    #[error("register the tensors, groups and options of the file in a new optimizer")]
    Register,
    /// The file has more or fewer tensors or groups.
    #[error(
        "register the tensors and groups of the file in a new optimizer, or load what both have (LoadOptions::partial)"
    )]
    Partial,
    /// The file holds an attention module alone.
    #[error("load the attention module alone (Contents::Attention)")]
    AttentionAlone,
}

/// A failed call. The optimizer is as it was before.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A pointer that must not be NULL is.
    #[error("{argument} is NULL")]
    Null {
        /// The argument.
        argument: &'static str,
    },
    /// A pointer in an array of pointers is NULL although its tensor has elements.
    #[error("{argument}[{index}] is NULL, but tensor '{name}' has {numel} elements")]
    NullBuffer {
        /// The array.
        argument: &'static str,
        /// Its index.
        index: usize,
        /// The tensor's name.
        name: String,
        /// The tensor's size.
        numel: usize,
    },
    /// The handle is not one, or was freed.
    #[error("{argument} is not a live handle (freed already, or never created)")]
    BadHandle {
        /// The argument.
        argument: &'static str,
    },
    /// A struct is too short for version 1, or longer than this version knows and not zero there.
    #[error("{argument}.struct_size is {got}, expected {expected}")]
    StructSize {
        /// The argument.
        argument: String,
        /// What came.
        got: usize,
        /// What would do.
        expected: String,
    },
    /// A longer struct has a field set that this version does not know.
    #[error(
        "{argument} has non-zero bytes beyond the {known} bytes that this version knows: it comes from a newer header"
    )]
    UnknownFields {
        /// The argument.
        argument: String,
        /// Bytes that are known.
        known: usize,
    },
    /// A value is out of range.
    #[error("{field} is {got}, expected {expected}")]
    OutOfRange {
        /// The field or argument.
        field: String,
        /// What came.
        got: String,
        /// What is allowed.
        expected: String,
    },
    /// A count differs from what the optimizer has.
    #[error("{argument} is {got}, expected {expected} ({what})")]
    Count {
        /// The argument.
        argument: &'static str,
        /// What came.
        got: usize,
        /// What was expected.
        expected: usize,
        /// What is counted.
        what: &'static str,
    },
    /// A name is not acceptable.
    #[error("{field} is not a usable name: {reason}")]
    BadName {
        /// The field.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Two tensors have the same name.
    #[error("tensor '{name}' of param group {second} is registered already, in param group {first}: names are unique")]
    DuplicateName {
        /// The name.
        name: String,
        /// The group that has it.
        first: usize,
        /// The group that was being added.
        second: usize,
    },
    /// A pointer is not aligned to its element.
    #[error("{argument}[{index}] (tensor '{name}') is not aligned to its {align}-byte elements")]
    Misaligned {
        /// The array.
        argument: &'static str,
        /// Its index.
        index: usize,
        /// The tensor's name.
        name: String,
        /// The element's size.
        align: usize,
    },
    /// Two ranges of memory overlap.
    #[error("params[{first}] (tensor '{first_name}') overlaps {other}[{second}] (tensor '{second_name}')")]
    Overlap {
        /// Index of the parameter.
        first: usize,
        /// Its name.
        first_name: String,
        /// `params` or `grads`.
        other: &'static str,
        /// Index there.
        second: usize,
        /// Its name.
        second_name: String,
    },
    /// A buffer given by a Rust program has another type or length than was registered.
    #[error("{argument}[{index}] (tensor '{name}') has {got}, expected {expected}")]
    WrongBuffer {
        /// The array.
        argument: &'static str,
        /// Its index.
        index: usize,
        /// The tensor's name.
        name: String,
        /// What came.
        got: String,
        /// What was registered.
        expected: String,
    },
    /// A gradient was announced and is then missing.
    #[error("grads[{index}] is NULL, but the gradient of tensor '{name}' was announced")]
    AnnouncedGradientMissing {
        /// Index of the tensor.
        index: usize,
        /// Its name.
        name: String,
    },
    /// An answer to another request than the open one.
    #[error("answer.request_id is {got}, but the open request is {expected}")]
    WrongRequest {
        /// What came.
        got: u64,
        /// What is open.
        expected: u64,
    },
    /// The call does not fit the state.
    #[error(transparent)]
    State(#[from] StateError),
    /// Known, but not in this version.
    #[error("{what} is not supported by this version of the library")]
    Unsupported {
        /// What.
        what: String,
    },
    /// No entry of that name or index.
    #[error("there is no {what} {which}")]
    NotFound {
        /// The kind of thing.
        what: &'static str,
        /// Its name or index, and how many there are.
        which: String,
    },
    /// Not finite, under the policy that makes it a failure.
    #[error("{what} is not finite; nothing was changed")]
    NotFinite {
        /// What.
        what: String,
    },
    /// Parameters changed without a word.
    #[error(
        "tensor '{name}' changed since the last step, and the step was not told that parameters changed (verify_params is on)"
    )]
    ParamsChanged {
        /// The tensor.
        name: String,
    },
    /// Remainders from a file and the host's parameters are not halves of the same masters.
    #[error(
        "tensor '{name}' is not the parameter that the loaded checkpoint has the remainder of: load the model's weights of \
         that checkpoint, or tell the step that parameters changed, which makes the masters from the new values"
    )]
    OtherHalves {
        /// The tensor.
        name: String,
    },
    /// A file operation failed.
    #[error("{operation}: {reason}")]
    Io {
        /// What was being done, to which file.
        operation: String,
        /// What the operating system says.
        reason: String,
    },
    /// A checkpoint is damaged, or is none.
    #[error("the checkpoint is damaged or is none: {what}")]
    Corrupt {
        /// What is wrong with it.
        what: String,
    },
    /// A checkpoint belongs to another model or other options.
    #[error("the checkpoint does not fit: {what}; {remedy}")]
    Mismatch {
        /// The first differences.
        what: String,
        /// What would help.
        remedy: Remedy,
    },
    /// There is no CUDA that will do.
    #[error("CUDA is not available: {why}")]
    NoCuda {
        /// What is missing or too old.
        why: String,
    },
    /// The driver refused a call, or tells that a kernel failed.
    #[error("CUDA: {call}: {what}")]
    Cuda {
        /// The driver's function.
        call: &'static str,
        /// What it answered.
        what: String,
    },
    /// The device has no memory.
    #[error("out of device memory ({call})")]
    OutOfDeviceMemory {
        /// The driver's function.
        call: &'static str,
    },
    /// What waits, allocates or reads the host's memory cannot be part of a CUDA graph.
    #[error("the optimizer's stream is being captured into a CUDA graph: {what} cannot be captured")]
    Capturing {
        /// What was asked for.
        what: &'static str,
    },
    /// The legacy default stream would wait for a stream that is being captured.
    #[error(
        "a stream that the legacy default stream waits for is being captured into a CUDA graph, and this call is for the \
         default stream"
    )]
    CapturingBeside,
    /// A graph of the host's holds kernels that cannot do what other options want.
    #[error(
        "a step was captured into a CUDA graph under other options.nonfinite or options.max_grad_norm than these, and its \
         replays would not follow them: set or load them in a new optimizer and capture again, or keep this one's options"
    )]
    CapturedOtherwise,
    /// A graph of the host's holds the tensors that there were.
    #[error(
        "a step was captured into a CUDA graph, and its replays would not know of other tensors: save, and load what was \
         saved into a new optimizer that has them, for what both have"
    )]
    CapturedTensors,
    /// Processes that share a model could not make this call together.
    #[error("{0}; nothing was changed on this process")]
    Reduction(ReductionError),
    /// The same, too late.
    #[error(
        "{0}; the step was made on this process, but the attention module did not learn from it: load the last checkpoint on all \
         processes"
    )]
    ReductionAfterStep(ReductionError),
    /// The handle is inside another call.
    #[error("the optimizer is busy with another call")]
    Busy,
    /// The process is a child of the one in which somebody is inside the handle.
    #[error("another thread was inside a call on this optimizer when the process forked; here it can only be freed")]
    Forked,
    /// An earlier call panicked.
    #[error("the optimizer was poisoned by a panic in an earlier call; it can only be freed")]
    Poisoned,
    /// This call panicked.
    #[error("internal error (please report): {message}")]
    Panic {
        /// The panic's own text.
        message: String,
    },
    /// No memory.
    #[error("out of memory")]
    OutOfMemory,
}

impl Error {
    /// Its code at the C boundary.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::Null { .. }
            | Self::NullBuffer { .. }
            | Self::BadHandle { .. }
            | Self::StructSize { .. }
            | Self::OutOfRange { .. }
            | Self::Count { .. }
            | Self::BadName { .. }
            | Self::DuplicateName { .. }
            | Self::Misaligned { .. }
            | Self::Overlap { .. }
            | Self::WrongBuffer { .. }
            | Self::AnnouncedGradientMissing { .. }
            | Self::WrongRequest { .. } => Status::InvalidArgument,
            Self::State(_)
            | Self::Forked
            | Self::Capturing { .. }
            | Self::CapturingBeside
            | Self::CapturedOtherwise
            | Self::CapturedTensors => Status::InvalidState,
            Self::Unsupported { .. } | Self::UnknownFields { .. } | Self::NoCuda { .. } => Status::Unsupported,
            Self::NotFound { .. } => Status::NotFound,
            Self::NotFinite { .. } => Status::NotFinite,
            Self::ParamsChanged { .. } | Self::OtherHalves { .. } => Status::ParamsChanged,
            Self::Io { .. } => Status::Io,
            Self::Corrupt { .. } => Status::Corrupt,
            Self::Mismatch { .. } => Status::Mismatch,
            Self::Busy => Status::Busy,
            Self::Poisoned | Self::Panic { .. } => Status::Panic,
            Self::OutOfMemory | Self::OutOfDeviceMemory { .. } => Status::OutOfMemory,
            Self::Cuda { .. } => Status::Cuda,
            Self::Reduction(_) | Self::ReductionAfterStep(_) => Status::Reduction,
        }
    }

    pub(crate) fn io(operation: &str, error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::OutOfMemory {
            return Self::OutOfMemory;
        }
        Self::Io { operation: operation.to_owned(), reason: error.to_string() }
    }

    pub(crate) fn file(operation: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::io(&format!("{operation} '{}'", path.display()), error)
    }

    /// An index beyond the end.
    pub(crate) fn no_index(what: &'static str, index: usize, count: usize) -> Self {
        Self::NotFound { what, which: format!("{index}: there are {count}") }
    }

    /// An unknown tensor of the attention module.
    pub(crate) fn no_attention_tensor(name: &str) -> Self {
        Self::NotFound { what: "tensor of the attention module named", which: format!("'{name}'") }
    }

    /// A length that differs from what it should be.
    pub(crate) fn length(argument: &'static str, got: usize, expected: usize, what: &'static str) -> Result<()> {
        if got == expected { Ok(()) } else { Err(Self::Count { argument, got, expected, what }) }
    }

    pub(crate) fn range(field: impl Into<String>, got: impl ToString, expected: impl Into<String>) -> Self {
        Self::OutOfRange { field: field.into(), got: got.to_string(), expected: expected.into() }
    }
}

impl From<std::collections::TryReserveError> for Error {
    fn from(_: std::collections::TryReserveError) -> Self {
        Self::OutOfMemory
    }
}

/// A number in as many digits as it needs and no zeros to count.
pub(crate) fn readable(x: f64) -> String {
    if x == 0.0 || !x.is_finite() || (1e-4..1e15).contains(&x.abs()) { x.to_string() } else { format!("{x:e}") }
}

/// The library's result.
pub type Result<T> = std::result::Result<T, Error>;
