package merge

import (
	"math"
	"sync"

	"tare/engine/tensor/kernel"
)

// mark is an entry of a task vector found by its rank: the rank-th by magnitude, from
// below or from the top, the earlier of equal ones first in either direction.
type mark struct {
	model   int
	rank    int
	fromTop bool

	magnitude uint32 // of the entry, as magnitude gives it
	index     int    // of the entry in its tensor
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
	values := 1 << upperBits
	if lower {
		values = 1 << lowerBits
	}
	counts := make([][]int, len(marks))
	for i := range counts {
		counts[i] = make([]int, values)
	}
	var adding sync.Mutex
	err := t.Each(func(in *Input) error {
		base := in.Base.F32()
		kernel.Parallel(len(base), 1<<17, func(lo, hi int) {
			own := make([]uint32, values)
			for i, m := range marks {
				clear(own)
				m.count(own, in.Models[m.model].F32()[lo:hi], base[lo:hi], lower)
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

func (m *mark) count(counts []uint32, x, base []float32, lower bool) {
	x = x[:len(base)]
	if !lower {
		for i, b := range base {
			counts[magnitude(x[i]-b)>>lowerBits]++
		}
		return
	}
	upper := m.magnitude >> lowerBits
	for i, b := range base {
		if v := magnitude(x[i] - b); v>>lowerBits == upper {
			counts[v&(1<<lowerBits-1)]++
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
		base := in.Base.F32()
		found := make([]int, (len(base)+grain-1)/grain) // equal entries by span
		for _, m := range marks {
			if m.index >= 0 {
				continue
			}
			x := in.Models[m.model].F32()
			kernel.Parallel(len(found), 1, func(lo, hi int) {
				for s := lo; s < hi; s++ {
					found[s] = 0
					for i := s * grain; i < min(len(base), (s+1)*grain); i++ {
						if magnitude(x[i]-base[i]) == m.magnitude {
							found[s]++
						}
					}
				}
			})
			for s, n := range found {
				if m.rank < n {
					m.index = in.Off + m.within(x, base, s*grain)
					break
				}
				m.rank -= n
			}
		}
		return nil
	})
}

// within returns the index, from start, of the equal entry that comes after as many as
// the rank says.
func (m *mark) within(x, base []float32, start int) int {
	left := m.rank
	for i := start; ; i++ {
		if magnitude(x[i]-base[i]) != m.magnitude {
			continue
		}
		if left == 0 {
			return i
		}
		left--
	}
}
