package merge

import (
	"math"
	"math/bits"
	"slices"
)

// Sparsify says which entries of a task vector are kept.
type Sparsify int

const (
	KeepAll         Sparsify = iota
	ByMagnitude              // the ⌊density·n⌋ largest, one at least (TIES)
	AtRandom                 // each with the probability density (DARE)
	ByRank                   // each with density ± ε, the more likely the larger in its row (DELLA)
	WithoutOutliers          // ⌊density·n⌋ below the ⌊γ·n⌋ largest (Breadcrumbs)
)

// mask drops entries of a task vector: it sets those of a run that begins at off to
// zero. Runs of a ranked mask are whole rows.
type mask interface{ apply(v []float32, off int) }

// masks settles each model's mask.
func (s Sparsify) masks(t *Whole) ([]mask, error) {
	n := size(t.Shape)
	masks := make([]mask, len(t.Params))
	selected := make([][]*mark, len(masks))
	var wanted []*mark
	for k, p := range t.Params {
		density := p["density"]
		target := int(density * float64(n))
		switch {
		case density >= 1:
			masks[k] = keepAll{}
		case s == ByMagnitude && density > 0 && n > 0:
			least := &mark{value: changeOf(k), rank: max(1, target) - 1, fromTop: true}
			masks[k] = largest{least}
			selected[k] = []*mark{least}
		case s == WithoutOutliers && target > 0:
			// What is dropped of the largest gives way where the target needs it.
			bottom := max(0, n-target-int(p["gamma"]*float64(n)))
			w := window{from: &mark{value: changeOf(k), rank: bottom}}
			selected[k] = []*mark{w.from}
			if bottom+target < n {
				w.to = &mark{value: changeOf(k), rank: bottom + target}
				selected[k] = append(selected[k], w.to)
			}
			masks[k] = w
		case density <= 0 || target == 0 && s == WithoutOutliers:
			masks[k] = keepNone{}
		case s == AtRandom:
			masks[k] = coins{chance(density), stream(t.Seed, t.Name, k)}
		case s == ByRank:
			masks[k] = &ranked{t.Shape, density, p["epsilon"], stream(t.Seed, t.Name, k)}
		}
		wanted = append(wanted, selected[k]...)
	}
	return masks, find(t, wanted)
}

type keepAll struct{}

func (keepAll) apply([]float32, int) {}

type keepNone struct{}

func (keepNone) apply(v []float32, _ int) { clear(v) }

// keepBetween sets entries to zero whose magnitude is not in [lo, hi). It has no
// branches, as what is kept follows no pattern that a processor could guess.
func keepBetween(v []float32, lo, hi uint32) {
	for i, x := range v {
		_, below := bits.Sub32(magnitude(x)-lo, hi-lo, 0)
		v[i] = math.Float32frombits(math.Float32bits(x) & -below)
	}
}

const noEnd = 1 << 31 // above every magnitude

// largest keeps what is not below the mark; of its equals those up to it.
type largest struct{ least *mark }

func (m largest) apply(v []float32, off int) {
	upTo := max(0, min(len(v), m.least.index+1-off))
	keepBetween(v[:upTo], m.least.magnitude, noEnd)
	keepBetween(v[upTo:], m.least.magnitude+1, noEnd)
}

// window keeps what ranks from one mark up to, and without, another; nil for no end.
type window struct{ from, to *mark }

func (m window) apply(v []float32, off int) {
	to := mark{magnitude: noEnd}
	if m.to != nil {
		to = *m.to
	}
	// Of the first mark's equals those from it on are kept, of the other's those before it.
	for at := 0; at < len(v); {
		lo, hi, end := m.from.magnitude, to.magnitude, len(v)
		if off+at < m.from.index {
			lo++
			end = min(end, m.from.index-off)
		}
		if off+at < to.index {
			hi++
			end = min(end, to.index-off)
		}
		keepBetween(v[at:end], lo, max(lo, hi))
		at = end
	}
}

// coins keeps each entry with one probability.
type coins struct{ chance, stream uint64 }

func (m coins) apply(v []float32, off int) {
	for i, x := range v {
		_, below := bits.Sub64(draw(m.stream, off+i), m.chance, 0)
		v[i] = math.Float32frombits(math.Float32bits(x) & -uint32(below))
	}
}

// ranked keeps an entry of rank r among the n of its row, r = 0 the smallest magnitude,
// with the probability density − ε + 2ε r/(n−1). Rows run along the second dimension,
// as in mergekit; a row of one entry is kept with the density itself.
type ranked struct {
	shape            []int
	density, epsilon float64
	stream           uint64
}

func (m *ranked) apply(v []float32, off int) {
	n, step := size(m.shape), 1 // entries of a row and the distance between them
	if len(m.shape) >= 2 {
		n, step = m.shape[1], size(m.shape[2:])
	}
	keys, order := make([]uint64, n), make([]int, n)
	for start := 0; start < len(v); start += n * step {
		for s := range step {
			row := v[start+s:]
			for i := range n { // the index below the magnitude keeps equal ones in order
				keys[i] = uint64(magnitude(row[i*step]))<<32 | uint64(i)
			}
			slices.Sort(keys)
			for r, key := range keys {
				order[r] = int(uint32(key))
			}
			for r, i := range order {
				p := m.density
				if n > 1 {
					p += m.epsilon * (2*float64(r)/float64(n-1) - 1)
				}
				if draw(m.stream, off+start+s+i*step) >= chance(p) {
					row[i*step] = 0
				}
			}
		}
	}
}

// chance returns the bound below which a draw falls with probability p.
func chance(p float64) uint64 { return uint64(p * (1 << 53)) }

// stream begins a sequence of draws for a model's version of a tensor.
func stream(seed uint64, name string, model int) uint64 {
	const prime, offset = 1099511628211, 14695981039346656037 // FNV-1a
	h := uint64(offset)
	for _, c := range []byte(name) {
		h = (h ^ uint64(c)) * prime
	}
	return mix(mix(seed) ^ h + uint64(model)*0x9e3779b97f4a7c15)
}

// draw returns the i-th of a stream's 53 random bits. It depends on nothing but the
// index, so that a tensor can be cut and its parts taken in any order.
func draw(stream uint64, i int) uint64 { return mix(stream+uint64(i)*0x9e3779b97f4a7c15) >> 11 }

// mix is the finaliser of SplitMix64 (Steele, Lea and Flood 2014).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
