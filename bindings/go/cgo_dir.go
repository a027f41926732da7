//go:build metaadamw_dir

package metaadamw

// Folders come from the environment: CGO_CFLAGS="-I…/include" CGO_LDFLAGS="-L…/lib -Wl,-rpath,…/lib".

// #cgo LDFLAGS: -lmetaadamw
import "C"
