package data

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// documentsOf returns documents of the given lengths; each holds its own number.
func documentsOf(lengths ...int) []Example {
	out := make([]Example, len(lengths))
	for i, n := range lengths {
		out[i].Tokens = slices.Repeat([]int32{int32(i)}, n)
	}
	return out
}

// First-fit by hand: 6 opens a bin of 10, 7 another, 3 fits the first, 4 opens a third,
// 1 fits the first, 3 the second, 6 the third.
func TestFirstFit(t *testing.T) {
	sizes := []int{6, 7, 3, 4, 1, 3, 6}
	got := firstFit([]int{0, 1, 2, 3, 4, 5, 6}, func(i int) int { return sizes[i] }, 10)
	want := [][]int{{0, 2, 4}, {1, 5}, {3, 6}}
	if !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("bins %v, want %v", got, want)
	}
}

// Every epoch has every document once and whole, no batch holds more than it may, and
// only one bin of first-fit can be half empty.
func TestPackedEpochs(t *testing.T) {
	const room = 64
	rng := rand.New(rand.NewPCG(1, 2))
	lengths := make([]int, 300)
	for i := range lengths {
		lengths[i] = 2 + rng.IntN(room-1)
	}
	docs := documentsOf(lengths...)
	p, err := NewPacked(docs, room, 5)
	if err != nil {
		t.Fatal(err)
	}
	var orders [][]int
	for range 3 {
		var seen, order []int
		light := 0
		for begun := false; !begun || p.Position < len(p.bins); begun = true {
			b, err := p.Next()
			if err != nil {
				t.Fatal(err)
			}
			if len(b.Tokens) > room || len(b.Targets) != len(b.Tokens) {
				t.Fatalf("a batch of %d tokens", len(b.Tokens))
			}
			if 2*len(b.Tokens) <= room {
				light++
			}
			at := 0
			for _, n := range b.Lengths {
				doc := int(b.Tokens[at])
				if n != lengths[doc] || b.Targets[at+n-1] != -1 || b.Targets[at] != int32(doc) {
					t.Fatalf("document %d has %d tokens in its batch, targets %v", doc, n, b.Targets[at:at+n])
				}
				order = append(order, doc)
				at += n
			}
		}
		seen = slices.Sorted(slices.Values(order))
		if len(seen) != len(docs) || len(slices.Compact(seen)) != len(docs) {
			t.Fatalf("an epoch has %d documents of %d", len(seen), len(docs))
		}
		if light > 1 {
			t.Errorf("%d batches are half empty", light)
		}
		orders = append(orders, order)
	}
	if slices.Equal(orders[0], orders[1]) {
		t.Error("two epochs have one order")
	}
}

// A source that restores a state gives the batches that would have come next, from the
// middle of an epoch over its end.
func TestPackedResumes(t *testing.T) {
	docs := documentsOf(5, 9, 3, 12, 7, 2, 8, 4, 11, 6)
	a, err := NewPacked(docs, 16, 3)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := a.Next(); err != nil {
			t.Fatal(err)
		}
	}
	saved, err := a.State()
	if err != nil {
		t.Fatal(err)
	}
	b, _ := NewPacked(docs, 16, 99)
	if err := b.Restore(saved); err != nil {
		t.Fatal(err)
	}
	for range 12 {
		x, _ := a.Next()
		y, _ := b.Next()
		if !slices.Equal(x.Tokens, y.Tokens) || !slices.Equal(x.Lengths, y.Lengths) {
			t.Fatalf("batch %v, want %v", y.Tokens, x.Tokens)
		}
	}
	if _, err := NewPacked(docs, 11, 1); err == nil {
		t.Error("a document that fits no batch is taken")
	}
	if _, err := NewPacked(nil, 11, 1); err == nil {
		t.Error("no documents are taken")
	}
}
