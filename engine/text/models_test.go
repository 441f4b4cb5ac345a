package text

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// bestCut tries every way to cut a word and returns the largest sum of scores.
func bestCut(m *unigram, word string) float64 {
	if word == "" {
		return 0
	}
	best := math.Inf(-1)
	for n := 1; n <= len(word); n++ {
		if id, ok := m.ids[word[:n]]; ok {
			best = max(best, m.pieces[id].score+bestCut(m, word[n:]))
		}
	}
	if _, ok := m.ids[word[:1]]; !ok {
		best = max(best, m.worst-unknownPenalty+bestCut(m, word[1:]))
	}
	return best
}

func TestUnigramFindsTheBestCut(t *testing.T) {
	letters := rapid.StringOfN(rapid.SampledFrom([]rune("abcd")), 1, 10, -1)
	rapid.Check(t, func(t *rapid.T) {
		vocab := []any{[]any{"<unk>", 0.0}, []any{"a", -3.0}, []any{"b", -3.5}}
		for i := range rapid.IntRange(0, 12).Draw(t, "pieces") {
			vocab = append(vocab, []any{rapid.StringOfN(rapid.SampledFrom([]rune("abc")), 1, 4, -1).Draw(t, "piece"), -float64(rapid.IntRange(1, 60).Draw(t, fmt.Sprint("score", i))) / 4})
		}
		raw, err := json.Marshal(map[string]any{"type": "Unigram", "vocab": vocab, "unk_id": 0})
		if err != nil {
			t.Fatal(err)
		}
		m, err := parseUnigram(raw)
		if err != nil {
			t.Fatal(err)
		}
		word := letters.Draw(t, "word")
		l := &lattice{m: m}
		ids := l.encode(nil, word)
		if got, want := l.best[len(word)].score, bestCut(m, word); math.Abs(got-want) > 1e-9 {
			t.Fatalf("%q scores %g, want %g", word, got, want)
		}
		var text strings.Builder
		for _, id := range ids {
			if id != 0 {
				text.WriteString(m.pieces[id].piece)
			}
		}
		if known := strings.Map(func(r rune) rune {
			if _, ok := m.ids[string(r)]; !ok && (r == 'c' || r == 'd') && !strings.Contains(text.String(), string(r)) {
				return -1
			}
			return r
		}, word); !slices.Contains(ids, 0) && text.String() != known {
			t.Fatalf("%q is cut into %q", word, text.String())
		}
	})
}

// A text that no splitter cuts may be cut where findBreaks says so: the ids are those
// of merging it whole.
func TestStretchesAreTheWhole(t *testing.T) {
	m := load(t, "llama2").model.(*bpe)
	if !m.breaks || m.glued['e'] || !m.glued[blank] && strings.Contains(strings.Join(load(t, "llama2").tokens, " "), "▁▁") {
		t.Fatalf("breaks %v, glued %v", m.breaks, m.glued)
	}
	text := rapid.StringOfN(rapid.SampledFrom([]rune("▁▁▁thelightof.,é光")), 1, 150, -1)
	rapid.Check(t, func(t *rapid.T) {
		s := text.Draw(t, "text")
		if got, want := m.encoder().encode(nil, s), newWords(m).encode(nil, s); !slices.Equal(got, want) {
			t.Fatalf("%q: %v, want %v", s, got, want)
		}
	})
}

func TestTrie(t *testing.T) {
	ids := vocabulary{"": 9, "a": 0, "ab": 1, "abc": 2, "b": 3, "é": 4, "\xff": 5}
	for i := range 300 { // a node with many children
		ids["x"+string(rune(0x100+i))] = int32(10 + i)
	}
	tr := newTrie(ids)
	for token, id := range ids {
		node := int32(0)
		for i := range len(token) {
			if node = tr.child(node, token[i]); node < 0 {
				t.Fatalf("%q ends at byte %d", token, i)
			}
		}
		if token != "" && tr.value[node] != id {
			t.Errorf("%q has the id %d, want %d", token, tr.value[node], id)
		}
	}
	if tr.child(0, 'c') >= 0 || tr.child(tr.child(0, 'b'), 'a') >= 0 || tr.value[0] >= 0 {
		t.Error("the trie has what is not in it")
	}
}

func TestWordLevel(t *testing.T) {
	tok, err := Parse([]byte(`{"model":{"type":"WordLevel","vocab":{"the":0,"?":1,"light":2},"unk_token":"?"},"pre_tokenizer":{"type":"Whitespace"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := tok.Encode("the red light"); !slices.Equal(got, []int32{0, 1, 2}) {
		t.Errorf("%v", got)
	}
}

// Damaged tables of the Precompiled normaliser rewrite something or nothing, but end.
func FuzzCharsmap(f *testing.F) {
	f.Add([]byte{4, 0, 0, 0, 0, 0, 0, 0, 'a', 0}, "ab")
	f.Add([]byte{8, 0, 0, 0, 0, 0x84, 1, 0, 0x61, 1, 0, 0, 'x'}, "aé")
	f.Fuzz(func(t *testing.T, raw []byte, s string) {
		m, err := parseCharsmap(raw)
		if err == nil {
			m.normalize(validUTF8(s))
		}
	})
}
