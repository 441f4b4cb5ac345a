package data

import (
	"fmt"
	"math/rand/v2"
)

// Labelled is rows of numbers with a label each, in shuffled order, every batch full:
// what a classifier learns from. Every epoch is shuffled anew, and a saved position
// goes on with the same batches.
type Labelled struct {
	cursor
	rows   []float32
	labels []int32
	width  int
	batch  int
	change func(row []float32, rng *rand.Rand)
	pcg    rand.PCG

	idleRows   [][]float32 // given back
	idleLabels [][]int32
}

// NewLabelled returns batches of batch rows out of rows [len(labels), width].
func NewLabelled(rows []float32, labels []int32, batch int, seed uint64) (*Labelled, error) {
	switch {
	case batch < 1:
		return nil, fmt.Errorf("data: %d rows a batch: must be at least 1", batch)
	case len(labels) == 0 || len(rows) == 0:
		return nil, fmt.Errorf("data: no labelled rows: %w", ErrEmpty)
	case len(rows)%len(labels) != 0:
		return nil, fmt.Errorf("data: %d numbers in %d labelled rows: %w", len(rows), len(labels), ErrFormat)
	}
	l := &Labelled{rows: rows, labels: labels, width: len(rows) / len(labels), batch: batch}
	l.cursor = cursor{
		state: state{Seed: seed, Size: len(labels)}, what: "labelled rows",
		begin: func(*rand.Rand) int { return len(labels) },
	}
	l.start()
	return l, nil
}

// Change lets f alter the copy of a row that a batch holds. What it draws depends on
// the seed, the epoch and the place in it alone.
func (l *Labelled) Change(f func(row []float32, rng *rand.Rand)) { l.change = f }

// Next returns the next batch: rows [batch, width], of which the caller is the owner
// until it gives them to Reuse, and their labels.
func (l *Labelled) Next() ([]float32, []int32) {
	rows, labels := l.buffers()
	for i := range l.batch {
		at := l.next()
		row := rows[i*l.width : (i+1)*l.width]
		copy(row, l.rows[at*l.width:])
		labels[i] = l.labels[at]
		if l.change != nil {
			l.pcg.Seed(l.Seed+uint64(l.Epoch)<<32, ^uint64(l.Position))
			l.change(row, rand.New(&l.pcg))
		}
	}
	return rows, labels
}

// Reuse takes a batch back when nobody will read it any more, to use its memory for one
// that comes later.
func (l *Labelled) Reuse(rows []float32, labels []int32) {
	l.idleRows, l.idleLabels = append(l.idleRows, rows), append(l.idleLabels, labels)
}

// buffers returns room for a batch.
func (l *Labelled) buffers() ([]float32, []int32) {
	n := len(l.idleRows)
	if n == 0 {
		return make([]float32, l.batch*l.width), make([]int32, l.batch)
	}
	rows, labels := l.idleRows[n-1], l.idleLabels[n-1]
	l.idleRows, l.idleLabels = l.idleRows[:n-1], l.idleLabels[:n-1]
	return rows, labels
}

// Shift returns a Change that moves images of one or more planes of height×width pixels
// by up to most pixels each way, zeros coming in at the border.
func Shift(height, width, most int) func(row []float32, rng *rand.Rand) {
	return func(row []float32, rng *rand.Rand) {
		dy, dx := rng.IntN(2*most+1)-most, rng.IntN(2*most+1)-most
		was := append([]float32(nil), row...)
		clear(row)
		for plane := 0; plane < len(row); plane += height * width {
			for y := max(0, dy); y < min(height, height+dy); y++ {
				from, to := plane+(y-dy)*width, plane+y*width
				copy(row[to+max(0, dx):to+min(width, width+dx)], was[from+max(0, -dx):])
			}
		}
	}
}
