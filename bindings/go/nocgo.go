//go:build !cgo

package metaadamw

const _ int = "metaadamw needs cgo: set CGO_ENABLED=1, and CC to a C compiler for the target"
