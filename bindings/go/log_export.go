package metaadamw

// #include <stdint.h>
import "C"

import "runtime/cgo"

//export metaadamwGoLog
func metaadamwGoLog(level C.int32_t, text *C.char, key C.uintptr_t) {
	mail := cgo.Handle(key).Value().(*mailbox)
	mail.messages = append(mail.messages, message{LogLevel(level), C.GoString(text)})
}
