package metaadamw

// #include <metaadamw.h>
//
// void metaadamwGoLog(int32_t level, char *message, uintptr_t key);
//
// static void metaadamw_go_log(int32_t level, const char *message, void *key) {
//     metaadamwGoLog(level, (char *)message, (uintptr_t)key);
// }
//
// // A cgo.Handle is a number; Go must not store it as a pointer.
// static maw_status metaadamw_go_set_log(maw_optimizer *optimizer, uintptr_t key, maw_error **error) {
//     return maw_set_log(optimizer, key ? metaadamw_go_log : NULL, (void *)key, error);
// }
import "C"

import "runtime/cgo"

// LogLevel of a message.
type LogLevel int32

const (
	LogInfo    LogLevel = C.MAW_LOG_INFO    // information
	LogWarning LogLevel = C.MAW_LOG_WARNING // something probably unintended
)

func (l LogLevel) String() string {
	switch l {
	case LogInfo:
		return "info"
	case LogWarning:
		return "warning"
	}
	return "unknown level"
}

type message struct {
	level LogLevel
	text  string
}

// mailbox collects the messages of a call until it returns, so that no code of the host runs inside the library: that
// code may panic, and may use the optimizer.
type mailbox struct{ messages []message }

func (m *mailbox) take() []message {
	taken := m.messages
	m.messages = nil
	return taken
}

// SetLog sets the function that receives the optimizer's messages: skipped steps, abandoned meta-updates, options that
// are probably unintended. It runs on the goroutine of the call that caused the message, at the end of that call. nil
// turns messages off.
func (o *Optimizer) SetLog(log func(level LogLevel, message string)) error {
	return o.call(func(handle *C.maw_optimizer, failure **C.maw_error) C.maw_status {
		n := o.native
		if n.mail == nil {
			n.mail = &mailbox{}
			n.key = cgo.NewHandle(n.mail)
		}
		key := n.key
		if log == nil {
			key = 0
		}
		status := C.metaadamw_go_set_log(handle, C.uintptr_t(key), failure)
		if status == C.MAW_OK {
			o.log = log
		}
		return status
	})
}
