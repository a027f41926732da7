package metaadamw

// #include <stddef.h>
// #include <stdint.h>
import "C"

import (
	"runtime/cgo"
	"unsafe"
)

//export metaadamwGoReduce
func metaadamwGoReduce(values *C.double, count C.size_t, key C.uintptr_t) C.int32_t {
	r := cgo.Handle(key).Value().(*reduction)
	return r.run(unsafe.Pointer(values), int(count))
}
