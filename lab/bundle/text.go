package bundle

import (
	"bytes"
	"compress/gzip"
	"embed"
	"fmt"
	"io"
	"sync"
)

// Split is a part of a text. The parts share no document and no section.
type Split string

// Train is to learn from, Valid to choose settings by, Test to report.
const (
	Train Split = "train"
	Valid Split = "valid"
	Test  Split = "test"
)

//go:embed text
var textFiles embed.FS

// The texts are unpacked when they are first asked for, and kept.
var texts sync.Map // file name → func() string

// Source returns a part of the source domain: whole State of the Union addresses
// of 1790 to 2021, then whole chapters of Moby Dick, one blank line between
// paragraphs.
func Source(s Split) string { return read("source", s) }

// Opticks returns a part of the tuning domain: whole sections of Newton's Opticks,
// in the book's order, one blank line between paragraphs.
func Opticks(s Split) string { return read("opticks", s) }

func read(domain string, s Split) string {
	name := fmt.Sprintf("text/%s-%s.txt.gz", domain, s)
	once, _ := texts.LoadOrStore(name, sync.OnceValue(func() string {
		text, err := unpack(name)
		if err != nil {
			panic(err) // the file is compiled in: only an unknown Split comes here
		}
		return text
	}))
	return once.(func() string)()
}

func unpack(name string) (string, error) {
	packed, err := textFiles.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("bundle: %w", err)
	}
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return "", fmt.Errorf("bundle: %s: %w", name, err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return "", fmt.Errorf("bundle: %s: %w", name, err)
	}
	return string(text), nil
}
