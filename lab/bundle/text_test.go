package bundle

import (
	"bytes"
	"compress/gzip"
	"io/fs"
	"strings"
	"testing"
	"unicode/utf8"

	"tare/engine/text"
)

var domains = map[string]func(Split) string{"source": Source, "opticks": Opticks}

func TestTextsAreClean(t *testing.T) {
	for name, domain := range domains {
		for _, s := range []Split{Train, Valid, Test} {
			text := domain(s)
			if !utf8.ValidString(text) {
				t.Errorf("%s %s is not UTF-8", name, s)
			}
			if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\n' || r == 0x7f }) {
				t.Errorf("%s %s has control characters", name, s)
			}
			if strings.Contains(text, "\n\n\n") || strings.Contains(text, "  ") || !strings.HasSuffix(text, "\n") {
				t.Errorf("%s %s has gaps or no last line end", name, s)
			}
			if lines, blank := strings.Count(text, "\n"), strings.Count(text, "\n\n"); lines != 2*blank+1 {
				t.Errorf("%s %s: %d line ends for %d blank lines: a paragraph is not on one line", name, s, lines, blank)
			}
			for _, alien := range []string{"Gutenberg", "Transcriber", "[Illustration", "FOOTNOTE", "http"} {
				if strings.Contains(text, alien) {
					t.Errorf("%s %s contains %q", name, s, alien)
				}
			}
		}
	}
}

// A long paragraph of one split is in no other.
func TestSplitsShareNothing(t *testing.T) {
	for name, domain := range domains {
		at := map[string]Split{}
		for _, s := range []Split{Train, Valid, Test} {
			for p := range strings.SplitSeq(domain(s), "\n\n") {
				if other, ok := at[p]; ok && other != s && len(p) > 100 {
					t.Errorf("%s: %s and %s share %.60q", name, other, s, p)
				}
				at[p] = s
			}
		}
	}
}

func TestSplitSizes(t *testing.T) {
	for name, want := range map[string][2]float64{"source": {0.03, 0.05}, "opticks": {0.08, 0.12}} {
		sizes := map[Split]int{}
		all := 0
		for _, s := range []Split{Train, Valid, Test} {
			sizes[s] = len(domains[name](s))
			all += sizes[s]
		}
		for _, s := range []Split{Valid, Test} {
			if part := float64(sizes[s]) / float64(all); part < want[0] || part > want[1] {
				t.Errorf("%s: %.3f of the text is for %s, want %v", name, part, s, want)
			}
		}
	}
}

func TestPackedTexts(t *testing.T) {
	total := 0
	names, err := fs.Glob(textFiles, "text/*.gz")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		packed, err := textFiles.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		total += len(packed)
		r, err := gzip.NewReader(bytes.NewReader(packed))
		if err != nil {
			t.Fatal(err)
		}
		if !r.ModTime.IsZero() || r.Name != "" {
			t.Errorf("%s carries the time %v and the name %q", name, r.ModTime, r.Name)
		}
	}
	if len(names) != 6 || total > 5_000_000 {
		t.Errorf("%d files of %d bytes", len(names), total)
	}
}

func TestUnknownSplit(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a split that does not exist gave a text")
		}
	}()
	Source("tests")
}

func TestTokenizer(t *testing.T) {
	data, err := Tokenizer()
	if err != nil {
		t.Fatal(err)
	}
	tok, err := text.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if n := tok.VocabSize(); n != 2048 {
		t.Errorf("%d tokens, want 2048", n)
	}
	if id, ok := tok.ID("<|endoftext|>"); !ok || id != 0 {
		t.Errorf("<|endoftext|> is %d, %v", id, ok)
	}
	held := Source(Test)
	ids := tok.EncodeOrdinary(held)
	if tok.Decode(ids, false) != held {
		t.Error("the held-out text does not come back")
	}
	if ratio := float64(len(held)) / float64(len(ids)); ratio < 3.3 {
		t.Errorf("%.2f bytes per token on the held-out text", ratio)
	}
	for _, p := range Arithmetic(5, 1000) {
		// The answer is one token and the line end another.
		if n := len(tok.EncodeOrdinary(p.Completion())); n != 2 {
			t.Errorf("%q is %d tokens, want 2", p.Completion(), n)
		}
		if whole, parts := len(tok.EncodeOrdinary(p.Prompt()+p.Completion())), len(tok.EncodeOrdinary(p.Prompt()))+2; whole != parts {
			t.Errorf("%q: %d tokens as a whole, %d in two parts", p.Question, whole, parts)
		}
	}
}
