package data

import (
	"slices"
	"testing"
)

func TestShuffledSamples(t *testing.T) {
	s := &Samples{Tokens: [][]int32{{0}, {1, 1}, {2}, {3, 3, 3}}, Labels: []int32{10, 11, 12, 13}}
	src, err := NewShuffledSamples(s, 2, 5)
	if err != nil {
		t.Fatal(err)
	}
	var epoch []int32
	for range 2 {
		b := src.Next()
		for i, label := range b.Labels {
			if b.Tokens[i][0] != label-10 {
				t.Errorf("text %v has label %d", b.Tokens[i], label)
			}
		}
		epoch = append(epoch, b.Labels...)
	}
	slices.Sort(epoch)
	if !slices.Equal(epoch, s.Labels) {
		t.Errorf("an epoch has the labels %v", epoch)
	}
	saved, err := src.State()
	if err != nil {
		t.Fatal(err)
	}
	want := src.Next().Labels
	again, err := NewShuffledSamples(s, 2, 5)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Restore(saved); err != nil {
		t.Fatal(err)
	}
	if got := again.Next().Labels; !slices.Equal(got, want) {
		t.Errorf("restored, the next batch is %v, want %v", got, want)
	}
	for _, bad := range []*Samples{{}, {Labels: []int32{1}}, {Labels: []int32{1, 2}, Pixels: make([]float32, 3)}, {Labels: []int32{1, 2}, Tokens: [][]int32{{1}}}} {
		if _, err := NewShuffledSamples(bad, 1, 0); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
	images := &Samples{Pixels: []float32{1, 1, 2, 2, 3, 3}, Labels: []int32{1, 2, 3}}
	kept, held := images.HoldOut(3)
	if !slices.Equal(kept.Pixels, []float32{1, 1, 2, 2}) || !slices.Equal(held.Labels, []int32{3}) || !slices.Equal(held.Pixels, []float32{3, 3}) {
		t.Errorf("kept %+v, held out %+v", kept, held)
	}
}
