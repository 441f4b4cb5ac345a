package merge

import (
	"math"
	"sync"

	"tare/engine/tensor/kernel"
)

// mark is an entry of a tensor found by its rank: the rank-th by the magnitude of some
// value, from below or from the top, the earlier of equal ones first in either direction.
type mark struct {
	value   scores
	rank    int
	fromTop bool

	magnitude uint32 // of the entry, as magnitude gives it
	index     int    // of the entry in its tensor
}

// scores writes what entries are ranked by, those of a piece from at.
type scores func(dst []float32, in *Input, at int)

// changeOf ranks by what a model has changed.
func changeOf(model int) scores {
	return func(dst []float32, in *Input, at int) {
		n := at + len(dst)
		kernel.Sub(dst, in.Models[model].F32()[at:n], in.Base.F32()[at:n])
	}
}

// magnitude returns |x| as a number of the same order.
func magnitude(x float32) uint32 { return math.Float32bits(x) &^ (1 << 31) }

// Magnitudes are found by their upper bits, then by the lower ones, with a count of
// each value in between.
const (
	upperBits = 16
	lowerBits = 31 - upperBits
)

// find settles the marks in three passes over the tensor: the upper half of each
// mark's magnitude, the lower half, its place among equals. Nothing is sorted and
// memory stays that of the counts.
func find(t *Whole, marks []*mark) error {
	if len(marks) == 0 {
		return nil
	}
	for _, lower := range []bool{false, true} {
		if err := count(t, marks, lower); err != nil {
			return err
		}
	}
	return place(t, marks)
}

// count counts the values of the upper half of all magnitudes, or of the lower half of
// those that have the mark's upper half, and gives each mark the value in which its rank
// falls; the rank becomes that among the entries of the value.
func count(t *Whole, marks []*mark, lower bool) error {
	size := 1 << upperBits
	if lower {
		size = 1 << lowerBits
	}
	counts := make([][]int, len(marks))
	for i := range counts {
		counts[i] = make([]int, size)
	}
	var adding sync.Mutex
	err := t.Each(func(in *Input) error {
		kernel.Parallel(in.Models[0].Len(), 1<<17, func(lo, hi int) {
			own, v := make([]uint32, size), make([]float32, grain)
			for i, m := range marks {
				clear(own)
				for at := lo; at < hi; at += grain {
					v := v[:min(grain, hi-at)]
					m.value(v, in, at)
					m.count(own, v, lower)
				}
				adding.Lock()
				for v, c := range own {
					counts[i][v] += int(c)
				}
				adding.Unlock()
			}
		})
		return nil
	})
	for i, m := range marks {
		if v := uint32(m.descend(counts[i])); lower {
			m.magnitude |= v
		} else {
			m.magnitude = v << lowerBits
		}
	}
	return err
}

func (m *mark) count(counts []uint32, v []float32, lower bool) {
	if !lower {
		for _, x := range v {
			counts[magnitude(x)>>lowerBits]++
		}
		return
	}
	upper := m.magnitude >> lowerBits
	for _, x := range v {
		if b := magnitude(x); b>>lowerBits == upper {
			counts[b&(1<<lowerBits-1)]++
		}
	}
}

// descend returns the value in which the mark's rank falls.
func (m *mark) descend(counts []int) int {
	for i := range counts {
		v := i
		if m.fromTop {
			v = len(counts) - 1 - i
		}
		if m.rank < counts[v] {
			return v
		}
		m.rank -= counts[v]
	}
	return len(counts) - 1
}

// place finds the marks' indices: of the entries of its magnitude, that which comes
// after as many as its rank has become.
func place(t *Whole, marks []*mark) error {
	for _, m := range marks {
		m.index = -1
	}
	return t.Each(func(in *Input) error {
		n := in.Models[0].Len()
		found := make([]int, (n+grain-1)/grain) // equal entries by span
		for _, m := range marks {
			if m.index >= 0 {
				continue
			}
			kernel.Parallel(len(found), 1, func(lo, hi int) {
				v := make([]float32, grain)
				for s := lo; s < hi; s++ {
					v := v[:min(grain, n-s*grain)]
					m.value(v, in, s*grain)
					found[s] = 0
					for _, x := range v {
						if magnitude(x) == m.magnitude {
							found[s]++
						}
					}
				}
			})
			for s, equal := range found {
				if m.rank < equal {
					v := make([]float32, min(grain, n-s*grain))
					m.value(v, in, s*grain)
					m.index = in.Off + s*grain + m.within(v)
					break
				}
				m.rank -= equal
			}
		}
		return nil
	})
}

// within returns the index of the equal entry that comes after as many as the rank says.
func (m *mark) within(v []float32) int {
	left := m.rank
	for i, x := range v {
		if magnitude(x) != m.magnitude {
			continue
		}
		if left == 0 {
			return i
		}
		left--
	}
	return len(v) - 1
}
