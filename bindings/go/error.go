package metaadamw

// #include <metaadamw.h>
import "C"

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
)

// A Status says why a call failed. Statuses are errors that can be compared:
//
//	if errors.Is(err, metaadamw.ErrBusy) { … }
type Status int32

// Statuses. The *[Error] that a call returns has one of these, and a message that names the cause.
const (
	// ErrInvalidArgument: out of range, of the wrong count or length, or otherwise invalid.
	ErrInvalidArgument Status = C.MAW_INVALID_ARGUMENT
	// ErrInvalidState: the call is not allowed now, for example a step while a meta-update is open.
	ErrInvalidState Status = C.MAW_INVALID_STATE
	// ErrUnsupported: this version of the library, or this machine, does not support it.
	ErrUnsupported Status = C.MAW_UNSUPPORTED
	// ErrBusy: another goroutine is inside a call on the same optimizer. Nothing was done.
	ErrBusy Status = C.MAW_BUSY
	// ErrNotFinite: under NonfiniteError, a value in a step is not finite.
	ErrNotFinite Status = C.MAW_NOT_FINITE
	// ErrOutOfMemory: memory ran out inside the library.
	ErrOutOfMemory Status = C.MAW_OUT_OF_MEMORY
	// ErrPanic: a bug in the library. Every later call returns this; Close still works.
	ErrPanic Status = C.MAW_PANIC
	// ErrNotFound: no tensor or group has that name or index.
	ErrNotFound Status = C.MAW_NOT_FOUND
	// ErrParamsChanged: under Options.VerifyParams, parameters changed since the last step without ParamsChanged.
	ErrParamsChanged Status = C.MAW_PARAMS_CHANGED
	// ErrIO: a file operation failed.
	ErrIO Status = C.MAW_IO
	// ErrCorrupt: the data is not a checkpoint, or a damaged one.
	ErrCorrupt Status = C.MAW_CORRUPT
	// ErrMismatch: the checkpoint is of another model or of other options.
	ErrMismatch Status = C.MAW_MISMATCH
	// ErrCUDA: a call of the CUDA driver failed, or a kernel did.
	ErrCUDA Status = C.MAW_CUDA_ERROR
	// ErrReduction: the function of SetReduction or SetDeviceReduction failed or did not sum over the processes, the call failed
	// on another process, or the processes differ in options, tensors, step or arguments. Unless the message says that the step
	// was made, nothing was changed on this process; others may have made it, so go on from a checkpoint.
	ErrReduction Status = C.MAW_REDUCTION
)

// ErrAborted: the closure of a MetaUpdate returned an error, which errors.Is and errors.As find, too. The library's own
// statuses are negative.
const ErrAborted Status = 1

// ErrClosed is returned by every method of an [Optimizer] after Close, except by Close itself. Its status is
// [ErrInvalidState].
var ErrClosed error = &Error{Status: ErrInvalidState, Message: "the optimizer is closed"}

var statusTexts = map[Status]string{
	ErrInvalidArgument: "invalid argument",
	ErrInvalidState:    "invalid state",
	ErrUnsupported:     "unsupported",
	ErrBusy:            "busy",
	ErrNotFinite:       "not finite",
	ErrOutOfMemory:     "out of memory",
	ErrPanic:           "panic inside the library",
	ErrNotFound:        "not found",
	ErrParamsChanged:   "parameters changed",
	ErrIO:              "input or output failed",
	ErrCorrupt:         "corrupt checkpoint",
	ErrMismatch:        "checkpoint of another run",
	ErrCUDA:            "CUDA failed",
	ErrReduction:       "reduction over the processes failed",
	ErrAborted:         "meta-update aborted",
}

func (s Status) Error() string {
	if text, ok := statusTexts[s]; ok {
		return "metaadamw: " + text
	}
	return fmt.Sprintf("metaadamw: status %d", int32(s))
}

// An Error is returned by a failed call. It unwraps to its status and its cause: errors.Is finds [ErrBusy] and the
// others, and after [ErrIO] also [os.ErrNotExist] and the like.
type Error struct {
	Status  Status
	Message string // names the argument, tensor or group, what was expected and what was given
	Cause   error  // the system's error after ErrIO, a syscall.Errno; the closure's after ErrAborted; the reduction's; else nil
}

func (e *Error) Error() string { return "metaadamw: " + e.Message }

// Unwrap returns the status, and the cause if there is one.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Status}
	}
	return []error{e.Status, e.Cause}
}

func invalid(format string, values ...any) error {
	return &Error{Status: ErrInvalidArgument, Message: fmt.Sprintf(format, values...)}
}

func busy(what string) error {
	return &Error{Status: ErrBusy, Message: what + " on this optimizer is running"}
}

// toError converts the library's error object and frees it.
func toError(status C.maw_status, failure *C.maw_error) error {
	if status == C.MAW_OK {
		return nil
	}
	defer C.maw_error_free(failure)
	e := &Error{Status: Status(status), Message: C.GoString(C.maw_error_message(failure))}
	if e.Message == "" {
		e.Message = C.GoString(C.maw_status_name(status))
	}
	if e.Status == ErrIO {
		e.Cause = systemError(e.Message)
	}
	return e
}

// systemError is the error whose number a message of the library has: "… (os error 2)"; nil if there is none. A path in
// the message may look like that, too: the last counts.
func systemError(message string) error {
	const before = "(os error "
	at := strings.LastIndex(message, before)
	if at < 0 {
		return nil
	}
	number, _, closed := strings.Cut(message[at+len(before):], ")")
	errno, err := strconv.ParseUint(number, 10, 31)
	if !closed || err != nil {
		return nil
	}
	return syscall.Errno(errno)
}
