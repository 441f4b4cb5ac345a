package tare_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"tare/app/cli"
)

// The documents are tested as a reader would: in each, from top to bottom, every
// line of a console block that begins with "$ " is typed into a shell in an empty
// folder. It must exit with 0, and what the block shows below it must be what it
// prints. A line "…" stands for any number of lines; figures with decimals and times
// are those of some machine and are not compared. A block whose opening names a
// file, as in "```yaml merge.yaml", is that file. Commands that read from tables/ run
// where TARE_TABLES names the folder that parity/tables.py fills.

// tooLong begins the commands that are shown but take minutes, or run these tests.
var tooLong = []string{"tare quickstart", "tare reproduce", "tare bench", "tare pretrain", "go test", "bash .ci/run"}

// ownCommand is how the documents call the program before it is installed.
const ownCommand = "go run ./cmd/tare"

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"tare": func() { os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
	})
}

// documents are the pages that people read first.
func documents(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	return append([]string{"README.md"}, pages...)
}

// step is one command of a document, or one file that it gives.
type step struct {
	line    int
	command string
	shown   []string // the lines below the command
	file    string   // name of a file with the content shown
}

// steps cuts a document's fenced blocks.
func steps(text string) []step {
	var all []step
	inside, console := false, false
	for i, line := range strings.Split(text, "\n") {
		info, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && inside:
			inside, console = false, false
		case fence:
			words := strings.Fields(info)
			inside, console = true, slices.Equal(words, []string{"console"})
			if len(words) == 2 {
				all = append(all, step{line: i + 1, file: words[1]})
				console = true
			}
		case console && strings.HasPrefix(line, "$ "):
			all = append(all, step{line: i + 1, command: line[2:]})
		case console && len(all) > 0:
			last := &all[len(all)-1]
			last.shown = append(last.shown, line)
		}
	}
	return all
}

func TestDocumentsRun(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("there is no shell")
	}
	for _, page := range documents(t) {
		t.Run(page, func(t *testing.T) {
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			dir, state := t.TempDir(), t.TempDir()
			for _, s := range steps(string(text)) {
				if err := s.run(t.Context(), dir, state); err != nil {
					t.Fatalf("%s:%d: %v", page, s.line, err)
				}
			}
		})
	}
}

// run does the step in dir; what the program keeps goes to state.
func (s step) run(ctx context.Context, dir, state string) error {
	if s.file != "" {
		return os.WriteFile(filepath.Join(dir, s.file), []byte(strings.Join(s.shown, "\n")+"\n"), 0o666)
	}
	command := strings.ReplaceAll(s.command, ownCommand, "tare")
	for _, prefix := range tooLong {
		if strings.HasPrefix(command, prefix) {
			return nil
		}
	}
	if strings.Contains(command, " tables/") {
		tables := os.Getenv("TARE_TABLES")
		if tables == "" {
			return nil
		}
		if err := os.Symlink(tables, filepath.Join(dir, "tables")); err != nil && !os.IsExist(err) {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TARE_STATE="+state, "XDG_CACHE_HOME="+state)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s%s", s.command, err, out.String(), errOut.String())
	}
	if lost := missing(s.shown, out.String()); lost != "" {
		return fmt.Errorf("%s: the document shows\n%s\nbut the command prints\n%s", s.command, lost, out.String())
	}
	return nil
}

// missing returns the first run of shown lines that the output does not have where
// it should, or "".
func missing(shown []string, output string) string {
	rest := "\n" + tidy(strings.Split(output, "\n")) + "\n"
	for len(shown) > 0 {
		end := slices.Index(shown, "…")
		if end < 0 {
			end = len(shown)
		}
		if lines := tidy(shown[:end]); lines != "" {
			at := strings.Index(rest, "\n"+lines+"\n")
			if at < 0 {
				return lines
			}
			rest = rest[at+len(lines)+1:]
		}
		shown = shown[min(len(shown), end+1):]
	}
	return ""
}

// figures are numbers that differ from machine to machine.
var figures = regexp.MustCompile(`[0-9.]*[0-9] (ms|s)\b|[0-9]+\.[0-9]+`)

// tidy joins lines with their figures masked and without the space that aligns them.
func tidy(lines []string) string {
	var plain []string
	for _, l := range lines {
		plain = append(plain, strings.Join(strings.Fields(figures.ReplaceAllString(l, "#")), " "))
	}
	return strings.Trim(strings.Join(plain, "\n"), "\n")
}

func TestMissing(t *testing.T) {
	const output = "one\ntwo  \nthree\nfour\n"
	for _, c := range []struct{ shown, lost string }{
		{"", ""},
		{"one\ntwo\nthree\nfour\n", ""},
		{"two\nthree", ""},
		{"one\n…\nfour", ""},
		{"…\nfour\n…", ""},
		{"one\nthree", "one\nthree"},
		{"four\n…\none", "one"},
		{"on", "on"},
		{"took 1.5 s\n", "took #"},
	} {
		if lost := missing(strings.Split(c.shown, "\n"), output); lost != c.lost {
			t.Errorf("%q: missing %q, want %q", c.shown, lost, c.lost)
		}
	}
	if lost := missing([]string{"paca  86.1 k  20"}, "paca   9.2 k   20\n"); lost != "" {
		t.Errorf("figures and alignment are compared: %q", lost)
	}
}

// What the documents show of the source stands there: in a Go block that begins with
// a file's name, each line is one of that file's, comments and space aside.
func TestSourceIsQuotedRight(t *testing.T) {
	block := regexp.MustCompile("(?s)```go\n// (\\S+\\.go)\n(.*?)```")
	for _, page := range documents(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		if all, named := bytes.Count(text, []byte("```go\n")), len(block.FindAll(text, -1)); all != named {
			t.Errorf("%s: %d of %d Go blocks begin with the name of their file", page, named, all)
		}
		for _, m := range block.FindAllSubmatch(text, -1) {
			source, err := os.ReadFile(string(m[1]))
			if err != nil {
				t.Errorf("%s: %v", page, err)
				continue
			}
			real := codeLines(string(source))
			for _, line := range codeLines(string(m[2])) {
				if !slices.Contains(real, line) {
					t.Errorf("%s: %s does not have the line %q", page, m[1], line)
				}
			}
		}
	}
}

// codeLines returns the lines that hold code, without comments, an opening brace of
// a function's body and the space that aligns them.
func codeLines(source string) []string {
	var lines []string
	for line := range strings.Lines(source) {
		code, _, _ := strings.Cut(line, "//")
		code = strings.Join(strings.Fields(code), " ")
		if strings.HasPrefix(code, "func ") {
			code = strings.TrimSuffix(code, " {")
		}
		if code != "" {
			lines = append(lines, code)
		}
	}
	return lines
}

// Links between the documents, and from them to files, lead somewhere.
func TestLinksLead(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#\s]+)(#[^)]*)?\)`)
	for _, page := range append(documents(t), "CHANGELOG.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, m := range link.FindAllSubmatch(text, -1) {
			to := string(m[1])
			if strings.Contains(to, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), to)); err != nil {
				t.Errorf("%s links to %s: %v", page, to, err)
			}
		}
	}
}
