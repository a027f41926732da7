package metaadamw

// #include <metaadamw.h>
//
// void metaadamwGoLog(int32_t level, char *message, uintptr_t key);
//
// static void metaadamw_go_heard(int32_t level, const char *message, void *key) {
//     metaadamwGoLog(level, (char *)message, (uintptr_t)key);
// }
//
// // A cgo.Handle is a number and no pointer; Go must not hold it as one.
// static maw_status metaadamw_go_set_log(maw_optimizer *optimizer, uintptr_t key, maw_error **error) {
//     return maw_set_log(optimizer, key ? metaadamw_go_heard : NULL, (void *)key, error);
// }
import "C"

import "runtime/cgo"

// LogLevel of a message.
type LogLevel int32

const (
	LogInfo    LogLevel = C.MAW_LOG_INFO    // something worth knowing
	LogWarning LogLevel = C.MAW_LOG_WARNING // something that probably was not meant
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

// mailbox keeps the messages of a call until the call is over, so that no code of the host's runs inside the library:
// it may panic, and it may use the optimizer.
type mailbox struct{ messages []message }

func (m *mailbox) take() []message {
	taken := m.messages
	m.messages = nil
	return taken
}

// SetLog makes log hear the optimizer's messages from now on: skipped steps, abandoned meta-updates, options that are
// probably not meant. It is called by the goroutine of the call that caused the message, at that call's end. nil silences.
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
