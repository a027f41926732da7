//go:build metaadamw_dir

package metaadamw

// The folder comes from the environment: CGO_LDFLAGS="-L…/lib -Wl,-rpath,…/lib".

// #cgo LDFLAGS: -lmetaadamw
import "C"
