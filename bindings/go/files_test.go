package metaadamw

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"testing"
)

// A module that is fetched has its own folder only: hence copies.
func TestCopiesAreUpToDate(t *testing.T) {
	if _, err := os.Stat("../../cbindgen.toml"); errors.Is(err, fs.ErrNotExist) {
		t.Skip("outside of the repository")
	}
	for copied, original := range map[string]string{
		"metaadamw.h": "../../include/metaadamw.h", "LICENSE-MIT": "../../LICENSE-MIT", "LICENSE-APACHE": "../../LICENSE-APACHE",
	} {
		got, err := os.ReadFile(copied)
		must(t, err)
		want, err := os.ReadFile(original)
		must(t, err)
		if !bytes.Equal(got, want) {
			t.Errorf("bindings/go/%s is not %s; `make header` refreshes the header", copied, original)
		}
	}
}
