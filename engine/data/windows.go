package data

import (
	"fmt"
	"math/rand/v2"
)

// Windows is a Source over a stream of tokens: windows that do not overlap, in
// shuffled order, every batch full. Each epoch begins at another place, so that the
// borders between windows move.
type Windows struct {
	cursor
	spare
	ids           []int32
	length, batch int
	offset        int // of the epoch's first window
}

// NewWindows returns batches of batch windows of seqLen tokens. A stream shorter
// than a window is one window.
func NewWindows(ids []int32, seqLen, batch int, seed uint64) (*Windows, error) {
	if err := checkWindows(ids, seqLen, batch); err != nil {
		return nil, err
	}
	w := &Windows{ids: ids, length: min(seqLen, len(ids)-1), batch: batch}
	w.cursor = cursor{state: state{Seed: seed, Size: len(ids)}, what: "tokens", begin: w.begin}
	w.start()
	return w, nil
}

func (w *Windows) begin(rng *rand.Rand) int {
	targets := len(w.ids) - 1
	w.offset = rng.IntN(min(w.length, targets-w.length+1))
	return (targets - w.offset) / w.length
}

// Next implements Source.
func (w *Windows) Next() (*Batch, error) {
	b := w.empty()
	for range w.batch {
		item := w.next() // may begin an epoch, which moves the offset
		at := w.offset + item*w.length
		b.add(w.ids[at:at+w.length], w.ids[at+1:at+w.length+1])
	}
	return b, nil
}

// WindowBatches cuts the stream into windows of seqLen tokens in order, the last
// one shorter: every token but the first is predicted exactly once.
func WindowBatches(ids []int32, seqLen, batch int) ([]*Batch, error) {
	if err := checkWindows(ids, seqLen, batch); err != nil {
		return nil, err
	}
	var batches []*Batch
	for at := 0; at < len(ids)-1; at += seqLen {
		end := min(at+seqLen, len(ids)-1)
		if at/seqLen%batch == 0 {
			batches = append(batches, &Batch{})
		}
		batches[len(batches)-1].add(ids[at:end], ids[at+1:end+1])
	}
	return batches, nil
}

func checkWindows(ids []int32, seqLen, batch int) error {
	switch {
	case seqLen < 1 || batch < 1:
		return fmt.Errorf("data: windows of %d tokens, %d a batch: both must be at least 1", seqLen, batch)
	case len(ids) < 2:
		return fmt.Errorf("data: a stream of %d tokens has nothing to predict: %w", len(ids), ErrEmpty)
	}
	return nil
}
