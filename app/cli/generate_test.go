package cli

import (
	"strings"
	"testing"
	"unicode/utf8"

	"tare/engine/text"
)

// A stream of single tokens must read as the whole does, and never hold a broken
// character where the text has none.
func TestTextStream(t *testing.T) {
	raw, err := text.Train([]string{strings.Repeat(sampleText, 4)}, text.TrainOptions{Vocab: 270})
	if err != nil {
		t.Fatal(err)
	}
	tok, err := text.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	// With so few merges 光, é and the emoji are several tokens each.
	ids := tok.EncodeOrdinary("The light 光 naïveté 😀 fell.")
	for _, cut := range []int{1, 4, 9} {
		s := newTextStream(tok, ids[:cut])
		var got strings.Builder
		for _, id := range ids[cut:] {
			piece := s.add(id)
			if strings.ContainsRune(piece, utf8.RuneError) {
				t.Errorf("a broken character in %q", piece)
			}
			got.WriteString(piece)
		}
		got.WriteString(s.rest())
		whole, prompt := tok.Decode(ids, true), tok.Decode(ids[:cut], true)
		if got.String() != strings.TrimPrefix(whole, prompt) {
			t.Errorf("after %q: %q, want the rest of %q", prompt, got.String(), whole)
		}
	}
	// An unfinished character comes at the end, once.
	emoji := tok.EncodeOrdinary("😀")
	s := newTextStream(tok, ids[:2])
	if got := s.add(emoji[0]); got != "" {
		t.Errorf("half a character gives %q", got)
	}
	if got := s.rest(); got != "\uFFFD" {
		t.Errorf("the rest is %q", got)
	}
}
