package text

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// golden is what parity/text.py recorded of the reference library. What is left out
// is as what stands before it: ids as without special tokens, the text as the sample,
// the text without special tokens as with them.
type golden struct {
	Texts  []string `json:"texts"`
	Golden map[string][]struct {
		Ordinary []int32 `json:"ordinary"`
		IDs      []int32 `json:"ids"`
		Text     *string `json:"text"`
		Skipped  *string `json:"skipped"`
	} `json:"golden"`
}

func readJSON(t testing.TB, name string, v any) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		t.Fatal(err)
	}
}

func load(t testing.TB, name string) *Tokenizer {
	t.Helper()
	tok, err := Load(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestIDsAreTheReferences(t *testing.T) {
	var g golden
	readJSON(t, "golden.json", &g)
	if len(g.Texts) < 100 || len(g.Golden) != 6 {
		t.Fatalf("golden.json has %d texts and %d tokenizers", len(g.Texts), len(g.Golden))
	}
	for name, rows := range g.Golden {
		t.Run(name, func(t *testing.T) {
			tok := load(t, name)
			for range 2 { // the second time from the cache of words
				for i, want := range rows {
					s := g.Texts[i]
					ids, text := want.Ordinary, s
					if want.IDs != nil {
						ids = want.IDs
					}
					if got := tok.Encode(s); !slices.Equal(got, ids) {
						t.Errorf("Encode(%.80q) = %v, want %v", s, got, ids)
					}
					if got := tok.EncodeOrdinary(s); !slices.Equal(got, want.Ordinary) {
						t.Errorf("EncodeOrdinary(%.80q) = %v, want %v", s, got, want.Ordinary)
					}
					if want.Text != nil {
						text = *want.Text
					}
					if got := tok.Decode(ids, false); got != text {
						t.Errorf("Decode(%v, false) = %q, want %q", ids, got, text)
					}
					if want.Skipped != nil {
						text = *want.Skipped
					}
					if got := tok.Decode(ids, true); got != text {
						t.Errorf("Decode(%v, true) = %q, want %q", ids, got, text)
					}
				}
			}
		})
	}
}

func TestPiecesAreTheReferences(t *testing.T) {
	var g struct {
		Texts  []string `json:"texts"`
		Splits []struct {
			Config json.RawMessage `json:"config"`
			Pieces [][]string      `json:"pieces"`
		} `json:"splits"`
	}
	readJSON(t, "splits.json", &g)
	if len(g.Splits) < 80 {
		t.Fatalf("splits.json has %d configurations", len(g.Splits))
	}
	for _, c := range g.Splits {
		stages, err := parseSplitter(c.Config, 0)
		if err != nil {
			t.Errorf("%s: %v", c.Config, err)
			continue
		}
		for i, s := range g.Texts {
			got := []string{}
			runSplit(stages, s, func(piece string) { got = append(got, piece) })
			if !slices.Equal(got, c.Pieces[i]) {
				t.Errorf("%s: %q: %q, want %q", c.Config, s, got, c.Pieces[i])
			}
		}
	}
}
