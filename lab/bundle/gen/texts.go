package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"tare/lab/bundle"
)

// parts is a text on its way: the documents of each part, in order.
type parts map[bundle.Split][]string

// deal gives every document to a part by its place: of each cycle documents, one
// is for validation and one for the test.
func (p parts) deal(documents []string, cycle, valid, test int) {
	for i, d := range documents {
		s := bundle.Train
		switch i % cycle {
		case valid:
			s = bundle.Valid
		case test:
			s = bundle.Test
		}
		p[s] = append(p[s], d)
	}
}

// The addresses and chapters are dealt so that about one byte in 25 is held out and
// as many are for validation; a section of Opticks in ten goes to each, at the places
// where both parts come out about a tenth of the book.
func writeTexts(pkg, out string) error {
	addresses, err := readAddresses(filepath.Join(pkg, "sotu", "data"))
	if err != nil {
		return err
	}
	chapters, err := readChapters(filepath.Join(pkg, "moby-dick", "data"))
	if err != nil {
		return err
	}
	sections, err := readOpticks()
	if err != nil {
		return err
	}
	source, opticks := parts{}, parts{}
	source.deal(addresses, 25, 12, 4)
	source.deal(chapters, 27, 10, 20)
	opticks.deal(sections, 10, 5, 8)
	for _, s := range []bundle.Split{bundle.Train, bundle.Valid, bundle.Test} {
		if err := pack(filepath.Join(out, fmt.Sprintf("source-%s.txt.gz", s)), source[s]); err != nil {
			return err
		}
		if err := pack(filepath.Join(out, fmt.Sprintf("opticks-%s.txt.gz", s)), opticks[s]); err != nil {
			return err
		}
	}
	return nil
}

// pack writes the documents as one text. The header of the gzip file holds neither
// name nor time, so the same text gives the same bytes.
func pack(path string, documents []string) error {
	text := strings.Join(documents, "\n\n") + "\n"
	if err := checkClean(text); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := w.Write([]byte(text)); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	fmt.Printf("%s: %d documents, %d bytes, %d packed\n", path, len(documents), len(text), packed.Len())
	return os.WriteFile(path, packed.Bytes(), 0o644)
}

// checkClean refuses what cleaning should have removed.
func checkClean(text string) error {
	if !utf8.ValidString(text) {
		return fmt.Errorf("the text is not UTF-8")
	}
	for i, r := range text {
		if r < ' ' && r != '\n' || r == 0x7f {
			return fmt.Errorf("control character %U at byte %d", r, i)
		}
	}
	return nil
}

// paragraphs cuts text at blank lines and puts every paragraph on one line.
func paragraphs(text string) []string {
	var all []string
	var lines []string
	for _, line := range append(strings.Split(text, "\n"), "") {
		if strings.TrimSpace(line) != "" {
			lines = append(lines, line)
		} else if lines != nil {
			all = append(all, strings.Join(strings.Fields(strings.Join(lines, " ")), " "))
			lines = nil
		}
	}
	return all
}

// plain writes typographic quotes, hyphens and dashes in one way throughout.
var plain = strings.NewReplacer(
	"\r\n", "\n", "’", "'", "‘", "'", "“", `"`, "”", `"`,
	"\u2011", "-", "–", "-", "--", "—", "• ", "", "\ufeff", "", "\u00a0", " ",
)
