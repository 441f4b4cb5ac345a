package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

var (
	// figure is a mark of the transcription for a drawing or a footnote.
	figure = regexp.MustCompile(`\[Illustration[^\]]*\]|\[[A-Z]\]`)
	// greek is a Greek letter as the transcription spells it.
	greek = regexp.MustCompile(`\[Greek:\s+([^\]]*)\]`)
	// heading begins a section: a definition, axiom, proposition, experiment,
	// observation, query, part or book.
	heading = regexp.MustCompile(`^(DEFIN|AX|PROP|Exper|Obs|Qu|Query|Quest|PART|DEFINITION|THE (FIRST|SECOND|THIRD) BOOK)\b`)
)

// shortest is how many bytes a section has at least; a shorter one goes with the next.
const shortest = 1500

// readOpticks returns the sections of the book, from Newton's first advertisement
// to the end, without the transcriber's notes, the title page, the drawings, the
// footnotes and the tables.
func readOpticks() ([]string, error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("go env GOROOT: %w", err)
	}
	path := filepath.Join(strings.TrimSpace(string(root)), "src", "testdata", "Isaac.Newton-Opticks.txt")
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	_, text, found := strings.Cut(string(raw), "SIR ISAAC NEWTON'S ADVERTISEMENTS\n")
	if !found {
		return nil, fmt.Errorf("%s: the advertisements that open the book are missing", path)
	}
	for _, book := range []string{"SECOND", "THIRD"} { // the title of a book stands on four lines
		text = strings.ReplaceAll(text, "THE\n\n"+book+" BOOK\n\nOF\n\nOPTICKS", "THE "+book+" BOOK OF OPTICKS")
	}
	var sections []string
	for _, p := range paragraphs(withoutTables(text)) {
		if noise(p) {
			continue
		}
		p = greek.ReplaceAllString(strings.ReplaceAll(plain.Replace(p), "_", ""), "$1")
		if p = strings.Join(strings.Fields(figure.ReplaceAllString(p, "")), " "); p == "" {
			continue
		}
		last := len(sections) - 1
		if last < 0 || heading.MatchString(p) && len(sections[last]) >= shortest {
			sections = append(sections, p)
		} else {
			sections[last] += "\n\n" + p
		}
	}
	return sections, nil
}

// withoutTables leaves out the lines that are ruled into columns.
func withoutTables(text string) string {
	var kept []string
	for line := range strings.Lines(text) {
		if !strings.ContainsAny(line, "|{}") && !strings.Contains(line, "-----") && !strings.Contains(line, "_____") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// noise is a paragraph that is not Newton's: a transcriber's note, a footnote, a
// ruled line.
func noise(p string) bool {
	return strings.HasPrefix(p, "Transcriber's Note") ||
		strings.HasPrefix(p, "FOOTNOTES") ||
		strings.HasPrefix(p, "[Sidenote") ||
		len(p) > 3 && p[0] == '[' && p[2] == ']' ||
		strings.Trim(p, "* ") == ""
}
