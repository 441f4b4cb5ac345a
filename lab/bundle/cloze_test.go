package bundle

import (
	"slices"
	"strings"
	"testing"
)

// The text has every question's context and answer side by side, the choices differ, no
// wrong one follows, and the questions are the same every time.
func TestOpticksCloze(t *testing.T) {
	text := strings.Join(strings.Fields(Opticks(Test)), " ")
	qs := OpticksCloze(100)
	if len(qs) < 50 {
		t.Fatalf("%d questions", len(qs))
	}
	places := map[int]int{}
	for i, q := range qs {
		places[q.Answer]++
		if len(q.Choices) != 4 || len(slices.Compact(slices.Sorted(slices.Values(q.Choices)))) != 4 {
			t.Fatalf("question %d has the choices %q", i, q.Choices)
		}
		for k, c := range q.Choices {
			if got := strings.Contains(text, q.Context+" "+c); got != (k == q.Answer) {
				t.Errorf("question %d: choice %d follows the context: %v, the answer is %d", i, k, got, q.Answer)
			}
		}
	}
	for place := range 4 {
		if places[place] < len(qs)/8 {
			t.Errorf("the answer is at place %d in %d of %d questions", place, places[place], len(qs))
		}
	}
	again := OpticksCloze(100)
	if !slices.EqualFunc(qs, again, func(a, b Cloze) bool {
		return a.Context == b.Context && a.Answer == b.Answer && slices.Equal(a.Choices, b.Choices)
	}) {
		t.Error("the questions differ from one call to the next")
	}
}
