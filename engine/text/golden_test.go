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
	Paired [][2]string             `json:"paired"`
	Pairs  map[string][][2][]int32 `json:"pairs"`
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

// readGolden returns what golden.json and golden_pieces.json recorded.
func readGolden(t testing.TB) []golden {
	t.Helper()
	all := make([]golden, 2)
	readJSON(t, "golden.json", &all[0])
	readJSON(t, "golden_pieces.json", &all[1])
	if n := len(all[0].Golden) + len(all[1].Golden); len(all[0].Texts) < 100 || n != len(made) {
		t.Fatalf("there are %d texts and %d tokenizers", len(all[0].Texts), n)
	}
	return all
}

func TestIDsAreTheReferences(t *testing.T) {
	for _, g := range readGolden(t) {
		g.check(t)
	}
}

func (g golden) check(t *testing.T) {
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
			runSplit(stages, s, true, func(piece string) { got = append(got, piece) })
			if !slices.Equal(got, c.Pieces[i]) {
				t.Errorf("%s: %q: %q, want %q", c.Config, s, got, c.Pieces[i])
			}
		}
	}
}

func TestPairsAreTheReferences(t *testing.T) {
	for _, g := range readGolden(t) {
		for name, rows := range g.Pairs {
			tok := load(t, name)
			for i, want := range rows {
				ids, kinds := tok.EncodePair(g.Paired[i][0], g.Paired[i][1])
				if !slices.Equal(ids, want[0]) || !slices.Equal(kinds, want[1]) {
					t.Errorf("%s: EncodePair(%q) = %v, %v, want %v, %v", name, g.Paired[i], ids, kinds, want[0], want[1])
				}
			}
		}
	}
}
