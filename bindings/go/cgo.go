//go:build !metaadamw_dir

package metaadamw

// #cgo pkg-config: metaadamw
import "C"
