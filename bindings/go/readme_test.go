package metaadamw_test

import (
	"os"
	"strings"
	"testing"
)

// between returns the text between two texts.
func between(t *testing.T, text, before, after string) string {
	_, text, found := strings.Cut(text, before)
	text, _, ended := strings.Cut(text, after)
	if !found || !ended {
		t.Fatalf("no %q … %q", before, after)
	}
	return text
}

func TestTheReadmeShowsTheExample(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	examples, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	program := between(t, string(readme), "```go\n", "```\n")
	example := between(t, string(examples), "func Example() {\n", "\t// Output: ")
	var indented strings.Builder
	for line := range strings.Lines(program) {
		if line != "\n" {
			indented.WriteByte('\t')
		}
		indented.WriteString(line)
	}
	if indented.String() != example {
		t.Error("README.md has another program than Example in example_test.go")
	}
	output, _, _ := strings.Cut(between(t, string(examples), "\t// Output: ", "}"), "\n")
	if !strings.Contains(string(readme), "It prints `"+output+"`") {
		t.Error("README.md has another output")
	}
}
