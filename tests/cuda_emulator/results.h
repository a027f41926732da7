// The driver's result codes that the emulator can return, with their names and texts.
#pragma once

#define EMU_RESULTS(X)                                                                                                 \
    X(0, SUCCESS, "no error")                                                                                          \
    X(1, INVALID_VALUE, "invalid argument")                                                                            \
    X(2, OUT_OF_MEMORY, "out of memory")                                                                               \
    X(3, NOT_INITIALIZED, "initialization error")                                                                      \
    X(4, DEINITIALIZED, "driver shutting down")                                                                        \
    X(100, NO_DEVICE, "no CUDA-capable device is detected")                                                            \
    X(101, INVALID_DEVICE, "invalid device ordinal")                                                                   \
    X(200, INVALID_IMAGE, "device kernel image is invalid")                                                            \
    X(201, INVALID_CONTEXT, "invalid device context")                                                                  \
    X(209, NO_BINARY_FOR_GPU, "no kernel image is available for execution on the device")                              \
    X(218, INVALID_PTX, "a PTX JIT compilation failed")                                                                \
    X(222, UNSUPPORTED_PTX_VERSION, "the provided PTX was compiled with an unsupported toolchain.")                    \
    X(400, INVALID_HANDLE, "invalid resource handle")                                                                  \
    X(401, ILLEGAL_STATE, "the operation cannot be performed in the present state")                                    \
    X(500, NOT_FOUND, "named symbol not found")                                                                        \
    X(600, NOT_READY, "device not ready")                                                                              \
    X(700, ILLEGAL_ADDRESS, "an illegal memory access was encountered")                                                \
    X(701, LAUNCH_OUT_OF_RESOURCES, "too many resources requested for launch")                                         \
    X(709, CONTEXT_IS_DESTROYED, "context is destroyed")                                                               \
    X(719, LAUNCH_FAILED, "unspecified launch failure")                                                                \
    X(801, NOT_SUPPORTED, "operation not supported")                                                                   \
    X(900, STREAM_CAPTURE_UNSUPPORTED, "operation not permitted when stream is capturing")                             \
    X(901, STREAM_CAPTURE_INVALIDATED, "operation failed due to a previous error during capture")                      \
    X(902, STREAM_CAPTURE_MERGE, "operation would result in a merge of separate capture sequences")                    \
    X(903, STREAM_CAPTURE_UNMATCHED, "capture was not ended in the same stream as it began")                           \
    X(904, STREAM_CAPTURE_UNJOINED, "capturing stream has unjoined work")                                              \
    X(905, STREAM_CAPTURE_ISOLATION, "dependency created on uncaptured work in another stream")                        \
    X(906, STREAM_CAPTURE_IMPLICIT, "operation would make the legacy stream depend on a capturing blocking stream")    \
    X(907, CAPTURED_EVENT, "operation not permitted on an event last recorded in a capturing stream")                  \
    X(908, STREAM_CAPTURE_WRONG_THREAD, "attempt to terminate a thread-local capture sequence from another thread")    \
    X(999, UNKNOWN, "unknown error")

namespace emu {

/// CUresult. A test may force numbers that are not named here.
enum Result : int {
#define EMU_RESULT(number, name, text) name = number,
    EMU_RESULTS(EMU_RESULT)
#undef EMU_RESULT
};

} // namespace emu
