package merge

import (
	"math"

	"tare/engine/tensor"
	"tare/engine/tensor/kernel"
)

// axis says which entries of a tensor make a vector.
type axis int

const (
	flat    axis = iota // all
	rows                // those along the last dimension
	columns             // those along the first
)

// gram holds the inner products ⟨v_i, v_j⟩ of the models' vectors, for each group of
// entries that makes a vector. Methods on the sphere and those that compare directions
// need nothing else of the tensors, however large they are.
type gram struct {
	along  axis
	groups int
	length int // entries of a vector
	k      int // models
	sums   []float64
}

// grouped returns an empty gram of k models.
func grouped(shape []int, along axis, k int) *gram {
	n := size(shape)
	g := &gram{along: along, groups: 1, length: n, k: k}
	if len(shape) < 2 || n == 0 {
		g.along = flat
	}
	switch g.along {
	case rows:
		g.length = shape[len(shape)-1]
	case columns:
		g.length = shape[0]
	}
	g.groups = n / max(g.length, 1)
	g.sums = make([]float64, max(g.groups, 1)*g.pairs())
	return g
}

func size(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

func (g *gram) pairs() int { return g.k * (g.k + 1) / 2 }

// group returns the group of the tensor's entry i.
func (g *gram) group(i int) int {
	switch g.along {
	case rows:
		return i / g.length
	case columns:
		return i % g.groups
	}
	return 0
}

// of returns the products of one group.
func (g *gram) of(group int) products {
	return products{g.sums[group*g.pairs():][:g.pairs()]}
}

// products are the inner products of one group's vectors.
type products struct{ p []float64 }

// at returns ⟨v_i, v_j⟩.
func (p products) at(i, j int) float64 {
	if i < j {
		i, j = j, i
	}
	return p.p[i*(i+1)/2+j]
}

// norm returns ‖v_i‖.
func (p products) norm(i int) float64 { return math.Sqrt(p.at(i, i)) }

// measureGram sums the products over the tensor. The vectors are what all returns of a
// piece, less the base where fromBase.
func measureGram(t *Whole, along axis, fromBase bool, all func(in *Input) []*tensor.Tensor) (*gram, error) {
	var g *gram
	err := t.Each(func(in *Input) error {
		vectors := all(in)
		if g == nil {
			g = grouped(in.Shape, along, len(vectors))
		}
		var base []float32
		if fromBase {
			base = in.Base.F32()
		}
		if g.along == columns {
			g.addColumns(in.Off, vectors, base)
		} else {
			g.addRuns(in.Off, vectors, base)
		}
		return nil
	})
	if g == nil { // an empty tensor
		g = grouped([]int{0}, flat, 0)
	}
	return g, err
}

// addRuns adds a piece whose vectors lie in one run.
func (g *gram) addRuns(off int, vectors []*tensor.Tensor, base []float32) {
	row := 0
	if g.along == rows {
		row = g.length
	}
	sums(off, vectors[0].Len(), row, g.pairs(), g.k, func(u unit, sum []float64, work []float32) {
		at := 0
		for i := range vectors {
			v := difference(work[i*blockLen:], vectors[i].F32()[u.lo:u.hi], base, u.lo)
			for j := range i + 1 {
				other := v
				if j < i {
					other = work[j*blockLen:][:len(v)]
				}
				sum[at] = dot(v, other)
				at++
			}
		}
	}, func(at int, sum []float64) {
		total := g.of(g.group(at)).p
		for i, s := range sum {
			total[i] += s
		}
	})
}

// difference writes x − base[at:] to work and returns it; without a base it copies.
func difference(work, x, base []float32, at int) []float32 {
	d := work[:len(x)]
	if base == nil {
		copy(d, x)
	} else {
		kernel.Sub(d, x, base[at:][:len(x)])
	}
	return d
}

// addColumns adds a piece whose vectors run across its rows. Threads take columns, so
// that each column's sums are formed in the order of rows.
func (g *gram) addColumns(off int, vectors []*tensor.Tensor, base []float32) {
	const least = 32 // columns of a thread
	n := vectors[0].Len()
	kernel.Parallel(g.groups, least, func(lo, hi int) {
		v := make([]float64, g.k)
		for start := off / g.groups * g.groups; start < off+n; start += g.groups {
			for c := max(lo, off-start); c < min(hi, off+n-start); c++ {
				at := start + c - off
				for i := range vectors {
					x := vectors[i].F32()[at]
					if base != nil {
						x -= base[at]
					}
					v[i] = float64(x)
				}
				total := g.of(c).p
				pair := 0
				for i := range v {
					for j := range i + 1 {
						total[pair] += v[i] * v[j]
						pair++
					}
				}
			}
		}
	})
}
