package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tare/lab/catalog"
)

func TestHandWrittenPagesAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	mine, stale := filepath.Join(dir, "bone.md"), filepath.Join(dir, "awq.md")
	for path, text := range map[string]string{mine: "# mine\n", stale: marker + "\nold text\n"} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := generate(dir); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(mine); string(b) != "# mine\n" {
		t.Errorf("the page written by hand became %q", b)
	}
	if b, _ := os.ReadFile(stale); strings.Contains(string(b), "old text") || !strings.Contains(string(b), "# awq") {
		t.Errorf("the generated page stayed %q", b)
	}
	if pages, _ := filepath.Glob(filepath.Join(dir, "*.md")); len(pages) != len(catalog.All()) {
		t.Errorf("%d pages for %d papers", len(pages), len(catalog.All()))
	}
}

// Pages in the repository follow the catalog: whoever edits one of them
// forgets go generate no longer than until the next test.
func TestCommittedPagesAreFresh(t *testing.T) {
	for _, p := range catalog.All() {
		b, err := os.ReadFile(filepath.Join("..", "..", "..", p.Docs))
		if err != nil {
			t.Error(err)
			continue
		}
		if strings.Contains(string(b), marker) && string(b) != page(p) {
			t.Errorf("%s is stale: run go generate ./lab/catalog", p.Docs)
		}
	}
}
