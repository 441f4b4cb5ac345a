package optimize

import (
	"fmt"
	"math"
)

// Entry is an observed entry of a matrix; rows and columns count from 0.
type Entry struct {
	Row, Column int32
	Value       float64
}

// EmptyError is a row or column without an observed entry, of which nothing can be said.
type EmptyError struct {
	Column bool
	Index  int // from 0
}

// Error numbers the row or column from 1.
func (e *EmptyError) Error() string {
	what := "row"
	if e.Column {
		what = "column"
	}
	return fmt.Sprintf("optimize: %s %d has no observed entry; leave it out", what, e.Index+1)
}

// Unwrap returns [ErrData].
func (e *EmptyError) Unwrap() error { return ErrData }

// EntryError is an entry that cannot be used.
type EntryError struct {
	Number int // from 0
	Entry  Entry
	Reason string
}

// Error numbers entry, row and column from 1.
func (e *EntryError) Error() string {
	return fmt.Sprintf("optimize: entry %d, row %d, column %d: %g %s", e.Number+1, e.Entry.Row+1, e.Entry.Column+1, e.Entry.Value, e.Reason)
}

// Unwrap returns [ErrData].
func (e *EntryError) Unwrap() error { return ErrData }

// checkEntries refuses entries out of range or not finite, and rows or columns without any.
func checkEntries(rows, columns int, entries []Entry) error {
	seen := [2][]bool{make([]bool, rows), make([]bool, columns)}
	for i, e := range entries {
		if e.Row < 0 || int(e.Row) >= rows || e.Column < 0 || int(e.Column) >= columns {
			return &EntryError{i, e, fmt.Sprintf("stands outside the matrix of %d rows, %d columns", rows, columns)}
		}
		if math.IsNaN(e.Value) || math.IsInf(e.Value, 0) {
			return &EntryError{i, e, "is not a finite number"}
		}
		seen[0][e.Row], seen[1][e.Column] = true, true
	}
	for side, there := range seen {
		for i, ok := range there {
			if !ok {
				return &EmptyError{side == 1, i}
			}
		}
	}
	return nil
}

// sparse is a matrix by rows: row i has value[start[i]:start[i+1]] in the columns
// index[start[i]:start[i+1]]. The transpose of a matrix is one too.
type sparse struct {
	start []int
	index []int32
	value []float64
}

// newSparse sorts the chosen entries by row, or transposed by column, in their order, less
// mean.
func newSparse(rows int, entries []Entry, transposed bool, mean float64, chosen func(i int) bool) *sparse {
	place := func(e Entry) (int32, int32) {
		if transposed {
			return e.Column, e.Row
		}
		return e.Row, e.Column
	}
	m := &sparse{start: make([]int, rows+1)}
	for i, e := range entries {
		if chosen(i) {
			r, _ := place(e)
			m.start[r+1]++
		}
	}
	for i := range rows {
		m.start[i+1] += m.start[i]
	}
	m.index, m.value = make([]int32, m.start[rows]), make([]float64, m.start[rows])
	for i, e := range entries {
		if chosen(i) {
			r, c := place(e)
			at := m.start[r]
			m.index[at], m.value[at] = c, e.Value-mean
			m.start[r]++
		}
	}
	copy(m.start[1:], m.start[:rows]) // each start has moved to its row's end
	m.start[0] = 0
	return m
}

func (m *sparse) rows() int { return len(m.start) - 1 }

// row returns the columns and the values of a row.
func (m *sparse) row(i int) ([]int32, []float64) {
	lo, hi := m.start[i], m.start[i+1]
	return m.index[lo:hi], m.value[lo:hi]
}

// mix makes a random number of two, by the finisher of SplitMix64 (Steele, Lea and Flood
// 2014).
func mix(a, b uint64) uint64 {
	x := a*0x9e3779b97f4a7c15 ^ (b+1)*0xd1342543de82ef95
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
